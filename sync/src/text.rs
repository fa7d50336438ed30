//! Text files from editors: UTF-8, with or without a byte order mark.
//!
//! A mark would become part of the first pattern or the first key, which then matches nothing. So
//! [`decode`] removes it, and every module that reads a user's text file calls [`decode`].

use thiserror::Error;

/// The reason why pmx cannot read bytes as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextFault {
    /// A byte order mark of UTF-16, or the zero bytes that UTF-16 puts between ASCII letters.
    #[error("is UTF-16 text; save it as UTF-8")]
    Utf16,
    /// Some other encoding.
    #[error("is not UTF-8 text: line {line} has bytes of another encoding; save it as UTF-8")]
    NotUtf8 {
        /// The line of the first such byte, counted from 1.
        line: usize,
    },
}

const MARK: &[u8] = b"\xef\xbb\xbf";

/// The text of a file, without its byte order mark.
pub fn decode(bytes: &[u8]) -> Result<&str, TextFault> {
    let bytes = without_mark(bytes);
    if is_utf16(bytes) {
        return Err(TextFault::Utf16);
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.split(|&byte| byte == b'\n').count();
        TextFault::NotUtf8 { line }
    })
}

/// The bytes after a UTF-8 byte order mark, if there is one.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(MARK).unwrap_or(bytes)
}

/// The lines of a text, with either kind of line end, also at the very end.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.trim_end_matches('\r'))
}

/// Whether bytes are UTF-16: by the mark, or by an ASCII character beside a zero byte.
fn is_utf16(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
        || matches!(bytes, [0, letter, ..] | [letter, 0, ..] if letter.is_ascii() && *letter != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_removes_the_mark_and_names_other_encodings() {
        for (bytes, expected) in [
            (&b"a\r\n"[..], Ok("a\r\n")),
            (b"", Ok("")),
            (b"\xef\xbb\xbfa\n", Ok("a\n")),
            (b"\xef\xbb\xbf", Ok("")),
            (b"\xff\xfea\0\n\0", Err(TextFault::Utf16)),
            (b"\xfe\xff\0a\0\n", Err(TextFault::Utf16)),
            (b"a\0\n\0", Err(TextFault::Utf16)),
            (b"\0a\0\n", Err(TextFault::Utf16)),
            (b"a\nb\xfc\n", Err(TextFault::NotUtf8 { line: 2 })),
        ] {
            assert_eq!(decode(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn lines_end_as_any_editor_ends_them() {
        assert_eq!(lines("a\r\nb\nc\r").collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
