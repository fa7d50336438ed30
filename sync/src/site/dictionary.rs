//! Compression dictionaries (RFC 9842): the headers by which browsers store and name them.
//!
//! The server asks a browser to store a page, or an asset with its hash in its name, as a
//! dictionary: for the same page, and for the assets whose names differ only in the hash. A browser
//! that requests one of these later sends the SHA-256 of the dictionary, and the server's id for
//! it: the root of its deploy, and its path there. So the server looks nothing up by SHA-256, and a
//! publish hashes nothing that few readers need. The server finds the old blob by its path, and
//! hashes it before use.
//!
//! A dictionary lives as long as its response is fresh or may be served stale (section 2.1). A page
//! is never either: each visit revalidates it. Only Chromium never shows a reader a stale page
//! (there `stale-while-revalidate` is for the parts of a page). So only Chromium gets this header,
//! and for documents alone: with `Vary: Sec-Fetch-Dest`, a script's own `fetch` of the page
//! revalidates too. No shared cache may store the response (`private`).

use http::{HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pmx_core::coding::takes_coding;
use pmx_core::id::Root;
use pmx_core::location::Codec;
use sha2::{Digest, Sha256};

use super::fingerprint::pattern;
use super::lookups::LocatedFile;
use crate::limits::{DICTIONARY_BYTES_MAX, DICTIONARY_BYTES_MIN, DICTIONARY_ID_BYTES_MAX};
use crate::path::SitePath;

/// The coding of a dictionary-compressed body: `dcz` (section 5), and its magic number, a skippable
/// zstd frame with the SHA-256.
pub(crate) const CODING: &str = "dcz";
pub(crate) const MAGIC: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0x00, 0x00, 0x00];

/// The value of `Available-Dictionary` for a dictionary that a client has.
pub fn available_dictionary(kept: &[u8]) -> String {
    let hash = data_encoding::BASE64.encode(&Sha256::digest(kept));
    format!(":{hash}:")
}

/// Hexadecimal digits of a root in a dictionary's name: enough to distinguish the deploys of a
/// site.
const ROOT_DIGITS: usize = 16;

/// The dictionary headers of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dictionaries {
    keeps: Keeps,
    /// The path of the requested URL.
    url: String,
    offered: Option<Offered>,
}

/// The kinds of responses that the client can store as dictionaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nothing,
    /// A page that a reader opens.
    Page,
    /// A part of a page.
    Asset,
}

/// The client's dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    /// The SHA-256 of its bytes.
    pub(crate) sha256: [u8; 32],
    /// The server's id of the dictionary: its deploy, and its path there.
    root: String,
    pub(crate) path: SitePath,
}

impl Dictionaries {
    pub(super) fn of(headers: &HeaderMap, accept_encoding: Option<&str>, url: &str) -> Self {
        let offered = takes_coding(accept_encoding, CODING).then(|| Offered::read(headers));
        let keeps = if takes_coding(accept_encoding, "zstd") {
            Keeps::of(headers)
        } else {
            Keeps::Nothing
        };
        Self {
            keeps,
            url: url.to_owned(),
            offered: offered.flatten(),
        }
    }

    /// The client's dictionary, if it fits this file.
    pub(super) fn offered(&self, held: &LocatedFile) -> Option<&Offered> {
        self.offered.as_ref().filter(|_| is_dictionary(held))
    }

    /// The header that asks the client to store the response, if the client can.
    pub(super) fn kept(
        &self,
        root: &Root,
        path: &SitePath,
        held: &LocatedFile,
    ) -> Option<HeaderValue> {
        let url = match self.keeps {
            Keeps::Page if held.entry.media.is_html() => Some(self.url.clone()),
            Keeps::Asset if !held.entry.media.is_html() => {
                pattern(path).map(|path| format!("/{path}"))
            }
            Keeps::Nothing | Keeps::Page | Keeps::Asset => None,
        };
        let url = url.filter(|url| is_dictionary(held) && is_plain(url))?;
        let id = name(root, path);
        let header = format!("match=\"{url}\", id=\"{id}\"");
        let header = (id.len() <= DICTIONARY_ID_BYTES_MAX).then_some(header)?;
        HeaderValue::from_str(&header).ok()
    }
}

impl Keeps {
    /// Browsers send the purpose of a request only in secure contexts, as they do dictionaries.
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match text("sec-fetch-dest") {
            Some("document") => {
                let is_chromium = text("sec-ch-ua").is_some_and(|ua| ua.contains("\"Chromium\""));
                if is_chromium {
                    Self::Page
                } else {
                    Self::Nothing
                }
            }
            Some(_) => Self::Asset,
            None => Self::Nothing,
        }
    }
}

impl Offered {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let hash = text("available-dictionary")?.trim();
        let hash = hash.strip_prefix(':')?.strip_suffix(':')?;
        let sha256 = data_encoding::BASE64.decode(hash.as_bytes()).ok()?;
        let id = text("dictionary-id").filter(|id| id.len() <= DICTIONARY_ID_BYTES_MAX + 2)?;
        let id = id.trim().strip_prefix('"')?.strip_suffix('"')?;
        let (root, path) = id.split_once('/')?;
        let path = percent_decode_str(path).decode_utf8().ok()?;
        Some(Self {
            sha256: sha256.try_into().ok()?,
            root: root.to_owned(),
            path: SitePath::parse(&path).ok()?,
        })
    }

    /// Whether the dictionary is of a deploy with this root.
    pub(crate) fn is_of(&self, root: &Root) -> bool {
        self.root == digits(root)
    }
}

/// Whether a file may be a dictionary, or be compressed against one. It must be one frame, be large
/// enough to pay, and small enough not to keep an isolate busy.
pub(crate) fn is_dictionary(held: &LocatedFile) -> bool {
    let sizes = DICTIONARY_BYTES_MIN..=DICTIONARY_BYTES_MAX;
    held.at.codec == Codec::Zstd && sizes.contains(&held.entry.size)
}

fn name(root: &Root, path: &SitePath) -> String {
    let path = utf8_percent_encode(path.as_str(), NON_ALPHANUMERIC);
    format!("{}/{path}", digits(root))
}

fn digits(root: &Root) -> String {
    root.to_hex().chars().take(ROOT_DIGITS).collect()
}

/// Whether a URL has no special characters of a URL pattern, except the server's own `*`.
fn is_plain(url: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~%*".contains(&b);
    url.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use pmx_core::id::NodeId;

    use super::super::test_support::held;
    use super::*;

    const CHROMIUM: &str = "\"Chromium\";v=\"156\", \"Not?Brand\";v=\"8\"";

    fn asked(url: &str, headers: &[(&'static str, &str)]) -> Dictionaries {
        let lines = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        Dictionaries::of(&lines.collect(), Some("br, zstd, dcz"), url)
    }

    fn path(text: &str) -> SitePath {
        SitePath::parse(text).unwrap()
    }

    fn kept(url: &str, headers: &[(&'static str, &str)], at: &str, media: &str) -> String {
        let held = held(&[b'x'; 5_000], media, Codec::Zstd, 700);
        let root = NodeId::of(b"root");
        let kept = asked(url, headers).kept(&root, &path(at), &held);
        kept.map_or_else(String::new, |kept| kept.to_str().unwrap().to_owned())
    }

    #[test]
    fn pages_are_kept_by_chromium_and_hashed_assets_by_all() {
        let root = digits(&NodeId::of(b"root"));
        let page = [("sec-fetch-dest", "document"), ("sec-ch-ua", CHROMIUM)];
        let html = "text/html; charset=utf-8";
        assert_eq!(
            kept("/guide/a%20b", &page, "guide/a b.html", html),
            format!("match=\"/guide/a%20b\", id=\"{root}/guide%2Fa%20b%2Ehtml\"")
        );
        let script = [("sec-fetch-dest", "script")];
        let at = "assets/app-4f3c2a1b9d.js";
        assert_eq!(
            kept("/assets/app-4f3c2a1b9d.js", &script, at, "text/javascript"),
            format!("match=\"/assets/app-*.js\", id=\"{root}/assets%2Fapp%2D4f3c2a1b9d%2Ejs\"")
        );
        for (url, headers, at, media) in [
            ("/a", &page[..1], "a.html", html),
            ("/a", &script, "a.html", html),
            ("/a", &[], "a.html", html),
            ("/a(b)", &page, "a(b).html", html),
            ("/:a", &page, ":a.html", html),
            ("/app.js", &script, "app.js", "text/javascript"),
            (
                "/app-4f3c2a1b9d.js",
                &page,
                "app-4f3c2a1b9d.js",
                "text/javascript",
            ),
        ] {
            assert_eq!(kept(url, headers, at, media), "", "{url} {headers:?}");
        }
    }

    #[test]
    fn offered_dictionary_is_parsed_or_ignored() {
        let hash = data_encoding::BASE64.encode(&[7; 32]);
        let hash = format!(":{hash}:");
        let root = NodeId::of(b"root");
        let id = format!("\"{}\"", name(&root, &path("ä/b c.html")));
        let offered = |hash: &str, id: &str| {
            let headers = [("available-dictionary", hash), ("dictionary-id", id)];
            asked("/", &headers).offered
        };
        let read = offered(&hash, &id).unwrap();
        assert_eq!((read.sha256, read.path.as_str()), ([7; 32], "ä/b c.html"));
        assert!(read.is_of(&root) && !read.is_of(&NodeId::of(b"other")));
        let long = format!("\"{}\"", "a/".repeat(600));
        for (hash, id) in [
            ("", &*id),
            (":AAAA:", &id),
            ("AAAA", &id),
            (&hash[1..], &id),
            (&hash, ""),
            (&hash, "x"),
            (&hash, "\"x\""),
            (&hash, "\"x/../y\""),
            (&hash, "\"x/%ff\""),
            (&hash, &long),
        ] {
            assert_eq!(offered(hash, id), None, "{hash} {id}");
        }
    }
}
