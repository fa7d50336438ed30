//! Site responses: plans a response, and loads the bytes that the plan names.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::coding::Coding;
use pmx_core::domain::Selector;
use pmx_core::id::SpaceId;
use pmx_core::location::{Codec, Location};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::Backend;
use super::body::{Body, BodyRange, Check, Open, cut};
use super::caches::Form;
use super::live::live;
use super::server::{LivePages, Server};
use super::site_headers::channel_of;
use super::stored::Scope;
use crate::index::IndexError;
use crate::live::Served;
use crate::path::SitePath;
use crate::pointer::Pointer;
use crate::rules::SiteRules;
use crate::site::{
    DIFFERENCE, LocatedFile, Lookup, Lookups, Pages, Plan, PlanBody, ROUNDS_MAX, SiteRequest,
    Snapshot, absent, plan,
};

/// Bodies up to this size are read at once and cached.
const KEPT_BODY_BYTES_MAX: u64 = 256 * 1024;

/// A request to a site, by a client that has seen `min_deploy`.
#[derive(Clone, Copy)]
pub(super) struct SiteQuery<'a> {
    pub(super) space: &'a SpaceName,
    pub(super) selector: &'a Selector,
    pub(super) request: &'a SiteRequest,
    pub(super) min_deploy: Option<u64>,
    pub(super) now: Timestamp,
}

/// A plan, and its inputs.
struct Planned {
    pointer: Pointer,
    request: SiteRequest,
    plan: Plan,
}

impl<B: Backend> Server<B> {
    /// Answers a request to a site.
    pub(super) async fn site(&self, asked: SiteQuery<'_>) -> Result<Response<Body>, Problem> {
        let answer = self.shown(asked).await;
        let is_lost = matches!(&answer, Err(problem) if problem.code == Code::Corrupt);
        if !is_lost {
            return answer;
        }
        // A publish that sends lost content again moves it, also for other deploys.
        let Ok(Some(pointer)) = self.pointer(asked).await else {
            return answer;
        };
        let pointer = self.at_its_place(asked.space, pointer);
        // Over the budget, the reader gets the first answer.
        if let Ok(true) = self.has_moved(asked.space, &pointer, asked.now).await {
            return self.shown(asked).await;
        }
        answer
    }

    async fn shown(&self, asked: SiteQuery<'_>) -> Result<Response<Body>, Problem> {
        let SiteQuery {
            space,
            selector,
            request,
            now,
            ..
        } = asked;
        let mut planned = self.planned(asked, self.pointer(asked).await?).await?;
        let is_missing = planned.as_ref().is_none_or(Planned::is_missing);
        if is_missing
            && request.may_name_a_file()
            && let Some(channel) = channel_of(space, selector)
        {
            let shown = planned.as_ref().map(|planned| &planned.pointer);
            let newer = self.newer_pointer(&channel, shown, now).await?;
            if newer.is_some() {
                planned = self.planned(asked, newer).await?;
            }
        }
        if let Some(planned) = planned {
            return self.sent(asked, planned).await;
        }
        let pages = self.pages(selector, false);
        Ok(bodiless(absent(&request.clone().with_pages(pages))))
    }

    /// Plans the answer of a pointer's deploy.
    async fn planned(
        &self,
        asked: SiteQuery<'_>,
        pointer: Option<Pointer>,
    ) -> Result<Option<Planned>, Problem> {
        let Some(pointer) = pointer else {
            return Ok(None);
        };
        let pointer = self.at_its_place(asked.space, pointer);
        let pages = self.pages(asked.selector, pointer.live);
        let request = self.passed(asked.request).with_pages(pages);
        let snapshot = match asked.selector {
            Selector::Active | Selector::Alias(_) => {
                Snapshot::active(pointer.deploy, pointer.earlier.len())
            }
            Selector::Number(_) => Snapshot::pinned(pointer.deploy),
        };
        let snapshot = snapshot.of_root(pointer.root);
        let scope = Scope::of(asked.space, &pointer, asked.now);
        let rules = self.rules(scope, &pointer).await?;
        let plan = self.plan(scope, &pointer, &request, snapshot, &rules);
        let plan = plan.await?;
        Ok(Some(Planned {
            pointer,
            request,
            plan,
        }))
    }

    async fn sent(
        &self,
        asked: SiteQuery<'_>,
        planned: Planned,
    ) -> Result<Response<Body>, Problem> {
        let Planned {
            pointer,
            request,
            plan,
        } = planned;
        let scope = Scope::of(asked.space, &pointer, asked.now);
        let pages = self.pages(asked.selector, pointer.live);
        let difference = self
            .dictionary_compressed(scope, &pointer, &request, &plan)
            .await?;
        let Plan {
            status,
            mut headers,
            body,
            described,
            rule,
            shown,
            ..
        } = plan;
        if let Some(described) = &described {
            self.describe(scope, described, &mut headers).await?;
        }
        self.name_rule(asked.selector, rule, &mut headers);
        if let Some(difference) = &difference {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(DIFFERENCE));
            headers.insert(CONTENT_LENGTH, difference.len().into());
        }
        let is_page = is_page(status, &headers);
        self.mark_place(
            asked.space,
            asked.selector,
            pointer.deploy,
            is_page,
            &mut headers,
        );
        if pages == Pages::Live && is_page && body == PlanBody::Empty {
            // HEAD does not build the page, so its length is unknown.
            headers.remove(CONTENT_LENGTH);
        }
        let body = match body {
            PlanBody::Blob { .. } if let Some(difference) = difference => Body::Bytes(difference),
            PlanBody::Blob { held, .. } if request.makes_live(&held.entry) => {
                let served = served(pointer.deploy, status, shown.as_ref());
                self.live_page(scope, &held, served, &mut headers).await?
            }
            PlanBody::Page(page) => {
                let page = Bytes::from_static(page.as_bytes());
                live(&page, served(pointer.deploy, status, None), &mut headers)
            }
            PlanBody::Empty => Body::Empty,
            PlanBody::Text(text) => Body::Bytes(Bytes::from_static(text.as_bytes())),
            PlanBody::Blob {
                held,
                coding,
                range,
            } => self.blob(scope, &held, coding, range).await?,
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Whether pages get the live script.
    fn pages(&self, selector: &Selector, is_live: bool) -> Pages {
        match selector {
            Selector::Active if is_live || self.live() == LivePages::All => Pages::Live,
            Selector::Active | Selector::Number(_) => Pages::Plain,
            // Readers of a preview wait for its next deploy.
            Selector::Alias(_) => Pages::Live,
        }
    }

    /// A blob that fits in memory, decoded.
    pub(super) async fn whole_blob(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
    ) -> Result<Bytes, Problem> {
        if is_single(held) && held.entry.size > KEPT_BODY_BYTES_MAX {
            return self.raw(scope, &check_of(scope, held)).await;
        }
        let body = self.blob(scope, held, Coding::Identity, None);
        let (first, pieces) = body.await?.split();
        if pieces.is_empty() {
            return Ok(first);
        }
        let mut whole = Vec::from(first);
        for piece in &pieces {
            self.verify(piece, scope.now).await?;
            whole.extend_from_slice(&self.opened(piece).await?);
        }
        Ok(whole.into())
    }

    async fn pointer(&self, asked: SiteQuery<'_>) -> Result<Option<Pointer>, Problem> {
        let SiteQuery {
            space,
            selector,
            min_deploy: known,
            now,
            ..
        } = asked;
        match (selector, channel_of(space, selector)) {
            (Selector::Number(number), _) => self.numbered(space, *number, now).await,
            (_, Some(channel)) => self.pointer_at_least(&channel, known, now).await,
            (_, None) => Ok(None),
        }
    }

    /// Answers the plan's lookups until the plan is complete.
    async fn plan(
        &self,
        scope: Scope<'_>,
        pointer: &Pointer,
        request: &SiteRequest,
        snapshot: Snapshot,
        rules: &SiteRules,
    ) -> Result<Plan, Problem> {
        let mut known = Lookups::default();
        for _ in 0..=ROUNDS_MAX {
            match plan(request, &snapshot, rules, &known) {
                Ok(plan) => return Ok(plan),
                Err(need) => {
                    for lookup in need.lookups {
                        let held = self.look_up(scope, pointer, &lookup).await?;
                        let held = held.map(|held| rules.typed(&lookup.path, held));
                        known.insert(lookup, held);
                    }
                }
            }
        }
        Err(Problem::new(
            Code::Storage,
            "planning an answer does not come to an end",
        ))
    }

    pub(super) async fn look_up(
        &self,
        scope: Scope<'_>,
        pointer: &Pointer,
        lookup: &Lookup,
    ) -> Result<Option<LocatedFile>, Problem> {
        let at = match lookup.age.count() {
            0 => (pointer.root, pointer.index),
            count => match pointer.earlier.get(count - 1) {
                Some(earlier) => *earlier,
                None => return Ok(None),
            },
        };
        let found = self
            .index()
            .find(self.backend().blobs(), pointer.space, at, &lookup.path);
        match found.await {
            Ok(found) => Ok(found),
            Err(error) => {
                let is_missing = matches!(error, IndexError::Missing { .. });
                let problem = self.index_failed(scope, error).await;
                // The space may have given the earlier deploy up.
                if is_missing && lookup.age.count() > 0 {
                    return Ok(None);
                }
                Err(problem)
            }
        }
    }

    /// The body of a blob in a coding, or of a range of it.
    pub(super) async fn blob(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
        coding: Coding,
        range: Option<(u64, u64)>,
    ) -> Result<Body, Problem> {
        let size = held.entry.size;
        let (first, len) = range.unwrap_or((0, size));
        let keep = first..first.saturating_add(len);
        match held.at.codec {
            _ if len == 0 => Ok(Body::Empty),
            Codec::Stored | Codec::Zstd => self.single(scope, held, coding, keep).await,
            Codec::Parts | Codec::ZstdParts => {
                let pieces = self.parts(scope, held, coding, keep).await?;
                // The platform verifies each later piece before it sends it.
                if let Some(first) = pieces.first() {
                    self.verify(first, scope.now).await?;
                }
                Ok(Body::Pieces(pieces))
            }
        }
    }

    /// Reads a small body at once, through the cache; leaves a large one to the platform.
    async fn single(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
        coding: Coding,
        keep: std::ops::Range<u64>,
    ) -> Result<Body, Problem> {
        let size = held.entry.size;
        let check = check_of(scope, held);
        let (form, bytes) = match (held.at.codec, coding) {
            (Codec::Zstd, Coding::Zstd) => (Form::Stored, held.at.extent.len),
            _ => (Form::Raw, size),
        };
        if bytes <= KEPT_BODY_BYTES_MAX {
            let whole = self.kept(scope, &check, form).await?;
            return Ok(Body::Bytes(match form {
                Form::Stored => whole,
                Form::Raw => {
                    let end = (keep.end as usize).min(whole.len());
                    cut(&whole, (keep.start as usize).min(end)..end)
                }
            }));
        }
        let piece = piece(scope.id, &held.at, keep, size, coding).checked(check);
        self.verify(&piece, scope.now).await?;
        Ok(Body::Pieces(vec![piece]))
    }

    pub(super) async fn opened(&self, piece: &BodyRange) -> Result<Bytes, Problem> {
        let range = piece.range.clone();
        let stored = self.backend().blobs().read(piece.key, range).await?;
        let stored = stored.ok_or_else(|| missing(piece.key))?;
        let opened = self.codecs().decode(|decoder| piece.open(stored, decoder));
        opened.map_err(|error| {
            let detail = format!("decoding a blob in {}: {error}", piece.key);
            Problem::new(Code::Corrupt, detail)
        })
    }
}

impl Planned {
    fn is_missing(&self) -> bool {
        self.plan.status == StatusCode::NOT_FOUND
    }
}

/// Whether an answer is a page, or a 304 for one.
fn is_page(status: StatusCode, headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE);
    status == StatusCode::NOT_MODIFIED
        || media.is_some_and(|media| media.as_bytes().starts_with(b"text/html"))
}

/// The piece of an object with the bytes `keep` of a blob or part of `raw` bytes.
pub(super) fn piece(
    space: SpaceId,
    at: &Location,
    keep: std::ops::Range<u64>,
    raw: u64,
    coding: Coding,
) -> BodyRange {
    let extent = at.extent;
    let key = ObjectKey {
        space,
        object: extent.object,
    };
    let whole = extent.offset..extent.offset.saturating_add(extent.len);
    match (at.codec, coding) {
        (Codec::Zstd, Coding::Identity) => BodyRange {
            key,
            range: whole,
            open: Open::Decode { raw, keep },
            check: None,
        },
        (Codec::Zstd, Coding::Zstd) => BodyRange {
            key,
            range: whole,
            open: Open::AsIs,
            check: None,
        },
        (Codec::Stored | Codec::Parts | Codec::ZstdParts, _) => {
            let range = extent.offset + keep.start..extent.offset + keep.end;
            BodyRange {
                key,
                range,
                open: Open::AsIs,
                check: None,
            }
        }
    }
}

const fn served(deploy: u64, status: StatusCode, shown: Option<&SitePath>) -> Served<'_> {
    let is_missing = status.as_u16() == StatusCode::NOT_FOUND.as_u16();
    Served {
        deploy,
        is_missing,
        shown,
    }
}

/// Whether a blob is stored whole, in one place.
const fn is_single(held: &LocatedFile) -> bool {
    matches!(held.at.codec, Codec::Stored | Codec::Zstd)
}

/// The check of a blob that is stored whole.
pub(super) fn check_of(scope: Scope<'_>, held: &LocatedFile) -> Check {
    Check::of_blob(scope, held.entry.blob, held.entry.size, held.at)
}

/// A plan that sends no blob.
pub(super) fn bodiless(plan: Plan) -> Response<Body> {
    let mut headers = plan.headers;
    let body = match plan.body {
        PlanBody::Text(text) => Body::Bytes(Bytes::from_static(text.as_bytes())),
        PlanBody::Page(page) => {
            let page = Bytes::from_static(page.as_bytes());
            live(&page, served(0, plan.status, None), &mut headers)
        }
        PlanBody::Empty | PlanBody::Blob { .. } => Body::Empty,
    };
    let mut response = Response::new(body);
    *response.status_mut() = plan.status;
    *response.headers_mut() = headers;
    response
}

fn missing(key: ObjectKey) -> Problem {
    Problem::new(
        Code::Corrupt,
        format!("object {key} is missing or too short"),
    )
}

impl From<IndexError> for Problem {
    fn from(error: IndexError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
