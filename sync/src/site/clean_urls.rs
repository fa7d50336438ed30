//! Clean URLs: map a URL to a file, and a file to its one URL.
//!
//! The rules are Cloudflare's `auto-trailing-slash` (Workers static assets, "HTML handling"):
//! `a.html` is served at `/a`, `a/index.html` at `/a/`, and every other URL of the two redirects
//! there. This module has two halves. [`candidates`] lists, in order, the files that a URL may
//! mean; `address` gives the one URL of a file. The server takes the first candidate that exists.
//! It serves the file if the URL is the file's own and redirects otherwise, so a redirect never
//! leads to another redirect.
//!
//! Two special cases of Cloudflare's are left out: a file named just `.html` stands for no folder,
//! and `a.html.html` is served under its full name instead of at `/a.html`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::lookups::{Generation, LocatedFile, Lookup, Lookups, MissingLookups};
use crate::path::SitePath;

/// A URL path, decoded: what it could name in a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestedPath {
    /// `/`
    Root,
    /// `/a/b`
    File(SitePath),
    /// `/a/b/`
    Folder(SitePath),
}

impl RequestedPath {
    /// The path as a file name, if the URL can mean a file that is no page.
    pub(super) fn asset(&self) -> Option<&SitePath> {
        match self {
            Self::Root | Self::Folder(_) => None,
            Self::File(path) => (!has_page_extension(path) && !is_settings(path)).then_some(path),
        }
    }

    /// The same path in the other Unicode normalisation (UAX #15). macOS stores names decomposed,
    /// while browsers send the form that a page contains, so a request for either form finds the
    /// file.
    pub(super) fn respelled(&self) -> Option<Self> {
        let other = |path: &SitePath| {
            let text = path.as_str();
            if text.is_ascii() {
                return None;
            }
            let other: String = if is_nfc(text) {
                text.nfd().collect()
            } else {
                text.nfc().collect()
            };
            SitePath::parse(&other).ok().filter(|other| other != path)
        };
        match self {
            Self::Root => None,
            Self::File(path) => other(path).map(Self::File),
            Self::Folder(path) => other(path).map(Self::Folder),
        }
    }

    /// The `404.html` files of the folders above, nearest first.
    pub(super) fn not_found_pages(&self) -> Vec<SitePath> {
        let inner = match self {
            Self::Root | Self::File(_) => None,
            Self::Folder(path) => Some(path.as_str()),
        };
        let above = match self {
            Self::Root => None,
            Self::File(path) | Self::Folder(path) => Some(path.folders()),
        };
        let folders = inner.into_iter().chain(above.into_iter().flatten());
        let pages = folders.map(|folder| format!("{folder}/404.html"));
        let pages = pages.chain(["404.html".to_owned()]);
        pages
            .filter_map(|page| SitePath::parse(&page).ok())
            .collect()
    }
}

/// Meaning of a URL in the served deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// This file, at this URL.
    Serve(SitePath, &'a LocatedFile),
    /// A page whose URL is this one: an absolute path, percent-encoded, never starting with `//`.
    Redirect(String),
    /// No file of the deploy.
    Nothing,
}

/// Returns the meaning of a URL, once the lookups of all its candidates are complete.
pub(super) fn meaning<'a>(
    asked: &RequestedPath,
    known: &'a Lookups,
) -> Result<Meaning<'a>, MissingLookups> {
    let served = |path| Lookup {
        generation: Generation::SERVED,
        path,
    };
    // Most requests are for assets that exist: they cost one lookup.
    if let Some(path) = asked.asset() {
        known.require([served(path.clone())])?;
        if let Some(held) = known.served(path) {
            return Ok(Meaning::Serve(path.clone(), held));
        }
    }
    let candidates = candidates(asked);
    let rivals = candidates.iter().filter_map(extensionless);
    known.require(candidates.iter().cloned().chain(rivals).map(served))?;
    for file in &candidates {
        let Some(held) = known.served(file) else {
            continue;
        };
        match address(file, known) {
            address if address == *asked => return Ok(Meaning::Serve(file.clone(), held)),
            // A file without a clean URL is found under its full name only.
            RequestedPath::File(path) if path == *file => {}
            address => return Ok(Meaning::Redirect(location(&address))),
        }
    }
    Ok(Meaning::Nothing)
}

/// The files that a URL may mean, best first: at most four.
fn candidates(asked: &RequestedPath) -> Vec<SitePath> {
    let names = match asked {
        RequestedPath::Root => vec!["index.html".to_owned()],
        RequestedPath::Folder(path) => vec![format!("{path}/index.html"), format!("{path}.html")],
        RequestedPath::File(path) => file_candidates(path.as_str()),
    };
    // A name that is too long for a path belongs to no file.
    let paths = names.iter().filter_map(|name| SitePath::parse(name).ok());
    paths.filter(|path| !is_settings(path)).collect()
}

/// Whether a file has settings of the site or of its project. A manifest may contain it, since the
/// server reads rules from it, but no URL means it.
fn is_settings(file: &SitePath) -> bool {
    matches!(file.as_str(), "_headers" | "_redirects" | "_site.toml")
        || matches!(file.name(), ".pmxignore" | "pmx.toml")
}

fn file_candidates(path: &str) -> Vec<String> {
    let exact = path.to_owned();
    let folder_page = format!("{path}/index.html");
    if path == "index" {
        vec![exact, "index.html".into(), folder_page]
    } else if let Some(folder) = path.strip_suffix("/index") {
        let index = format!("{path}.html");
        vec![exact, index, format!("{folder}.html"), folder_page]
    } else if let Some(folder) = path.strip_suffix("/index.html") {
        vec![exact, format!("{folder}.html"), folder_page]
    } else if let Some(stem) = path.strip_suffix(".html") {
        vec![exact, format!("{stem}/index.html"), folder_page]
    } else {
        vec![exact, format!("{path}.html"), folder_page]
    }
}

/// The one URL at which a file is served.
fn address(file: &SitePath, known: &Lookups) -> RequestedPath {
    if file.name() == "index.html" {
        return match SitePath::parse(file.folder()) {
            Ok(folder) => RequestedPath::Folder(folder),
            Err(_) => RequestedPath::Root,
        };
    }
    match extensionless(file) {
        Some(stem) if known.served(&stem).is_none() => RequestedPath::File(stem),
        Some(_) | None => RequestedPath::File(file.clone()),
    }
}

/// The URL path of a page: `/a/` for `a/index.html`, `/a` for `a.html`. If `a` is a file as well,
/// it has that address, and the page keeps its full name. Only the site's manifest distinguishes
/// the two, so this function returns the shorter one.
pub fn page_address(file: &SitePath) -> String {
    location(&address(file, &Lookups::default()))
}

/// `a` for the page `a.html`. `None` for an index, which has the URL of its folder.
fn extensionless(file: &SitePath) -> Option<SitePath> {
    let stem = file.as_str().strip_suffix(".html")?;
    let doubled = stem.strip_suffix(".html").is_some();
    let plain = file.name() != "index.html" && !doubled;
    SitePath::parse(stem).ok().filter(|_| plain)
}

fn has_page_extension(path: &SitePath) -> bool {
    let extension = path.extension().map(str::to_ascii_lowercase);
    matches!(
        extension.as_deref(),
        Some("html" | "htm" | "xhtml" | "xht" | "shtml")
    )
}

/// Characters that a path of RFC 3986 (section 3.3) has to encode.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The canonical URL of a path: absolute, percent-encoded, never starting with `//`.
pub(super) fn location(address: &RequestedPath) -> String {
    match address {
        RequestedPath::Root => "/".into(),
        RequestedPath::File(path) => format!("/{}", utf8_percent_encode(path.as_str(), ENCODED)),
        RequestedPath::Folder(path) => format!("/{}/", utf8_percent_encode(path.as_str(), ENCODED)),
    }
}

#[cfg(test)]
mod tests;
