//! Pattern: the source of a rule, with at most one `*` and any number of `:name`.
//!
//! `:name` matches one or more characters of one segment, `*` any characters, also `/`. Both take
//! as much as they can. The matcher goes back over choices, but tries each pair of token and
//! position once, so its time is bounded by the product of their numbers.

use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::compared_path::{ComparedPath, ENCODED_SLASH, decoded, is_plain, without_slash};
use super::diagnostic::{RuleCode, TokenFault};

/// Characters of a path that need no encoding in an example.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The value of the `*`.
pub(super) const SPLAT: &str = "splat";

/// Wildcards of one source: more than the named parts of any real path.
const WILDCARDS_MAX: usize = 16;

/// A parsed source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourcePattern {
    host: Option<Vec<Token>>,
    path: Vec<Token>,
    names: Vec<Box<str>>,
    slash: Slash,
}

/// Whether the slash at the end of a path counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slash {
    /// `/x` and `/x/` are the same.
    Ignored,
    /// They differ.
    Counts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(Box<[u8]>),
    Name,
    Splat,
}

/// The values of a pattern's names in one request, in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Values<'a>(Vec<&'a str>);

impl<'a> Values<'a> {
    pub(super) fn get(&self, index: usize) -> &'a str {
        self.0.get(index).copied().unwrap_or_default()
    }

    pub(super) fn push(&mut self, value: &'a str) {
        self.0.push(value);
    }
}

impl SourcePattern {
    /// Parses a path, or `http(s)://host/path`.
    pub(super) fn parse(source: &str) -> Result<Self, TokenFault> {
        let (host, path) = split_host(source)?;
        if !path.starts_with('/') {
            let message = format!("{source:?} is no source: it starts with / or http(s)://host/");
            return Err(TokenFault::new(RuleCode::Source, message));
        }
        let mut reader = TokenReader::default();
        let host = host.map(|host| reader.host(host)).transpose()?;
        let path = reader.path(path)?;
        Ok(Self {
            host,
            path,
            names: reader.names,
            slash: Slash::Ignored,
        })
    }

    pub(super) fn with_slash(self, slash: Slash) -> Self {
        Self { slash, ..self }
    }

    /// The names that a target may use.
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Adds a name that another part of the rule defines.
    pub(super) fn add_name(&mut self, name: &str) -> Result<(), TokenFault> {
        add_name(&mut self.names, name)
    }

    /// The path as a URL, if it has no wildcard.
    pub(super) fn literal_url(&self) -> Option<String> {
        matches!(&self.path[..], [Token::Text(_)]).then(|| self.sample_path())
    }

    /// A path that the pattern matches, percent-encoded.
    pub(super) fn sample_path(&self) -> String {
        let mut path = String::new();
        for token in &self.path {
            match token {
                Token::Text(text) => {
                    let parts = text.split(|&byte| byte == ENCODED_SLASH);
                    let parts = parts.map(|part| percent_encode(part, PATH).to_string());
                    path.push_str(&parts.collect::<Vec<_>>().join("%2F"));
                }
                Token::Name | Token::Splat => path.push('x'),
            }
        }
        path
    }

    /// A host that the pattern matches; empty for any.
    pub(super) fn sample_host(&self) -> String {
        let tokens = self.host.iter().flatten();
        let parts = tokens.map(|token| match token {
            Token::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Token::Name | Token::Splat => "x".to_owned(),
        });
        parts.collect()
    }

    /// The decoded path, if the path has no wildcard.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        match &self.path[..] {
            [Token::Text(text)] => Some(match self.slash {
                Slash::Ignored => without_slash(text),
                Slash::Counts => text,
            }),
            _ => None,
        }
    }

    /// The decoded segments before the first wildcard; the last of them is whole.
    pub(super) fn prefix(&self) -> &[u8] {
        let Some(Token::Text(text)) = self.path.first() else {
            return &[];
        };
        let end = text.iter().rposition(|&byte| byte == b'/');
        &text[..end.unwrap_or(0)]
    }

    /// The decoded last segment without the slash at the end, if it has no wildcard.
    pub(super) fn last_segment(&self) -> Option<&[u8]> {
        let Some(Token::Text(text)) = self.path.last() else {
            return None;
        };
        let text = text.strip_suffix(b"/").unwrap_or(text);
        let slash = text.iter().rposition(|&byte| byte == b'/')?;
        Some(&text[slash + 1..])
    }

    /// Whether the source has a `*`.
    pub(super) fn has_splat(&self) -> bool {
        self.path.contains(&Token::Splat)
    }

    /// Whether the path ends with the `*`.
    fn ends_with_splat(&self) -> bool {
        self.path.last() == Some(&Token::Splat)
    }

    fn ends_with_slash(&self) -> bool {
        matches!(self.path.last(), Some(Token::Text(text)) if text.ends_with(b"/"))
    }

    /// Whether the path ends with a name.
    pub(super) fn ends_with_name(&self) -> bool {
        self.path.last() == Some(&Token::Name)
    }

    /// Whether the source has more than one `*`, which no request matches.
    pub(super) fn is_doubly_wild(source: &str) -> bool {
        let splats = parts(source).into_iter();
        splats.filter(|part| *part == PatternPart::Splat).count() > 1
    }

    /// Whether every path that matches `other` matches this pattern too. It may say no wrongly.
    pub(super) fn covers(&self, other: &Self) -> bool {
        if self.host.is_some() && self.host != other.host {
            return false;
        }
        if self.path == other.path {
            return self.slash == other.slash || self.slash == Slash::Ignored;
        }
        let [Token::Text(prefix), Token::Splat] = &self.path[..] else {
            return false;
        };
        match other.path.first() {
            Some(Token::Text(text)) => text.starts_with(prefix),
            Some(Token::Name | Token::Splat) | None => false,
        }
    }

    /// The values of the names, if the pattern matches a request.
    pub(super) fn values<'a>(&self, host: &'a str, path: &ComparedPath<'a>) -> Option<Values<'a>> {
        if !self.may_match(path) {
            return None;
        }
        let mut values = Vec::with_capacity(self.names.len());
        if let Some(tokens) = &self.host {
            let found = matched(tokens, host.as_bytes(), b'.')?;
            values.extend(found.into_iter().filter_map(|range| host.get(range)));
        }
        let found = self.ranges(path)?;
        values.extend(found.iter().map(|range| path.raw(range)));
        Some(Values(values))
    }

    /// Whether a path begins like the pattern, found without memory: most candidates do not.
    fn may_match(&self, path: &ComparedPath<'_>) -> bool {
        match self.path.first() {
            Some(Token::Text(text)) => path.bytes().starts_with(without_slash(text)),
            Some(Token::Name | Token::Splat) | None => true,
        }
    }

    fn ranges(&self, path: &ComparedPath<'_>) -> Option<Vec<Range<usize>>> {
        if self.slash == Slash::Counts {
            return matched(&self.path, path.bytes(), b'/');
        }
        if !self.ends_with_splat() {
            let mut bytes = path.without_slash().to_vec();
            if self.ends_with_slash() && bytes != b"/" {
                bytes.push(b'/');
            }
            return matched(&self.path, &bytes, b'/');
        }
        let bytes = path.bytes();
        matched(&self.path, bytes, b'/').or_else(|| {
            // `/x/*` includes `/x`.
            let mut longer = bytes.to_vec();
            longer.push(b'/');
            matched(&self.path, &longer, b'/')
        })
    }
}

fn add_name(names: &mut Vec<Box<str>>, name: &str) -> Result<(), TokenFault> {
    if names.iter().any(|known| **known == *name) {
        let message = format!(":{name} stands twice in the source; give each its own name");
        return Err(TokenFault::new(RuleCode::Name, message));
    }
    if names.len() >= WILDCARDS_MAX {
        let message = format!("the source has more than {WILDCARDS_MAX} names");
        return Err(TokenFault::new(RuleCode::Limit, message));
    }
    names.push(name.into());
    Ok(())
}

/// Splits a source into host and path.
fn split_host(source: &str) -> Result<(Option<&str>, &str), TokenFault> {
    let after_scheme = ["https://", "http://"].iter().find_map(|scheme| {
        let (head, rest) = source.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(rest) = after_scheme else {
        return Ok((None, source));
    };
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    if has_port || host.is_empty() {
        let message = format!("{source:?} is no source: it needs a host, and takes no port");
        return Err(TokenFault::new(RuleCode::Source, message));
    }
    Ok((Some(host), if path.is_empty() { "/" } else { path }))
}

/// Reads tokens, and the names of all parts of a source.
#[derive(Default)]
struct TokenReader {
    names: Vec<Box<str>>,
}

impl TokenReader {
    fn host(&mut self, host: &str) -> Result<Vec<Token>, TokenFault> {
        let host = lower_text(host);
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:*".contains(c);
        if !host.chars().all(is_host) {
            let message = format!("{host:?} is no host name");
            return Err(TokenFault::new(RuleCode::Source, message));
        }
        self.tokens(&host, |text| Some(text.as_bytes().into()))
    }

    fn path(&mut self, path: &str) -> Result<Vec<Token>, TokenFault> {
        let tokens = self.tokens(path, decoded_text)?;
        let fits = tokens.iter().fold(Vec::new(), |mut whole, token| {
            match token {
                Token::Text(text) => whole.extend_from_slice(text),
                // Any character: only the segments around a wildcard count.
                Token::Name | Token::Splat => whole.push(b'x'),
            }
            whole
        });
        if !is_plain(&fits) {
            let message = format!(
                "no request has the path {path:?}: it has an empty or a dot segment, or a backslash"
            );
            return Err(TokenFault::new(RuleCode::Source, message));
        }
        Ok(tokens)
    }

    fn name(&mut self, name: &str) -> Result<(), TokenFault> {
        if name == SPLAT && self.names.iter().any(|known| **known == *SPLAT) {
            let message = "a source has at most one *, and no :splat beside it";
            return Err(TokenFault::new(RuleCode::Source, message));
        }
        add_name(&mut self.names, name)
    }

    fn tokens(
        &mut self,
        source: &str,
        literal: impl Fn(&str) -> Option<Box<[u8]>>,
    ) -> Result<Vec<Token>, TokenFault> {
        let mut tokens: Vec<Token> = Vec::new();
        for part in parts(source) {
            tokens.push(match part {
                PatternPart::Text(text) => Token::Text(literal(text).ok_or_else(|| {
                    let message = format!("{text:?} is no part of a path");
                    TokenFault::new(RuleCode::Source, message)
                })?),
                PatternPart::Name(name) => {
                    self.name(name)?;
                    Token::Name
                }
                PatternPart::Splat => {
                    self.name(SPLAT)?;
                    Token::Splat
                }
            });
        }
        Ok(tokens)
    }
}

/// A part of a source or a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatternPart<'a> {
    Text(&'a str),
    Name(&'a str),
    Splat,
}

/// Splits a text at `*` and at `:name`. A name starts with a letter, and stands behind a character
/// that is no letter or digit, or behind another name.
pub(super) fn parts(text: &str) -> Vec<PatternPart<'_>> {
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    let mut follows_word = false;
    while let Some(next) = text[at..].chars().next() {
        let name = if next == ':' && !follows_word {
            name_of(&text[at + 1..])
        } else {
            None
        };
        let (part, length) = match (next, name) {
            (_, Some(name)) => (Some(PatternPart::Name(name)), 1 + name.len()),
            ('*', None) => (Some(PatternPart::Splat), 1),
            _ => (None, next.len_utf8()),
        };
        follows_word = part.is_none() && next.is_alphanumeric();
        if let Some(part) = part {
            if begin < at {
                parts.push(PatternPart::Text(&text[begin..at]));
            }
            parts.push(part);
            begin = at + length;
        }
        at += length;
    }
    if begin < text.len() {
        parts.push(PatternPart::Text(&text[begin..]));
    }
    parts
}

/// Lower case for the text of a host, and not for the names in it.
pub(super) fn lower_text(host: &str) -> String {
    let texts = parts(host).into_iter().map(|part| match part {
        PatternPart::Text(text) => text.to_ascii_lowercase(),
        PatternPart::Name(name) => format!(":{name}"),
        PatternPart::Splat => "*".into(),
    });
    texts.collect()
}

fn name_of(text: &str) -> Option<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let name = &text[..end];
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        .then_some(name)
}

fn decoded_text(text: &str) -> Option<Box<[u8]>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while !rest.is_empty() {
        let (byte, length) = decoded(rest)?;
        bytes.push(byte);
        rest = &rest[length..];
    }
    Some(bytes.into())
}

/// The ranges of the wildcards, if the tokens match the whole text.
fn matched(tokens: &[Token], text: &[u8], separator: u8) -> Option<Vec<Range<usize>>> {
    let mut matcher = Matcher {
        text,
        separator,
        failed: vec![false; tokens.len() * (text.len() + 1)],
        ranges: Vec::new(),
    };
    matcher.run(tokens, 0).then(|| {
        matcher.ranges.reverse();
        matcher.ranges
    })
}

struct Matcher<'a> {
    text: &'a [u8],
    separator: u8,
    /// Pairs of tokens left and position that lead to no match.
    failed: Vec<bool>,
    /// Ranges of the wildcards, the last one first.
    ranges: Vec<Range<usize>>,
}

impl Matcher<'_> {
    fn run(&mut self, tokens: &[Token], at: usize) -> bool {
        let Some((token, rest)) = tokens.split_first() else {
            return at == self.text.len();
        };
        let fewest = match token {
            Token::Text(text) => {
                return self.text[at..].starts_with(text) && self.run(rest, at + text.len());
            }
            Token::Name => 1,
            Token::Splat => 0,
        };
        let pair = rest.len() * (self.text.len() + 1) + at;
        if self.failed[pair] {
            return false;
        }
        let most = match token {
            Token::Name => self.segment_end(at),
            Token::Text(_) | Token::Splat => self.text.len(),
        };
        for end in (at + fewest..=most).rev() {
            if self.run(rest, end) {
                self.ranges.push(at..end);
                return true;
            }
        }
        self.failed[pair] = true;
        false
    }

    fn segment_end(&self, at: usize) -> usize {
        let rest = self.text[at..].iter();
        let length = rest.take_while(|&&byte| byte != self.separator).count();
        at + length
    }
}

#[cfg(test)]
mod tests;
