//! Header rules: the blocks of `_headers`.
//!
//! ```text
//! PATH [# comment]
//!   NAME: VALUE
//!   ! NAME
//! ```

use http::header::{CONTENT_TYPE, HeaderName};

use super::diagnostic::{Diagnostics, RuleCode, RuleFile, RuleLine, TokenFault};
use super::line::{Line, lines};
use super::pattern::{PatternPart, Slash, SourcePattern, Values, parts};
use super::redirects::SCHEME;
use crate::limits::{HEADER_BLOCKS_MAX, HEADER_RULE_BYTES_MAX, RULE_LINE_BYTES_MAX};
use crate::media::Media;

/// A path and its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderBlock {
    pub(super) at: RuleLine,
    pub(super) pattern: SourcePattern,
    /// Headers that earlier blocks or the server set, and that go.
    pub(super) removed: Vec<HeaderName>,
    pub(super) set: Vec<(HeaderName, ValueTemplate)>,
    bytes: usize,
}

/// A header value with the values of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueTemplate(Vec<HeaderPart>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum HeaderPart {
    Text(Box<str>),
    Value(usize),
}

impl ValueTemplate {
    /// Parses a value. A name that the path lacks is text.
    fn parse(text: &str, pattern: &SourcePattern) -> Self {
        let index = |name: &str| pattern.names().iter().position(|known| **known == *name);
        let pieces = parts(text).into_iter().map(|part| match part {
            PatternPart::Text(text) => HeaderPart::Text(text.into()),
            PatternPart::Splat => HeaderPart::Text("*".into()),
            PatternPart::Name(name) => match index(name) {
                Some(index) => HeaderPart::Value(index),
                None => HeaderPart::Text(format!(":{name}").into()),
            },
        });
        Self(pieces.collect())
    }

    pub(super) fn filled(&self, values: &Values<'_>) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            HeaderPart::Text(text) => text,
            HeaderPart::Value(index) => values.get(*index),
        });
        pieces.collect()
    }
}

/// Parses `_headers`; leaves out lines with errors.
pub(super) fn parse(text: &str, diagnostics: &mut Diagnostics) -> Vec<HeaderBlock> {
    let mut reader = BlockReader {
        diagnostics,
        done: Vec::new(),
        open: Open::Nothing,
    };
    for line in lines(text) {
        if reader.done.len() >= HEADER_BLOCKS_MAX {
            let message = format!("the file has more than {HEADER_BLOCKS_MAX} paths");
            reader.diagnostics.error(line.at, RuleCode::Limit, message);
            return reader.done;
        }
        reader.line(line);
    }
    reader.close(None);
    reader.done
}

struct BlockReader<'a> {
    diagnostics: &'a mut Diagnostics,
    done: Vec<HeaderBlock>,
    open: Open,
}

/// The block that the next header belongs to.
enum Open {
    /// No path came yet.
    Nothing,
    /// A block whose path has an error, which its headers do not repeat.
    Invalid,
    /// A block, and the line of its path.
    Block(HeaderBlock),
}

impl BlockReader<'_> {
    fn line(&mut self, line: Line<'_>) {
        if line.text.len() > RULE_LINE_BYTES_MAX {
            let message = format!("the line has more than {RULE_LINE_BYTES_MAX} bytes");
            self.diagnostics.error(line.at, RuleCode::Limit, message);
        } else if is_path(line.text) {
            self.close(Some(line));
            self.begin(line);
        } else if let Err(fault) = self.header(line) {
            self.diagnostics.fault(line.at, fault);
        }
    }

    fn begin(&mut self, line: Line<'_>) {
        let path = line.without_comment();
        let pattern = if path.contains(['?', '#']) {
            let message = format!("{path:?} is no path: it has a query or a fragment");
            Err(TokenFault::new(RuleCode::Source, message))
        } else {
            SourcePattern::parse(path)
        };
        self.open = match pattern {
            Ok(pattern) => Open::Block(HeaderBlock {
                at: RuleLine {
                    file: RuleFile::Headers,
                    line: line.at.line,
                },
                // `/:page` is for pages, and not for the folder `/page/`.
                pattern: if pattern.ends_with_name() {
                    pattern.with_slash(Slash::Counts)
                } else {
                    pattern
                },
                removed: Vec::new(),
                set: Vec::new(),
                bytes: 0,
            }),
            Err(fault) => {
                self.diagnostics.fault(line.at, fault);
                Open::Invalid
            }
        };
        let is_http = line.text.get(..7);
        if is_http.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")) {
            self.diagnostics.warn(line.at, RuleCode::Scheme, SCHEME);
        }
    }

    /// Ends the open block, before the path of the next one.
    fn close(&mut self, next: Option<Line<'_>>) {
        let Open::Block(block) = std::mem::replace(&mut self.open, Open::Nothing) else {
            return;
        };
        if block.set.is_empty() && block.removed.is_empty() {
            let before = next.map(|next| format!(" before {}:{}", RuleFile::Headers, next.at.line));
            let message = format!("the path has no header{}", before.unwrap_or_default());
            let at = super::diagnostic::Position {
                line: block.at.line,
                column: 1,
            };
            self.diagnostics.warn(at, RuleCode::Syntax, message);
            return;
        }
        self.done.push(block);
    }

    fn header(&mut self, line: Line<'_>) -> Result<(), TokenFault> {
        let header = Header::parse(line.text)?;
        let block = match &mut self.open {
            Open::Block(block) => block,
            Open::Invalid => return Ok(()),
            Open::Nothing => {
                let message = "a header belongs below a line with its path, which starts with /";
                return Err(TokenFault::new(RuleCode::Syntax, message));
            }
        };
        match header {
            Header::Remove(name) => block.removed.push(name),
            Header::Set(name, value) => {
                block.bytes += name.as_str().len() + value.len() + 4;
                if block.bytes > HEADER_RULE_BYTES_MAX {
                    let message = format!("the path has over {HEADER_RULE_BYTES_MAX} header bytes");
                    return Err(TokenFault::new(RuleCode::Limit, message));
                }
                let value = ValueTemplate::parse(value, &block.pattern);
                block.set.push((name, value));
            }
        }
        Ok(())
    }
}

pub(super) fn is_path(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        let head = text.get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    };
    text.starts_with('/') || is_scheme("https://") || is_scheme("http://")
}

/// A line of a block.
enum Header<'a> {
    Set(HeaderName, &'a str),
    Remove(HeaderName),
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Result<Self, TokenFault> {
        if let Some(name) = text.strip_prefix('!') {
            return Ok(Self::Remove(header_name(name.trim())?));
        }
        let Some((name, value)) = text.split_once(':') else {
            let message = format!("{text:?} is no header; write NAME: VALUE, or a path with a /");
            return Err(TokenFault::new(RuleCode::Syntax, message));
        };
        let name = header_name(name.trim())?;
        let value = value.trim();
        let is_legal = value
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\t');
        if name == CONTENT_TYPE && !has_names(value) && Media::parse(value).is_err() {
            let message = format!("{value:?} is no media type; write TYPE/SUBTYPE");
            return Err(TokenFault::new(RuleCode::Header, message));
        }
        if value.is_empty() || !is_legal {
            let message = format!("{name} needs a value of visible ASCII characters and spaces");
            return Err(TokenFault::new(RuleCode::Header, message));
        }
        Ok(Self::Set(name, value))
    }
}

fn header_name(text: &str) -> Result<HeaderName, TokenFault> {
    if text.eq_ignore_ascii_case("basic-auth") {
        let message = "a password in a published file protects nothing; use `pmx access`";
        return Err(TokenFault::new(RuleCode::Access, message));
    }
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        let message = format!("{text:?} is no name of a header");
        return Err(TokenFault::new(RuleCode::Header, message));
    };
    if OWNED.contains(&name.as_str()) || name.as_str().starts_with("x-pmx-") {
        let message = format!("the server sets {text} itself");
        return Err(TokenFault::new(RuleCode::Header, message));
    }
    Ok(name)
}

/// Whether parts of a value come from the path.
fn has_names(value: &str) -> bool {
    let mut parts = parts(value).into_iter();
    parts.any(|part| matches!(part, PatternPart::Name(_)))
}

/// Headers of the server, of its framing and of the connection (RFC 9110, section 7.6.1).
const OWNED: &[&str] = &[
    "accept-ranges",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "etag",
    "keep-alive",
    "location",
    "proxy-connection",
    "server-timing",
    "stream-next-offset",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "use-as-dictionary",
];

#[cfg(test)]
mod tests {
    use super::*;

    impl ValueTemplate {
        /// The text of the value.
        pub(in super::super) fn written(&self, names: &[Box<str>]) -> String {
            let pieces = self.0.iter().map(|piece| match piece {
                HeaderPart::Text(text) => text.to_string(),
                HeaderPart::Value(index) => format!(":{}", names[*index]),
            });
            pieces.collect()
        }
    }

    fn codes(text: &str) -> Vec<(u32, RuleCode)> {
        let mut diagnostics = Diagnostics::of(RuleFile::Headers);
        parse(text, &mut diagnostics);
        let all = diagnostics.into_all().into_iter();
        all.map(|found| (found.at.line, found.code)).collect()
    }

    #[test]
    fn parse_reads_blocks() {
        let text =
            "/about # a comment\n\tX-A: 1 # no comment\n # X-B: 2\n! X-C\n\n/sp ace\n !X-D\n";
        let mut diagnostics = Diagnostics::of(RuleFile::Headers);
        let blocks = parse(text, &mut diagnostics);
        assert_eq!(diagnostics.into_all(), []);
        let shown: Vec<_> = blocks
            .iter()
            .map(|block| (block.at.line, block.set.len(), block.removed.len()))
            .collect();
        assert_eq!(shown, [(1, 1, 1), (6, 0, 1)]);
    }

    #[test]
    fn parse_refuses_each_bad_line() {
        for (text, expected) in [
            ("X-A: 1", vec![(1, RuleCode::Syntax)]),
            (
                "about\n  X-A: 1",
                vec![(1, RuleCode::Syntax), (2, RuleCode::Syntax)],
            ),
            ("/a\n  no colon\n X-A: 1", vec![(2, RuleCode::Syntax)]),
            ("/a\n  X-A:\n X-A: 1", vec![(2, RuleCode::Header)]),
            ("/a\n  : x\n X-A: 1", vec![(2, RuleCode::Header)]),
            ("/a\n  X A: x\n X-A: 1", vec![(2, RuleCode::Header)]),
            ("/a\n  X(A): x\n X-A: 1", vec![(2, RuleCode::Header)]),
            ("/a\n  X-A: \u{fc}\n X-A: 1", vec![(2, RuleCode::Header)]),
            ("/a\n  ! X-A: 1\n X-A: 1", vec![(2, RuleCode::Header)]),
            ("/a\n  ETag: 1\n X-A: 1", vec![(2, RuleCode::Header)]),
            ("/a\n  ! etag\n X-A: 1", vec![(2, RuleCode::Header)]),
            ("/a\n  Date: now\n X-A: 1", vec![(2, RuleCode::Header)]),
            (
                "/a\n  Stream-Next-Offset: 1\n X-A: 1",
                vec![(2, RuleCode::Header)],
            ),
            (
                "/a\n  Content-Type: foo\n X-A: 1",
                vec![(2, RuleCode::Header)],
            ),
            ("/:a/b\n  Content-Type: text/:a\n X-A: 1", vec![]),
            ("/a\n  X-Pmx-Rule: 1\n X-A: 1", vec![(2, RuleCode::Header)]),
            (
                "/a\n  Basic-Auth: a:b\n X-A: 1",
                vec![(2, RuleCode::Access)],
            ),
            ("/a?x\n  X-A: 1", vec![(1, RuleCode::Source)]),
            ("/a#x\n  X-A: 1", vec![(1, RuleCode::Source)]),
            ("//a\n  X-A: 1", vec![(1, RuleCode::Source)]),
            ("/a/*/b/*\n  X-A: 1", vec![(1, RuleCode::Source)]),
            ("/a\n/b\n X-A: 1", vec![(1, RuleCode::Syntax)]),
            (
                "https://a.example:8/b\n X-A: 1",
                vec![(1, RuleCode::Source)],
            ),
            ("http://a.example/b\n X-A: 1", vec![(1, RuleCode::Scheme)]),
        ] {
            assert_eq!(codes(text), expected, "{text}");
        }
    }

    #[test]
    fn parse_bounds_blocks_and_bytes() {
        let many = "/a\n X-A: 1\n".repeat(HEADER_BLOCKS_MAX + 1);
        let limit = 2 * HEADER_BLOCKS_MAX as u32 + 2;
        assert_eq!(codes(&many), [(limit, RuleCode::Limit)]);
        let long = format!("X-A: {}\n", "v".repeat(RULE_LINE_BYTES_MAX - 10));
        let large = format!(
            "/a\n{}",
            long.repeat(HEADER_RULE_BYTES_MAX / long.len() + 1)
        );
        assert_eq!(codes(&large).len(), 1);
    }
}
