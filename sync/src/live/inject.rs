//! Script injection: adds the live script to a page.
//!
//! The script becomes the first child of the page's head ([`insertion_point`]). There it works for
//! any page, and precedes a `base` that would change its address. It carries the number of the
//! page's deploy, and the nonce of the page's own scripts. A policy that admits those
//! (Content-Security-Policy, `nonce-...`) also admits this one. A policy that names only hashes
//! blocks the script: such a page is not live.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pmx_streams::Offset;

use super::head::insertion_point;
use super::script::SCRIPT_PATH;
use crate::path::SitePath;

/// The deploy of a page, and what of it the page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served<'a> {
    /// The deploy's number; 0 without a site.
    pub deploy: u64,
    /// Whether the page replaces a missing one.
    pub is_missing: bool,
    /// The page's file, if a rule or the shell shows it at another path.
    pub shown: Option<&'a SitePath>,
}

/// Injects the script into a page, if its encoding is a superset of ASCII.
pub fn inject(page: &Bytes, served: Served<'_>) -> Bytes {
    let place = insertion_point(page).map(|place| {
        if page.contains(&b'<') {
            place.at
        } else {
            // A page of text only: the script goes to its end, and the page's beginning stays
            // unchanged.
            page.len()
        }
    });
    let Some((before, after)) = place.and_then(|at| page.split_at_checked(at)) else {
        return page.clone();
    };
    [before, script(page, served).as_bytes(), after]
        .concat()
        .into()
}

/// A page's beginning with the script, and the number of page bytes in it. `None` if the insertion
/// point depends on the rest of the page.
pub(crate) fn opening(start: &[u8], served: Served<'_>) -> Option<(Bytes, usize)> {
    let place = insertion_point(start).filter(|place| place.is_sure)?;
    let before = start.get(..place.at)?;
    let opening = [before, script(start, served).as_bytes()].concat();
    Some((opening.into(), place.at))
}

/// The injected element.
fn script(page: &[u8], served: Served<'_>) -> String {
    let nonce = nonce(page).map(|nonce| format!(" nonce=\"{nonce}\""));
    let nonce = nonce.unwrap_or_default();
    let missing = if served.is_missing {
        " data-missing"
    } else {
        ""
    };
    let shown = served.shown.map(|path| {
        let path = utf8_percent_encode(path.as_str(), ENCODED);
        format!(" data-shown=\"/{path}\"")
    });
    let shown = shown.unwrap_or_default();
    let (deploy, offset) = (served.deploy, Offset::at(served.deploy));
    format!(
        "<script src=\"{SCRIPT_PATH}\" data-deploy=\"{deploy}\" data-offset=\"{offset}\"{missing}{shown}{nonce} \
         async></script>"
    )
}

/// Characters of a path that might mean something in an attribute.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The nonce of the first element that has a well-formed one (base64, RFC 4648).
fn nonce(page: &[u8]) -> Option<&str> {
    let at = find(page, b" nonce=")?;
    let rest = page.get(at + b" nonce=".len()..)?;
    let (quote, rest) = rest.split_first()?;
    if !matches!(quote, b'"' | b'\'') {
        return None;
    }
    let end = rest.iter().take(NONCE_BYTES_MAX).position(|b| b == quote)?;
    let nonce = rest.get(..end)?;
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"+/=-_".contains(b);
    let is_nonce = !nonce.is_empty() && nonce.iter().all(is_plain);
    std::str::from_utf8(nonce).ok().filter(|_| is_nonce)
}

/// Most bytes of a nonce.
const NONCE_BYTES_MAX: usize = 256;

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len())
        .position(|found| found.eq_ignore_ascii_case(what))
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(page: &'static str) -> String {
        let served = Served {
            deploy: 7,
            is_missing: false,
            shown: None,
        };
        let page = inject(&Bytes::from_static(page.as_bytes()), served);
        let script = "<script src=\"/_pmx/live.js\" data-deploy=\"7\" \
                      data-offset=\"0000000000000000_0000000000000007\"";
        String::from_utf8(page.to_vec())
            .unwrap()
            .replace(script, "<LIVE")
    }

    #[test]
    fn injected_script_is_the_first_of_the_head() {
        for (page, expected) in [
            ("", "<LIVE async></script>"),
            ("text", "text<LIVE async></script>"),
            ("<p>x", "<LIVE async></script><p>x"),
            (
                "<!doctype html><html><head><title>x</title></head><body>x</body></html>",
                "<!doctype html><html><head><LIVE async></script><title>x</title></head><body>x</body></html>",
            ),
            (
                "<script>'</body>'</script></BODY >",
                "<LIVE async></script><script>'</body>'</script></BODY >",
            ),
            (
                "<script nonce=\"aB+/=\">1</script>",
                "<LIVE nonce=\"aB+/=\" async></script><script nonce=\"aB+/=\">1</script>",
            ),
            (
                "<script nonce='a b'></script>",
                "<LIVE async></script><script nonce='a b'></script>",
            ),
            (
                "<pre>&lt;script src=\"/_pmx/live.js\"",
                "<LIVE async></script><pre>&lt;script src=\"/_pmx/live.js\"",
            ),
        ] {
            assert_eq!(injected(page), expected, "{page}");
        }
    }

    #[test]
    fn injected_script_names_the_file_that_is_shown() {
        for (file, named) in [
            ("app/index.html", "/app/index.html"),
            ("a\"><b>.html", "/a%22%3E%3Cb%3E.html"),
            ("\u{fc} &amp;.html", "/%C3%BC%20%26amp%3B.html"),
        ] {
            let file = SitePath::parse(file).unwrap();
            let served = Served {
                deploy: 7,
                is_missing: false,
                shown: Some(&file),
            };
            let page = inject(&Bytes::from_static(b"<p>"), served);
            let page = String::from_utf8(page.to_vec()).unwrap();
            let attribute = format!(" data-shown=\"{named}\" async></script><p>");
            assert!(page.ends_with(&attribute), "{page}");
        }
    }
}
