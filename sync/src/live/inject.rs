//! Script injection: adds the live script to a page.
//!
//! The script becomes the first child of the page's head ([`insertion_point`]). There it works for
//! any page, and precedes a `base` that would change its address. It carries the number of the
//! page's deploy, and the nonce of the page's own scripts. A policy that admits those
//! (Content-Security-Policy, `nonce-...`) also admits this one. A policy that names only hashes
//! blocks the script: such a page is not live.

use bytes::Bytes;
use pmx_streams::Offset;

use super::head::insertion_point;
use super::script::SCRIPT_PATH;

/// The deploy of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// The deploy's number; 0 without a site.
    pub deploy: u64,
    /// Whether the page replaces a missing one.
    pub is_missing: bool,
}

/// Injects the script into a page, if its encoding is a superset of ASCII.
pub fn inject(page: &Bytes, served: Served) -> Bytes {
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
pub(crate) fn opening(start: &[u8], served: Served) -> Option<(Bytes, usize)> {
    let place = insertion_point(start).filter(|place| place.is_sure)?;
    let before = start.get(..place.at)?;
    let opening = [before, script(start, served).as_bytes()].concat();
    Some((opening.into(), place.at))
}

/// The injected element.
fn script(page: &[u8], served: Served) -> String {
    let nonce = nonce(page).map(|nonce| format!(" nonce=\"{nonce}\""));
    let nonce = nonce.unwrap_or_default();
    let missing = if served.is_missing {
        " data-missing"
    } else {
        ""
    };
    let (deploy, offset) = (served.deploy, Offset::at(served.deploy));
    format!(
        "<script src=\"{SCRIPT_PATH}\" data-deploy=\"{deploy}\" data-offset=\"{offset}\"{missing}{nonce} \
         async></script>"
    )
}

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
}
