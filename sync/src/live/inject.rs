//! Putting the script into a page.
//!
//! A page is not parsed: the script goes before the last `</body>`, or to the end. It carries the
//! deploy that the page came with, and the nonce of the page's own scripts, so that a policy which
//! admits those (Content-Security-Policy, `nonce-...`) admits this one too.

use bytes::Bytes;

use super::script::SCRIPT_PATH;
use crate::stream::Offset;

/// What a page was served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// The deploy's number.
    pub deploy: u64,
}

/// Puts the script into a page, unless the page has it already.
pub fn inject(page: &Bytes, served: Served) -> Bytes {
    let own: [&[u8]; 3] = [
        b"src=\"/_pmx/live.js",
        b"src='/_pmx/live.js",
        b"src=/_pmx/live.js",
    ];
    if own.iter().any(|own| find(page, own).is_some()) {
        return page.clone();
    }
    let nonce = nonce(page).map(|nonce| format!(" nonce=\"{nonce}\""));
    let nonce = nonce.unwrap_or_default();
    let (deploy, offset) = (served.deploy, Offset::at(served.deploy));
    let script = format!(
        "<script src=\"{SCRIPT_PATH}\" data-deploy=\"{deploy}\" data-offset=\"{offset}\"{nonce} \
         defer></script>"
    );
    let at = find_last(page, b"</body").unwrap_or(page.len());
    let (before, after) = page.split_at_checked(at).unwrap_or((page, &[]));
    [before, script.as_bytes(), after].concat().into()
}

/// The nonce of the first element that has one, if it is spelt as one (base64, RFC 4648).
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

/// Bytes of a nonce; what is longer is none.
const NONCE_BYTES_MAX: usize = 256;

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len())
        .position(|found| found.eq_ignore_ascii_case(what))
}

fn find_last(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len())
        .rposition(|found| found.eq_ignore_ascii_case(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(page: &'static str) -> String {
        let page = inject(&Bytes::from_static(page.as_bytes()), Served { deploy: 7 });
        let script = "<script src=\"/_pmx/live.js\" data-deploy=\"7\" \
                      data-offset=\"0000000000000000_0000000000000007\"";
        String::from_utf8(page.to_vec())
            .unwrap()
            .replace(script, "<LIVE")
    }

    #[test]
    fn the_script_goes_into_a_page_once() {
        for (page, expected) in [
            ("", "<LIVE defer></script>"),
            ("<p>x", "<p>x<LIVE defer></script>"),
            (
                "<body>x</body></html>",
                "<body>x<LIVE defer></script></body></html>",
            ),
            (
                "<BODY>'</body>'</BODY >",
                "<BODY>'</body>'<LIVE defer></script></BODY >",
            ),
            (
                "<script nonce=\"aB+/=\">1</script>",
                "<script nonce=\"aB+/=\">1</script><LIVE nonce=\"aB+/=\" defer></script>",
            ),
            (
                "<script nonce='a b'></script>",
                "<script nonce='a b'></script><LIVE defer></script>",
            ),
            (
                "<p>see /_pmx/live.js",
                "<p>see /_pmx/live.js<LIVE defer></script>",
            ),
            (
                "<script src=/_pmx/live.js></script>",
                "<script src=/_pmx/live.js></script>",
            ),
        ] {
            assert_eq!(injected(page), expected, "{page}");
        }
    }
}
