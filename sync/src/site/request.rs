//! Site request: the parts of an HTTP request that a plan depends on, parsed once.
//!
//! The server decodes the path exactly once and segment by segment, so that `%2f` never becomes a
//! separator and `%252e` never a dot. Each path has one canonical form (RFC 3986, section 6.2.2).
//! The server normalises any other form, with `%61` for `a` or with `//`, and marks it as respelt.
//! It redirects only to the normalised path, so never to another host. Dot segments are the
//! client's to remove (section 5.2.4), and a backslash is no separator: such a path names no file.

use http::header::{ACCEPT, ACCEPT_LANGUAGE, COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use pmx_core::coding::Accepted;
use pmx_core::country::Country;
use pmx_core::hash::Hash;
use pmx_core::id::{BlobId, Root};
use pmx_core::limits::URL_QUERY_BYTES_MAX;

use super::clean_urls::{RequestedPath, location};
use super::conditional::Conditions;
use super::dictionary::{Dictionaries, Offered};
use super::lookups::LocatedFile;
use super::range::RequestedRange;
use super::spelling::is_canonical;
use crate::limits::URL_PATH_BYTES_MAX;
use crate::manifest::Entry;
use crate::path::{PathFault, SitePath};
use crate::rules::{ClientContext, RuleRequest, names_asset};

/// A request to a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRequest {
    pub(super) verb: Verb,
    pub(super) target: Target,
    /// The query, encoded for a `Location` header.
    pub(super) query: Option<String>,
    pub(super) conditions: Conditions,
    pub(super) range: Option<RequestedRange>,
    pub(super) accepted: Accepted,
    pub(super) pages: Pages,
    /// Whether the request says that a browser shows the answer as a page of its own.
    is_shown: bool,
    /// Whether the client accepts an HTML page as a 404.
    takes_html: bool,
    /// `None` if an intermediary does not pass dictionary responses on.
    pub(super) dictionaries: Option<Dictionaries>,
    /// The path as requested.
    path: Box<str>,
    /// The host, in lower case and without a port.
    host: Box<str>,
    languages: Option<HeaderValue>,
    cookies: Option<HeaderValue>,
    country: Option<Country>,
}

/// Treatment of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Unchanged.
    Plain,
    /// With the live script injected: never as ranges, never compressed, and with separate tags.
    Live,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Head,
    Options,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A path that a file could have.
    Asked(RequestedPath),
    /// Another form of a path that a file could have.
    Respelt(RequestedPath),
    /// A well-formed path that no file can have.
    Nameless,
    /// A path of the server itself.
    Reserved,
    /// A URL that this server does not accept.
    Malformed,
}

impl SiteRequest {
    /// Reads a request.
    ///
    /// `path` is the percent-encoded path of the request line; `query` is the part after the `?`.
    /// `accept_encoding` is the client's own value, which on some hosts differs from `headers`.
    /// Errors of the request appear in its plan.
    pub fn new(
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        accept_encoding: Option<&str>,
    ) -> Self {
        let verb = verb(method);
        let fits = query.is_none_or(|query| query.len() <= URL_QUERY_BYTES_MAX);
        Self {
            verb,
            target: if fits {
                target(path)
            } else {
                Target::Malformed
            },
            query: query
                .filter(|_| fits)
                .map(|query| utf8_percent_encode(query, QUERY).to_string()),
            conditions: Conditions::parse(headers),
            // Section 14.2 of RFC 9110 defines ranges only for GET.
            range: RequestedRange::parse(headers).filter(|_| verb == Verb::Get),
            accepted: Accepted::parse(accept_encoding),
            pages: Pages::Plain,
            is_shown: is_shown(headers),
            takes_html: takes_html(headers),
            dictionaries: Some(Dictionaries::of(headers, accept_encoding, path)),
            path: path.chars().take(URL_PATH_BYTES_MAX).collect(),
            host: Box::default(),
            languages: headers.get(ACCEPT_LANGUAGE).cloned(),
            cookies: headers.get(COOKIE).cloned(),
            country: None,
        }
    }

    /// Adds the host and the client's country, which only the platform knows.
    #[must_use]
    pub fn from_client(self, host: &str, country: Option<Country>) -> Self {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
            if is_port { name } else { host }
        });
        Self {
            host: name.trim_end_matches('.').to_ascii_lowercase().into(),
            country,
            ..self
        }
    }

    /// The parts that hosting rules read.
    pub(super) fn for_rules(&self) -> RuleRequest<'_> {
        RuleRequest {
            host: &self.host,
            path: &self.path,
            client: ClientContext {
                query: self.query.as_deref(),
                languages: self.languages.as_ref(),
                cookies: self.cookies.as_ref(),
                country: self.country.as_ref().map(Country::as_str),
            },
        }
    }

    /// The same request as a GET without conditions, for a method that a site may refuse.
    pub(super) fn as_get(&self) -> Self {
        Self {
            verb: Verb::Get,
            range: None,
            conditions: Conditions::parse(&HeaderMap::new()),
            ..self.clone()
        }
    }

    /// Whether the path is that of an asset.
    pub(super) fn names_asset(&self) -> bool {
        names_asset(&self.path)
    }

    /// Ignores dictionary headers, for a server whose intermediary does not pass such responses on.
    #[must_use]
    pub fn without_dictionaries(self) -> Self {
        let dictionaries = None;
        Self {
            dictionaries,
            ..self
        }
    }

    /// The client's dictionary, if it fits the blob that a plan sends.
    pub(crate) fn offered(&self, sent: &LocatedFile) -> Option<&Offered> {
        self.dictionaries.as_ref()?.offered(sent)
    }

    /// The header that asks the client to store the response as a dictionary, if it can.
    pub(super) fn kept(
        &self,
        root: &Root,
        path: &SitePath,
        held: &LocatedFile,
    ) -> Option<HeaderValue> {
        let dictionaries = self.dictionaries.as_ref()?;
        let is_as_it_lies = !self.makes_live(&held.entry) && self.range.is_none();
        dictionaries
            .kept(root, path, held)
            .filter(|_| is_as_it_lies)
    }

    /// Sets the treatment of pages.
    #[must_use]
    pub const fn with_pages(mut self, pages: Pages) -> Self {
        self.pages = pages;
        self
    }

    /// Whether the server injects the live script into an answer with this file.
    ///
    /// Pages in XML would no longer be well-formed, and a response to a script's `fetch` is a part
    /// of some other page.
    pub(crate) fn makes_live(&self, entry: &Entry) -> bool {
        self.is_shown && self.may_live(entry)
    }

    /// Whether the file is a page that gets the script if the request is for a document.
    pub(super) fn may_live(&self, entry: &Entry) -> bool {
        let media = &entry.media;
        self.pages == Pages::Live
            && media.essence().eq_ignore_ascii_case("text/html")
            && !media.as_str().to_ascii_lowercase().contains("utf-16")
    }

    /// Whether a missing page gets a live 404 page, which waits for a deploy that has it.
    pub(super) fn waits(&self) -> bool {
        self.pages == Pages::Live && self.is_shown && self.takes_html
    }

    /// Whether the request reads a path that a file of some deploy may have.
    pub(crate) const fn may_name_a_file(&self) -> bool {
        matches!(self.verb, Verb::Get | Verb::Head)
            && matches!(self.target, Target::Asked(_) | Target::Respelt(_))
    }

    /// Whether the path ends in `.svgz`: an SVG in gzip, which browsers show only with both
    /// headers.
    pub(super) fn names_gzip(&self) -> bool {
        let Target::Asked(asked) = &self.target else {
            return false;
        };
        let extension = asked.asset().and_then(SitePath::extension);
        extension.is_some_and(|extension| extension.eq_ignore_ascii_case("svgz"))
    }

    /// The id from which the entity tag of an answer with this file is made.
    pub(super) fn tag_of(&self, entry: &Entry) -> BlobId {
        if self.makes_live(entry) {
            let context = "pmx-sync 2026-11 live page tag v2";
            let hash = Hash::derived(context, entry.blob.as_bytes());
            return BlobId::from_bytes(*hash.as_bytes());
        }
        entry.blob
    }
}

/// Whether a URL path belongs to the server on every site: `/_pmx/…` and `/_events`.
///
/// `path` is percent-encoded, and other forms of the same path are reserved as well.
pub fn is_reserved(path: &str) -> bool {
    matches!(target(path), Target::Reserved)
}

/// Characters that a query may contain unencoded; `%` stays, since the server passes a query on
/// unchanged.
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\');

/// Browsers send the purpose of a request (Fetch Metadata); without it, the request may be for a
/// page.
fn is_shown(headers: &HeaderMap) -> bool {
    let dest = headers.get("sec-fetch-dest");
    dest.is_none_or(|dest| matches!(dest.as_bytes(), b"document" | b"iframe" | b"frame"))
}

fn takes_html(headers: &HeaderMap) -> bool {
    let mut accept = headers.get_all(ACCEPT).iter().peekable();
    let takes = |line: &HeaderValue| {
        let text = line.to_str().unwrap_or_default().to_ascii_lowercase();
        ["text/html", "text/*", "*/*"]
            .iter()
            .any(|media| text.contains(media))
    };
    accept.peek().is_none() || accept.any(takes)
}

fn verb(method: &Method) -> Verb {
    match *method {
        Method::GET => Verb::Get,
        Method::HEAD => Verb::Head,
        Method::OPTIONS => Verb::Options,
        _ => Verb::Other,
    }
}

pub(super) fn target(path: &str) -> Target {
    let illegal = |b: u8| b.is_ascii_control() || b == b'?' || b == b'#';
    let Some(rest) = path.strip_prefix('/') else {
        return Target::Malformed;
    };
    if path.len() > URL_PATH_BYTES_MAX || path.bytes().any(illegal) {
        return Target::Malformed;
    }
    match normalised(rest) {
        Ok(RequestedPath::File(path) | RequestedPath::Folder(path)) if is_for_the_server(&path) => {
            Target::Reserved
        }
        Ok(asked) if is_canonical(&location(&asked), path) => Target::Asked(asked),
        Ok(asked) => Target::Respelt(asked),
        Err(refused) => refused,
    }
}

fn is_for_the_server(path: &SitePath) -> bool {
    let first = path.as_str().split('/').next();
    matches!(first, Some("_pmx" | "_events"))
}

/// Normalises a path: removes empty segments.
fn normalised(rest: &str) -> Result<RequestedPath, Target> {
    if !is_percent_encoded(rest.as_bytes()) {
        return Err(Target::Malformed);
    }
    let mut segments = Vec::new();
    let mut is_folder = false;
    for segment in rest.split('/') {
        let segment = percent_decode_str(segment).decode_utf8();
        let segment = segment.map_err(|_| Target::Malformed)?;
        if segment.contains('/') {
            return Err(Target::Nameless);
        }
        is_folder = segment.is_empty();
        if !is_folder {
            segments.push(segment);
        }
    }
    if segments.is_empty() {
        return Ok(RequestedPath::Root);
    }
    let path = SitePath::parse(&segments.join("/")).map_err(|error| match error.reason {
        PathFault::ControlCharacter | PathFault::NotUtf8 => Target::Malformed,
        PathFault::Empty
        | PathFault::EmptySegment
        | PathFault::DotSegment
        | PathFault::Backslash
        | PathFault::TooLong
        | PathFault::SegmentTooLong
        | PathFault::TooDeep => Target::Nameless,
    })?;
    Ok(if is_folder {
        RequestedPath::Folder(path)
    } else {
        RequestedPath::File(path)
    })
}

/// Whether two hexadecimal digits follow each `%` (RFC 3986, section 2.1).
fn is_percent_encoded(text: &[u8]) -> bool {
    let mut escapes = text.split(|&b| b == b'%').skip(1);
    escapes.all(|after| after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(asked: &RequestedPath) -> String {
        match asked {
            RequestedPath::Root => "root".into(),
            RequestedPath::File(path) => format!("file {path}"),
            RequestedPath::Folder(path) => format!("folder {path}"),
        }
    }

    fn shown(path: &str) -> String {
        match target(path) {
            Target::Asked(asked) => named(&asked),
            Target::Respelt(asked) => format!("respelt {}", named(&asked)),
            Target::Nameless => "nameless".into(),
            Target::Reserved => "reserved".into(),
            Target::Malformed => "malformed".into(),
        }
    }

    #[test]
    fn paths_are_decoded_once() {
        for (path, expected) in [
            ("/", "root"),
            ("/a/b.css", "file a/b.css"),
            ("/a/b/", "folder a/b"),
            ("/a%20b", "file a b"),
            ("/%C3%BC.html", "file \u{fc}.html"),
            ("/\u{fc}.html", "respelt file \u{fc}.html"),
            ("/%252e%252e", "file %2e%2e"),
            ("/100%25", "file 100%"),
            ("/a+b", "file a+b"),
            ("/x;x.css", "file x;x.css"),
            ("/%3F", "file ?"),
            ("/(x)", "file (x)"),
            ("/%28x%29", "file (x)"),
            ("/~a", "file ~a"),
            ("/index.html/x.css", "file index.html/x.css"),
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }

    #[test]
    fn request_marks_other_spellings() {
        for (path, expected) in [
            ("/%61bout", "file about"),
            ("/%3f", "file ?"),
            ("/%c3%bc", "file \u{fc}"),
            ("/%7Ea", "file ~a"),
            ("/a[1]", "file a[1]"),
            ("//", "root"),
            ("///", "root"),
            ("//evil", "file evil"),
            ("/a//b", "file a/b"),
            ("/a//", "folder a"),
        ] {
            assert_eq!(shown(path), format!("respelt {expected}"), "{path}");
        }
    }

    #[test]
    fn hostile_paths_name_nothing() {
        let long = format!("/{}", "a/".repeat(8 * 1024));
        let too_long_for_a_file = format!("/{}", "x".repeat(2_000));
        for (path, expected) in [
            ("/%2e%2e%2f", "nameless"),
            ("/a%2fb", "nameless"),
            ("/%2fevil", "nameless"),
            ("/%5cevil", "nameless"),
            ("/\\evil", "nameless"),
            ("/..", "nameless"),
            ("/../etc/passwd", "nameless"),
            ("/a/b/../c", "nameless"),
            ("/a/.", "nameless"),
            ("/%2e%2e/", "nameless"),
            (&too_long_for_a_file, "nameless"),
            (&long, "malformed"),
            ("", "malformed"),
            ("*", "malformed"),
            ("http://evil/", "malformed"),
            ("/%00", "malformed"),
            ("/a%0d%0aX:y", "malformed"),
            ("/%7f", "malformed"),
            ("/%zz", "malformed"),
            ("/%", "malformed"),
            ("/%f", "malformed"),
            ("/%f/0", "malformed"),
            ("/%ff", "malformed"),
            ("/%c0%af", "malformed"),
            ("/%ed%a0%80", "malformed"),
            ("/a\nb", "malformed"),
            ("/a?b", "malformed"),
            ("/a#b", "malformed"),
        ] {
            let name: String = path.chars().take(60).collect();
            assert_eq!(shown(path), expected, "{name}");
        }
    }

    #[test]
    fn request_for_the_servers_own_paths() {
        for path in [
            "/_pmx/live.js",
            "/_pmx/",
            "/_pmx",
            "/_events",
            "/%5fevents",
            "//_pmx",
        ] {
            assert!(is_reserved(path), "{path}");
        }
        for path in ["/", "/_pmxx", "/a/_pmx/live.js", "/_eventss"] {
            assert!(!is_reserved(path), "{path}");
        }
    }
}
