//! Content sniffing for headers: detects whether bytes are UTF-8 text, or gzip.
//!
//! The server decides both from the bytes when it serves a file, never from the name alone. It only
//! completes the description: it guesses no types.

/// Sniffed kind of the bytes of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SniffedContent {
    /// Whether they are text in UTF-8.
    pub(crate) is_utf8: bool,
    /// Whether they are a gzip member (RFC 1952).
    pub(crate) is_gzip: bool,
}

impl SniffedContent {
    /// Sniffs the first bytes of a blob, or all of them: `is_whole`.
    pub(crate) fn of(bytes: &[u8], is_whole: bool) -> Self {
        Self {
            is_utf8: is_utf8(bytes, is_whole),
            is_gzip: bytes.starts_with(&[0x1f, 0x8b, 8]),
        }
    }
}

/// Whether bytes are UTF-8 text. Two encodings are valid UTF-8 by accident, since all of their
/// bytes are ASCII: UTF-16 and UTF-32 without a mark have zeros, and ISO-2022 has escapes of its
/// own.
fn is_utf8(bytes: &[u8], is_whole: bool) -> bool {
    let is_valid = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // The end of the sample cuts a character off.
        Err(error) => !is_whole && error.error_len().is_none(),
    };
    is_valid && !bytes.contains(&0) && !has_iso_2022_escape(bytes)
}

/// `ESC $` and `ESC (` choose a set of characters; terminals' colours are `ESC [`.
fn has_iso_2022_escape(bytes: &[u8]) -> bool {
    let mut after = bytes.split(|byte| *byte == 0x1b).skip(1);
    after.any(|rest| matches!(rest.first(), Some(b'$' | b'(')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn utf8_is_distinguished_from_other_encodings() {
        let utf16: Vec<u8> = "<p>hi</p>"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let marked = [&[0xff, 0xfe], &utf16[..]].concat();
        for (bytes, expected) in [
            (&b""[..], true),
            (b"plain", true),
            ("caf\u{e9}".as_bytes(), true),
            (b"\xef\xbb\xbfmarked", true),
            (b"\x1b[31mred\x1b[0m", true),
            (b"<meta charset=iso-8859-1>caf\xe9", false),
            (b"\x93\xfa\x96\x7b", false),
            (b"\x1b$B$3$s\x1b(B", false),
            (b"cut \xe2\x82", false),
            (&utf16, false),
            (&marked, false),
        ] {
            assert_eq!(is_utf8(bytes, true), expected, "{bytes:?}");
        }
        assert!(is_utf8(b"cut \xe2\x82", false));
        assert!(!is_utf8(b"caf\xe9 noir", false));
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes() {
        assert!(SniffedContent::of(b"\x1f\x8b\x08\x00rest", false).is_gzip);
        assert!(!SniffedContent::of(b"<svg/>", true).is_gzip);
    }

    proptest! {
        #[test]
        fn utf8_text_is_recognised_wherever_it_is_cut(text in "\\PC{0,64}", at in 0_usize..64) {
            prop_assert!(is_utf8(text.as_bytes(), true));
            let cut = &text.as_bytes()[..at.min(text.len())];
            prop_assert!(is_utf8(cut, false));
        }
    }
}
