//! Spelling of a path: which requests name a file as its canonical URL does.

/// Characters that RFC 3986 calls `sub-delims`, and `:` and `@`. A path may have them as they are.
const DELIMITERS: &str = "!$&'()*+,;=:@";

/// Whether a path is its canonical form, or has some of RFC 3986's `sub-delims`, `:` and `@`
/// encoded. A URL with such a character and one with its escape differ (section 2.2), so neither
/// redirects to the other.
pub(super) fn is_canonical(canonical: &str, path: &str) -> bool {
    let mut rest = path;
    for part in canonical.split_inclusive(|c: char| DELIMITERS.contains(c)) {
        let last = part.chars().next_back();
        let delimiter = last.filter(|c| DELIMITERS.contains(*c));
        let text = &part[..part.len() - delimiter.map_or(0, char::len_utf8)];
        let Some(after) = rest.strip_prefix(text) else {
            return false;
        };
        let Some(delimiter) = delimiter else {
            return after.is_empty();
        };
        let escape = format!("%{:02X}", delimiter as u32);
        let plain = after.strip_prefix(delimiter);
        match plain.or_else(|| after.strip_prefix(&escape)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_canonical_takes_delimiters_in_both_spellings() {
        for (canonical, path, expected) in [
            ("/a;b", "/a;b", true),
            ("/a;b", "/a%3Bb", true),
            ("/a;b", "/a%3bb", false),
            ("/a;b", "/a", false),
            ("/a", "/a;", false),
            ("/a", "/%61", false),
            ("/a~", "/a%7E", false),
            ("/;;", "/%3B;", true),
            ("/", "/", true),
        ] {
            assert_eq!(
                is_canonical(canonical, path),
                expected,
                "{canonical} {path}"
            );
        }
    }
}
