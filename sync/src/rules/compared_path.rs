//! Compared path: a request's path as rules compare it, decoded once and segment by segment.
//!
//! A `/` that is percent-encoded belongs to its segment. It is kept as the byte 0, which no path
//! can contain, so every other `/` is a separator. Each byte remembers its place in the request, so
//! that a rule can copy a value in the encoding in which it came.

use std::ops::Range;

use crate::limits::URL_PATH_BYTES_MAX;

/// The byte in place of a `/` within a segment.
pub(super) const ENCODED_SLASH: u8 = 0;

/// The decoded path of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ComparedPath<'a> {
    raw: &'a str,
    bytes: Vec<u8>,
    /// The offset in `raw` of each decoded byte, and of the end.
    origins: Vec<u16>,
}

impl<'a> ComparedPath<'a> {
    /// Decodes the path of a request line. `None` for a path that no rule matches: one with an
    /// empty segment, a dot segment or a backslash, and one that is malformed.
    pub(super) fn parse(raw: &'a str) -> Option<Self> {
        if !raw.starts_with('/') || raw.len() > URL_PATH_BYTES_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(raw.len());
        let mut origins = Vec::with_capacity(raw.len() + 1);
        let mut at = 0;
        while at < raw.len() {
            let (byte, length) = decoded(&raw.as_bytes()[at..])?;
            bytes.push(byte);
            origins.push(at as u16);
            at += length;
        }
        origins.push(raw.len() as u16);
        is_plain(&bytes).then_some(Self {
            raw,
            bytes,
            origins,
        })
    }

    /// The decoded bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The decoded bytes without the slash at the end.
    pub(super) fn without_slash(&self) -> &[u8] {
        without_slash(&self.bytes)
    }

    /// A value as the request spells it. A range past the end is empty.
    pub(super) fn raw(&self, range: &Range<usize>) -> &'a str {
        let offset = |at: usize| self.origins.get(at).map_or(self.raw.len(), |&at| at.into());
        self.raw
            .get(offset(range.start)..offset(range.end))
            .unwrap_or_default()
    }
}

/// A path without the slash at its end; the root keeps its own.
pub(super) fn without_slash(path: &[u8]) -> &[u8] {
    match path {
        [rest @ .., b'/'] if !rest.is_empty() => rest,
        whole => whole,
    }
}

/// The first byte of an encoded text, and the number of bytes that it takes there.
pub(super) fn decoded(text: &[u8]) -> Option<(u8, usize)> {
    match *text {
        [b'%', high, low, ..] => {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let byte = (digit(high)? * 16 + digit(low)?) as u8;
            match byte {
                b'/' => Some((ENCODED_SLASH, 3)),
                byte if byte < 0x20 || byte == 0x7f => None,
                byte => Some((byte, 3)),
            }
        }
        [b'%', ..] => None,
        [byte, ..] if byte >= 0x20 && byte != 0x7f => Some((byte, 1)),
        _ => None,
    }
}

/// Whether no segment is empty, a dot segment or with a backslash. The last one may be empty.
pub(super) fn is_plain(path: &[u8]) -> bool {
    let mut segments = path[1..].split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let is_bad = matches!(segment, b"." | b"..")
            || segment.contains(&b'\\')
            || (segment.is_empty() && !is_last);
        if is_bad {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_decodes_each_segment_once() {
        for (raw, expected) in [
            ("/", Some(&b"/"[..])),
            ("/a/", Some(b"/a/")),
            ("/%61%2Fb/c", Some(b"/a\0b/c")),
            ("/%2561", Some(b"/%61")),
            ("/%C3%BC", Some("/ü".as_bytes())),
            ("//a", None),
            ("/a//b", None),
            ("/a/../b", None),
            ("/a/%2e%2E/b", None),
            ("/a%5Cb", None),
            ("/a\\b", None),
            ("/%zz", None),
            ("/%0a", None),
            ("/%", None),
            ("a", None),
            ("", None),
        ] {
            let path = ComparedPath::parse(raw);
            assert_eq!(path.as_ref().map(ComparedPath::bytes), expected, "{raw}");
        }
    }

    #[test]
    fn raw_is_the_spelling_of_the_request() {
        let path = ComparedPath::parse("/%61%2fb/%C3%BC").unwrap();
        assert_eq!(path.raw(&(1..4)), "%61%2fb");
        assert_eq!(path.raw(&(5..7)), "%C3%BC");
        assert_eq!(path.raw(&(7..9)), "");
    }
}
