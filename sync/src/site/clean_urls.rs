//! Clean URLs: map a URL to a file, and a file to its one URL.
//!
//! The modes are those of Cloudflare's Workers static assets ("HTML handling"). In the default one,
//! `a.html` is served at `/a`, `a/index.html` at `/a/`, and every other URL of the two redirects
//! there. This module has two halves. [`pages`] lists the files that a URL serves; [`candidates`]
//! lists, in order, the files that a URL may mean, each with its own URL if that is another one.
//! The server takes the first candidate that exists. It redirects only to a URL that serves the
//! file, so a redirect never leads to a different file.
//!
//! Two special cases of Cloudflare's are left out of the default mode: a file named just `.html`
//! stands for no folder, and `a.html.html` is served under its full name instead of at `/a.html`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::lookups::{DeployAge, LocatedFile, Lookup, Lookups, MissingLookups};
use crate::path::SitePath;
use crate::rules::HtmlMode;

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

/// UrlResolution of a URL in the served deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UrlResolution<'a> {
    /// This file, at this URL.
    Serve(SitePath, &'a LocatedFile),
    /// A page whose URL is this one: an absolute path, percent-encoded, never starting with `//`.
    Redirect(String),
    /// No file of the deploy.
    Nothing,
}

/// Returns the meaning of a URL, once the lookups of all its candidates are complete.
pub(super) fn meaning<'a>(
    mode: HtmlMode,
    asked: &RequestedPath,
    known: &'a Lookups,
) -> Result<UrlResolution<'a>, MissingLookups> {
    Ok(match candidate(mode, asked, known)? {
        Some((Candidate { file, at: None }, held)) => UrlResolution::Serve(file, held),
        Some((Candidate { at: Some(at), .. }, _)) => UrlResolution::Redirect(location(&at)),
        None => UrlResolution::Nothing,
    })
}

/// The file that a URL names, under this URL or another one.
pub(super) fn file<'a>(
    mode: HtmlMode,
    asked: &RequestedPath,
    known: &'a Lookups,
) -> Result<Option<(SitePath, &'a LocatedFile)>, MissingLookups> {
    let found = candidate(mode, asked, known)?;
    Ok(found.map(|(candidate, held)| (candidate.file, held)))
}

/// The URLs to which a URL may redirect.
pub(super) fn other_urls(mode: HtmlMode, asked: &RequestedPath) -> Vec<String> {
    let all = candidates(mode, asked).into_iter();
    all.filter_map(|candidate| candidate.at.map(|at| location(&at)))
        .collect()
}

fn candidate<'a>(
    mode: HtmlMode,
    asked: &RequestedPath,
    known: &'a Lookups,
) -> Result<Option<(Candidate, &'a LocatedFile)>, MissingLookups> {
    // Most requests are for assets that exist: they cost one lookup.
    if let Some(path) = asked.asset() {
        known.require([served(path.clone())])?;
        if let Some(held) = known.served(path) {
            let file = path.clone();
            return Ok(Some((Candidate { file, at: None }, held)));
        }
    }
    let candidates = candidates(mode, asked);
    let rivals = candidates
        .iter()
        .flat_map(|candidate| candidate.rivals(mode));
    let files = candidates.iter().map(|candidate| candidate.file.clone());
    known.require(files.chain(rivals).map(served))?;
    let found = candidates.into_iter().find_map(|candidate| {
        let held = known.served(&candidate.file)?;
        let is_right = candidate
            .rivals(mode)
            .iter()
            .all(|rival| known.served(rival).is_none());
        is_right.then_some((candidate, held))
    });
    Ok(found)
}

const fn served(path: SitePath) -> Lookup {
    Lookup {
        age: DeployAge::SERVED,
        path,
    }
}

/// A file that a URL may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    file: SitePath,
    /// The file's own URL, if that is another one.
    at: Option<RequestedPath>,
}

impl Candidate {
    /// The files that the file's own URL would serve before it. If one exists, a redirect there
    /// would show another file.
    fn rivals(&self, mode: HtmlMode) -> Vec<SitePath> {
        let at = self.at.as_ref();
        let before = at.map_or(Vec::new(), |at| pages(mode, at));
        let before = before.into_iter().take_while(|page| *page != self.file);
        before.collect()
    }
}

/// The files that a mode serves at a URL, best first.
fn pages(mode: HtmlMode, url: &RequestedPath) -> Vec<SitePath> {
    let names = match (url, mode) {
        (RequestedPath::Root, HtmlMode::Exact)
        | (RequestedPath::Folder(_), HtmlMode::Exact | HtmlMode::NoSlash) => vec![],
        (RequestedPath::Root, _) => vec!["index.html".to_owned()],
        (RequestedPath::Folder(path), HtmlMode::Auto | HtmlMode::Both) => {
            vec![format!("{path}/index.html")]
        }
        (RequestedPath::Folder(path), HtmlMode::Slash) => {
            vec![format!("{path}/index.html"), format!("{path}.html")]
        }
        (RequestedPath::File(path), HtmlMode::Exact | HtmlMode::Slash) => vec![path.to_string()],
        (RequestedPath::File(path), HtmlMode::Auto | HtmlMode::Both) => {
            vec![path.to_string(), format!("{path}.html")]
        }
        (RequestedPath::File(path), HtmlMode::NoSlash) => vec![
            path.to_string(),
            format!("{path}.html"),
            format!("{path}/index.html"),
        ],
    };
    let paths = names.iter().filter_map(|name| SitePath::parse(name).ok());
    paths.collect()
}

/// The files that a URL may mean, best first.
fn candidates(mode: HtmlMode, asked: &RequestedPath) -> Vec<Candidate> {
    let mut list = CandidateList {
        mode,
        all: Vec::new(),
    };
    match asked {
        RequestedPath::Root => list.serve_pages(asked),
        RequestedPath::Folder(path) => list.folder(path.as_str(), asked),
        RequestedPath::File(path) => list.file(path.as_str(), asked),
    }
    list.all
}

struct CandidateList {
    mode: HtmlMode,
    all: Vec<Candidate>,
}

impl CandidateList {
    fn push(&mut self, file: &str, at: Option<RequestedPath>) {
        // A name that is too long for a path belongs to no file.
        let Ok(file) = SitePath::parse(file) else {
            return;
        };
        let candidate = Candidate { file, at };
        if !is_settings(&candidate.file) && !self.all.contains(&candidate) {
            self.all.push(candidate);
        }
    }

    fn serve_pages(&mut self, url: &RequestedPath) {
        for page in pages(self.mode, url) {
            let is_doubled = matches!(url, RequestedPath::File(path) if page != *path)
                && self.mode == HtmlMode::Auto
                && is_doubled(page.as_str());
            if !is_doubled {
                self.push(page.as_str(), None);
            }
        }
    }

    /// Redirects to the page `name`.html, or to the folder of that name.
    fn redirect(&mut self, file: &str, name: &str, shape: PageKind) {
        if self.mode == HtmlMode::Auto && is_doubled(file) {
            return;
        }
        let (name, shape) = match folder_of(name, "index") {
            // The page of a folder has the folder's URL, however it is named.
            Some(folder) if self.mode == HtmlMode::Auto && shape == PageKind::Page => {
                (folder, PageKind::Folder)
            }
            Some(_) | None => (name, shape),
        };
        let at = match (name, SitePath::parse(name)) {
            ("", _) => RequestedPath::Root,
            (_, Ok(path)) => match (self.mode, shape) {
                (HtmlMode::Slash, _) | (HtmlMode::Auto | HtmlMode::Both, PageKind::Folder) => {
                    RequestedPath::Folder(path)
                }
                (HtmlMode::NoSlash | HtmlMode::Exact, _) | (_, PageKind::Page) => {
                    RequestedPath::File(path)
                }
            },
            (_, Err(_)) => return,
        };
        self.push(file, Some(at));
    }

    fn folder(&mut self, path: &str, asked: &RequestedPath) {
        self.serve_pages(asked);
        if self.mode == HtmlMode::Exact {
            return;
        }
        self.redirect(&format!("{path}.html"), path, PageKind::Page);
        self.redirect(&format!("{path}/index.html"), path, PageKind::Folder);
    }

    fn file(&mut self, path: &str, asked: &RequestedPath) {
        match self.mode {
            HtmlMode::Exact => return self.push(path, None),
            HtmlMode::Both => {}
            HtmlMode::Auto | HtmlMode::Slash | HtmlMode::NoSlash => self.spellings(path),
        }
        self.serve_pages(asked);
        self.redirect(&format!("{path}.html"), path, PageKind::Page);
        self.redirect(&format!("{path}/index.html"), path, PageKind::Folder);
    }

    /// The pages whose URL is another one.
    fn spellings(&mut self, path: &str) {
        if let Some(folder) = folder_of(path, "index") {
            self.push(path, None);
            let index = format!("{path}.html");
            let page = (!folder.is_empty()).then(|| format!("{folder}.html"));
            if self.mode == HtmlMode::NoSlash {
                self.redirect_if(page.as_deref(), folder, PageKind::Page);
                self.redirect(&index, folder, PageKind::Folder);
            } else {
                self.redirect(&index, folder, PageKind::Folder);
                self.redirect_if(page.as_deref(), folder, PageKind::Page);
            }
        } else if let Some(folder) = folder_of(path, "index.html") {
            let page = (!folder.is_empty()).then(|| format!("{folder}.html"));
            self.redirect(path, folder, PageKind::Folder);
            if self.mode == HtmlMode::NoSlash {
                self.push(path, None);
            }
            self.redirect_if(page.as_deref(), folder, PageKind::Page);
        } else if let Some(stem) = path.strip_suffix(".html")
            && !stem.is_empty()
        {
            self.redirect(path, stem, PageKind::Page);
            if self.mode != HtmlMode::NoSlash {
                self.push(path, None);
            }
            self.redirect(&format!("{stem}/index.html"), stem, PageKind::Folder);
        }
        // A page whose own URL shows another file keeps its full name.
        self.push(path, None);
    }

    fn redirect_if(&mut self, file: Option<&str>, name: &str, shape: PageKind) {
        if let Some(file) = file {
            self.redirect(file, name, shape);
        }
    }
}

/// Whether a page is that of a name or of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    Page,
    Folder,
}

/// The folder of a path with this last segment; empty at the top.
fn folder_of<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let rest = path.strip_suffix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_suffix('/')
}

/// Whether a name ends in `.html` twice. In the default mode it has no shorter URL.
fn is_doubled(file: &str) -> bool {
    file.ends_with(".html.html")
}

/// Whether a file has settings of the site or of its project. A manifest may contain it, since the
/// server reads rules from it, but no URL means it.
fn is_settings(file: &SitePath) -> bool {
    matches!(file.as_str(), "_headers" | "_redirects" | "_site.toml")
        || matches!(file.name(), ".pmxignore" | "pmx.toml")
}

/// The URL path of a page: `/a/` for `a/index.html`, `/a` for `a.html`. If `a` is a file as well,
/// it has that address, and the page keeps its full name. Only the site's manifest distinguishes
/// the two, so this function returns the shorter one.
pub fn page_address(file: &SitePath) -> String {
    let path = if file.name() == "index.html" {
        SitePath::parse(file.folder()).map_or(RequestedPath::Root, RequestedPath::Folder)
    } else {
        RequestedPath::File(extensionless(file).unwrap_or_else(|| file.clone()))
    };
    location(&path)
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
