//! From a request to what is to be sent.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use pmx_core::coding::Coding;
use pmx_core::id::Root;
use pmx_core::location::Codec;

use super::clean::{self, Asked, Meaning};
use super::draft::Draft;
use super::known::{Generation, Held, Known, Lookup, Need};
use super::nature::Nature;
use super::request::{SiteRequest, Target, Verb};
use crate::limits::ASSET_RETENTION_DEPLOYS;
use crate::path::SitePath;

/// How often [`plan`] asks for more before it answers: the file itself, the other spellings of its
/// URL, both again in the other Unicode normalisation of a path that is not ASCII, the 404 pages
/// and the deploy before, the other deploys before.
pub const ROUNDS_MAX: usize = 6;

/// Which deploy answers, and how far back its assets may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    deploy: u64,
    earlier: usize,
    root: Option<Root>,
}

impl Snapshot {
    /// The newest deploy of a site or a preview, by number, with `earlier` deploys of it before
    /// that. At most [`ASSET_RETENTION_DEPLOYS`] of them are asked.
    pub fn active(deploy: u64, earlier: usize) -> Self {
        Self {
            deploy,
            earlier: earlier.min(ASSET_RETENTION_DEPLOYS),
            root: None,
        }
    }

    /// A deploy at its own URL: what it lacks is not there.
    pub const fn pinned(deploy: u64) -> Self {
        Self {
            deploy,
            earlier: 0,
            root: None,
        }
    }

    /// The same of a deploy with this root: what it holds can be named as a dictionary.
    #[must_use]
    pub const fn of_root(self, root: Root) -> Self {
        let root = Some(root);
        Self { root, ..self }
    }

    pub(super) const fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// The number of the deploy.
    pub const fn deploy(self) -> u64 {
        self.deploy
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The status.
    pub status: StatusCode,
    /// Every header, also for a HEAD request. `Content-Length` is missing if it is not known.
    pub headers: HeaderMap,
    /// What to send; nothing for a HEAD request.
    pub body: PlanBody,
    /// The blob that the headers describe, if they describe one.
    pub(crate) described: Option<Described>,
}

/// A blob whose headers depend on its bytes as well, which no plan knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// The blob.
    pub(crate) held: Held,
    /// The coding in which it is sent.
    pub(crate) coding: Coding,
    /// Whether its name says that it is compressed, though its type is that of its content.
    pub(crate) is_gzip_by_name: bool,
}

impl Described {
    /// Whether its bytes have to be looked at.
    pub(crate) fn depends_on_bytes(&self) -> bool {
        self.is_gzip_by_name || self.held.entry.media.is_text()
    }

    /// Completes the headers, now that the bytes are known.
    pub(crate) fn complete(&self, nature: Nature, headers: &mut HeaderMap) {
        let media = self.held.entry.media.served(nature.is_utf8);
        if let Ok(media) = HeaderValue::from_str(media.as_str()) {
            headers.insert(CONTENT_TYPE, media);
        }
        if self.is_gzip_by_name && nature.is_gzip {
            let codings = match self.coding {
                Coding::Identity => "gzip",
                Coding::Zstd => "gzip, zstd",
            };
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(codings));
        }
    }
}

impl Plan {
    /// The blob that is sent whole and coded as it lies, if that is what is sent.
    pub(crate) fn coded(&self) -> Option<&Held> {
        match &self.body {
            PlanBody::Blob {
                held,
                coding: Coding::Zstd,
                range: None,
            } if self.status == StatusCode::OK => Some(held),
            PlanBody::Blob { .. } | PlanBody::Text(_) | PlanBody::Page(_) | PlanBody::Empty => None,
        }
    }

    /// Whether it leads to another address.
    fn is_elsewhere(&self) -> bool {
        self.headers.contains_key(LOCATION)
    }

    fn for_verb(self, verb: Verb) -> Self {
        match verb {
            Verb::Get | Verb::Options | Verb::Other => self,
            Verb::Head => Self {
                body: PlanBody::Empty,
                ..self
            },
        }
    }
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanBody {
    /// Nothing.
    Empty,
    /// A short text.
    Text(&'static str),
    /// A short page, which gets the live script put in.
    Page(&'static str),
    /// A blob.
    Blob {
        /// Which blob, and where it lies.
        held: Held,
        /// `Zstd`: its bytes at rest, unchanged. `Identity`: the blob itself, decoded if need be.
        coding: Coding,
        /// First byte and length of the part to send, both of the blob itself; the coding is
        /// `Identity` then.
        range: Option<(u64, u64)>,
    },
}

impl PlanBody {
    /// How many bytes it has, if that is known before they are read: the coded length of a blob in
    /// parts is the sum over its table of parts, and that of a page depends on the live script.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Page(_) => None,
            Self::Text(text) => Some(text.len() as u64),
            Self::Blob {
                range: Some((_, len)),
                ..
            } => Some(*len),
            Self::Blob {
                held,
                coding: Coding::Identity,
                range: None,
            } => Some(held.entry.size),
            Self::Blob {
                held,
                coding: Coding::Zstd,
                range: None,
            } => match held.at.codec {
                Codec::Stored | Codec::Zstd => Some(held.at.extent.len),
                Codec::Parts | Codec::ZstdParts => None,
            },
        }
    }
}

/// Answers a request to a site, or says what has to be looked up first.
pub fn plan(request: &SiteRequest, snapshot: &Snapshot, known: &Known) -> Result<Plan, Need> {
    let draft = Draft::of(snapshot);
    let plan = match request.verb {
        Verb::Options => draft.options(),
        Verb::Other => draft.not_allowed(),
        Verb::Get | Verb::Head => match &request.target {
            Target::Malformed => draft.error(StatusCode::BAD_REQUEST, "400 Bad Request\n"),
            // What no file of the site can be is as missing as any other: the site says so.
            Target::Nameless | Target::Reserved => missing(request, &Asked::Root, snapshot, known)?,
            Target::Asked(asked) => answer(request, asked, snapshot, known)?,
            Target::Respelt(asked) => {
                let plan = answer(request, asked, snapshot, known)?;
                // Whatever conditions make of a page, its other spellings lead to its one address.
                if plan.status == StatusCode::NOT_FOUND || plan.is_elsewhere() {
                    plan
                } else {
                    draft.redirect(clean::location(asked), request.query.as_deref())
                }
            }
        },
    };
    Ok(plan.for_verb(request.verb))
}

/// The answer where there is no site: no such space, alias or deploy, or a host name that can't be
/// one. It says nothing that would tell these apart, and is never cached.
pub fn absent(request: &SiteRequest) -> Plan {
    let draft = Draft::plain();
    let plan = match request.verb {
        Verb::Options => draft.options(),
        Verb::Other => draft.not_allowed(),
        Verb::Get | Verb::Head if request.waits() => draft.not_found_live(),
        Verb::Get | Verb::Head => draft.not_found(),
    };
    plan.for_verb(request.verb)
}

fn answer(
    request: &SiteRequest,
    asked: &Asked,
    snapshot: &Snapshot,
    known: &Known,
) -> Result<Plan, Need> {
    let draft = Draft::of(snapshot);
    match clean::meaning(asked, known)? {
        Meaning::Serve(path, held) => {
            let kept = snapshot.root();
            let kept = kept.and_then(|root| request.kept(root, &path, held));
            Ok(draft.kept_as(held, kept).found(request, asked, held))
        }
        Meaning::Redirect(location) => Ok(draft.redirect(location, request.query.as_deref())),
        Meaning::Nothing => respelled(request, asked, snapshot, known),
    }
}

/// The answer for a path that the deploy lacks as it is spelled: in its other Unicode
/// normalisation the deploy may have it.
fn respelled(
    request: &SiteRequest,
    asked: &Asked,
    snapshot: &Snapshot,
    known: &Known,
) -> Result<Plan, Need> {
    if let Some(other) = asked.respelled() {
        let draft = Draft::of(snapshot);
        match clean::meaning(&other, known)? {
            Meaning::Serve(_, held) => return Ok(draft.found(request, &other, held)),
            Meaning::Redirect(location) => {
                return Ok(draft.redirect(location, request.query.as_deref()));
            }
            Meaning::Nothing => {}
        }
    }
    missing(request, asked, snapshot, known)
}

/// What the deploy lacks: an asset that a page of an earlier deploy may still ask for, or else the
/// nearest 404 page.
fn missing(
    request: &SiteRequest,
    asked: &Asked,
    snapshot: &Snapshot,
    known: &Known,
) -> Result<Plan, Need> {
    let draft = Draft::of(snapshot);
    let pages = lookups_of_pages(asked);
    if let Some(held) = kept(asked, snapshot, known, &pages)? {
        return Ok(draft.found(request, asked, held));
    }
    known.require(pages.iter().cloned())?;
    let nearest = pages.iter().find_map(|page| known.held(page));
    Ok(match nearest {
        Some(held) => draft.not_found_page(request, held),
        None if request.waits() => draft.not_found_live(),
        None => draft.not_found(),
    })
}

fn lookups_of_pages(asked: &Asked) -> Vec<Lookup> {
    let pages = asked.not_found_pages().into_iter();
    let lookups = pages.map(|path| Lookup {
        generation: Generation::SERVED,
        path,
    });
    lookups.collect()
}

/// What the newest earlier deploy that has the path holds there, unless it is a page.
///
/// An asset that is still asked for is nearly always the previous deploy's, and a path that the
/// previous deploy lacks is nearly always nobody's. So the previous one is asked first, together
/// with the 404 pages, and then all others at once.
fn kept<'a>(
    asked: &Asked,
    snapshot: &Snapshot,
    known: &'a Known,
    pages: &[Lookup],
) -> Result<Option<&'a Held>, Need> {
    let Some(path) = asked.asset() else {
        return Ok(None);
    };
    let lookups: Vec<Lookup> = (1..=snapshot.earlier)
        .map(|count| lookup_before(count, path))
        .collect();
    let (first, others) = lookups.split_at(lookups.len().min(1));
    known.require(first.iter().chain(pages).cloned())?;
    let mut held = first.iter().find_map(|lookup| known.held(lookup));
    if held.is_none() {
        known.require(others.iter().cloned())?;
        held = others.iter().find_map(|lookup| known.held(lookup));
    }
    Ok(held.filter(|held| !held.entry.media.is_html()))
}

fn lookup_before(count: usize, path: &SitePath) -> Lookup {
    Lookup {
        generation: Generation::before(count),
        path: path.clone(),
    }
}

#[cfg(test)]
mod tests;
