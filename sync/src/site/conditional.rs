//! Conditional requests: entity tags and the headers that compare them (RFC 9110, section 13).
//!
//! The tag of a blob is its id. The uncompressed bytes have the strong tag `"<id>"`. Their zstd
//! coding is another representation of the same content, and has the weak tag `W/"<id>"` (section
//! 8.8.1). So either validates the other wherever weak comparison is allowed.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pmx_core::coding::Coding;
use pmx_core::id::BlobId;
use pmx_core::limits::ETAGS_MAX;

/// The `ETag` of a blob in a coding.
pub(super) fn etag(blob: &BlobId, coding: Coding) -> HeaderValue {
    let text = match coding {
        Coding::Identity => format!("\"{blob}\""),
        Coding::Zstd => format!("W/\"{blob}\""),
    };
    HeaderValue::from_str(&text).expect("hexadecimal digits and quotes are legal in a header")
}

/// The conditions of a request that depend on the entity tag. Files have no modification dates, so
/// the server ignores headers that compare dates, and a date in `If-Range` never matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conditions {
    /// `If-Match`
    wanted: Option<Tags>,
    /// `If-None-Match`
    at_hand: Option<Tags>,
    /// `If-Range`
    begun: Option<Tags>,
}

/// Result of the preconditions of a request that would otherwise get a 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreconditionResult {
    /// Send the response.
    Proceed,
    /// 304: the client already has the blob.
    NotModified,
    /// 412: the client asked for another blob.
    Failed,
}

impl Conditions {
    pub(super) fn parse(headers: &HeaderMap) -> Self {
        Self {
            wanted: Tags::parse(headers, &header::IF_MATCH),
            at_hand: Tags::parse(headers, &header::IF_NONE_MATCH),
            begun: Tags::parse(headers, &header::IF_RANGE),
        }
    }

    /// Evaluates the conditions in the order of section 13.2.2.
    ///
    /// The server compares `If-Match` with the strong tag, whichever coding it would send: a client
    /// that names a blob gets that blob.
    pub(super) fn evaluate(&self, blob: &BlobId) -> PreconditionResult {
        if let Some(tags) = &self.wanted
            && !tags.matches_strongly(blob)
        {
            return PreconditionResult::Failed;
        }
        match &self.at_hand {
            Some(tags) if tags.matches_weakly(blob) => PreconditionResult::NotModified,
            Some(_) | None => PreconditionResult::Proceed,
        }
    }

    /// Whether a range of this blob may be sent, so that a client never joins ranges of two blobs.
    pub(super) fn allows_range_of(&self, blob: &BlobId) -> bool {
        match &self.begun {
            None => true,
            Some(Tags::Any) => false,
            Some(tags) => tags.matches_strongly(blob),
        }
    }
}

/// The tags of a header. The parser counts tags that cannot be a blob's id, but drops them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<Tag>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    strength: Strength,
    blob: BlobId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strength {
    Weak,
    Strong,
}

impl Tags {
    /// Reads at most [`ETAGS_MAX`] well-formed tags. Others do not match, which costs a transfer
    /// but never gives a wrong answer.
    fn parse(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut lines = headers.get_all(name).iter().peekable();
        lines.peek()?;
        let mut tags = Vec::new();
        let mut room = ETAGS_MAX;
        for line in lines {
            let mut rest = line.as_bytes().trim_ascii();
            if rest == b"*" {
                return Some(Self::Any);
            }
            while room > 0 {
                let Some((strength, opaque, after)) = first_tag(rest) else {
                    break;
                };
                let id = std::str::from_utf8(opaque).ok();
                if let Some(blob) = id.and_then(|id| BlobId::from_hex(id).ok()) {
                    tags.push(Tag { strength, blob });
                }
                room -= 1;
                rest = after;
            }
        }
        Some(Self::Listed(tags))
    }

    fn matches_weakly(&self, blob: &BlobId) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| tag.blob == *blob),
        }
    }

    fn matches_strongly(&self, blob: &BlobId) -> bool {
        let strong = |tag: &Tag| tag.strength == Strength::Strong && tag.blob == *blob;
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(strong),
        }
    }
}

/// Splits `W/"a", "b"` into the strength and content of the first tag and the rest.
fn first_tag(text: &[u8]) -> Option<(Strength, &[u8], &[u8])> {
    let is_separator = |b: &u8| matches!(b, b' ' | b'\t' | b',');
    let start = text.iter().position(|b| !is_separator(b))?;
    let text = &text[start..];
    let (strength, text) = match text.strip_prefix(b"W/") {
        Some(text) => (Strength::Weak, text),
        None => (Strength::Strong, text),
    };
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|&b| b == b'"')?;
    let after = &text[end + 1..];
    let closed = after.first().is_none_or(is_separator);
    closed.then_some((strength, &text[..end], after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(name: &HeaderName, lines: &[&str]) -> Conditions {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        Conditions::parse(&headers)
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let (mine, other) = (BlobId::of(b"mine"), BlobId::of(b"other"));
        let many = format!("\"{other}\", ").repeat(ETAGS_MAX);
        for (line, expected) in [
            (format!("\"{mine}\""), PreconditionResult::NotModified),
            (format!("W/\"{mine}\""), PreconditionResult::NotModified),
            (
                format!("\"{other}\", W/\"x,y\",\"{mine}\""),
                PreconditionResult::NotModified,
            ),
            (format!(" ,, \"{mine}\" ,"), PreconditionResult::NotModified),
            ("*".into(), PreconditionResult::NotModified),
            (format!("\"{other}\""), PreconditionResult::Proceed),
            (String::new(), PreconditionResult::Proceed),
            (format!("{mine}"), PreconditionResult::Proceed),
            (format!("w/\"{mine}\""), PreconditionResult::Proceed),
            (format!("\"{mine}"), PreconditionResult::Proceed),
            (format!("\"{mine}\"x"), PreconditionResult::Proceed),
            (format!("x \"{mine}\""), PreconditionResult::Proceed),
            (
                format!("\"{}\"", mine.to_hex().to_uppercase()),
                PreconditionResult::Proceed,
            ),
            (format!("{many}\"{mine}\""), PreconditionResult::Proceed),
            (
                format!("{}\"{mine}\"", &many[68..]),
                PreconditionResult::NotModified,
            ),
        ] {
            let found = conditions(&header::IF_NONE_MATCH, &[&line]).evaluate(&mine);
            assert_eq!(found, expected, "{line}");
        }
        let lines = [&*format!("\"{other}\""), &*format!("\"{mine}\"")];
        let found = conditions(&header::IF_NONE_MATCH, &lines).evaluate(&mine);
        assert_eq!(found, PreconditionResult::NotModified);
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        let (mine, other) = (BlobId::of(b"mine"), BlobId::of(b"other"));
        for (line, expected) in [
            (format!("\"{mine}\""), PreconditionResult::Proceed),
            (
                format!("\"{other}\", \"{mine}\""),
                PreconditionResult::Proceed,
            ),
            ("*".into(), PreconditionResult::Proceed),
            (format!("W/\"{mine}\""), PreconditionResult::Failed),
            (format!("\"{other}\""), PreconditionResult::Failed),
            (String::new(), PreconditionResult::Failed),
        ] {
            let found = conditions(&header::IF_MATCH, &[&line]).evaluate(&mine);
            assert_eq!(found, expected, "{line}");
        }
        let mut both = conditions(&header::IF_MATCH, &[&format!("\"{other}\"")]);
        both.at_hand = Some(Tags::Any);
        assert_eq!(both.evaluate(&mine), PreconditionResult::Failed);
    }

    #[test]
    fn if_range_compares_strongly_and_knows_no_dates() {
        let (mine, other) = (BlobId::of(b"mine"), BlobId::of(b"other"));
        for (line, expected) in [
            (format!("\"{mine}\""), true),
            (format!("W/\"{mine}\""), false),
            (format!("\"{other}\""), false),
            ("*".into(), false),
            ("Wed, 21 Oct 2026 07:28:00 GMT".into(), false),
        ] {
            let found = conditions(&header::IF_RANGE, &[&line]).allows_range_of(&mine);
            assert_eq!(found, expected, "{line}");
        }
        assert!(conditions(&header::IF_RANGE, &[]).allows_range_of(&mine));
    }
}
