//! Sites: from a plan to the bytes it names.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::backend::{Backend, Blobs, ObjectKey, Pointer, Pointers, Spaces};
use super::body::{Body, Check, Open, Piece, cut};
use super::events::channel;
use super::fresh::{KNOW, mark};
use super::live::live;
use super::questions::Question;
use super::server::{LivePages, Server};
use super::stored::{Form, Scope};
use crate::channel::Channel;
use crate::code::Code;
use crate::id::SpaceId;
use crate::index::IndexError;
use crate::live::Served;
use crate::location::{Codec, Location};
use crate::name::SpaceName;
use crate::site::{
    Addressed, Coding, DIFFERENCE, Held, Known, Lookup, Pages, Plan, PlanBody, ROUNDS_MAX,
    Selector, SiteRequest, Snapshot, absent, plan,
};
use crate::space::{Command, Reply};
use crate::time::Timestamp;
use crate::wire::Problem;

/// Bodies up to this size are read at once and kept for the next reader.
const KEPT_BODY_BYTES_MAX: u64 = 256 * 1024;

impl<B: Backend> Server<B> {
    /// Answers a request to a site.
    pub(super) async fn site(
        &self,
        space: &SpaceName,
        selector: &Selector,
        request: &SiteRequest,
        known: Option<u64>,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let answer = self.shown(space, selector, request, known, now).await;
        let is_lost = matches!(&answer, Err(problem) if problem.code == Code::Corrupt);
        if !is_lost {
            return answer;
        }
        // A publish that sends lost content again moves it, also for other deploys.
        let Ok(Some(pointer)) = self.pointer(space, selector, known, now).await else {
            return answer;
        };
        let pointer = self.at_its_place(space, pointer);
        // Over the budget, the reader gets the first answer.
        if let Ok(true) = self.has_moved(space, &pointer, now).await {
            return self.shown(space, selector, request, known, now).await;
        }
        answer
    }

    async fn shown(
        &self,
        space: &SpaceName,
        selector: &Selector,
        request: &SiteRequest,
        known: Option<u64>,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let Some(pointer) = self.pointer(space, selector, known, now).await? else {
            let pages = self.pages(selector, false);
            return Ok(bodiless(absent(&request.clone().with_pages(pages))));
        };
        let pointer = self.at_its_place(space, pointer);
        let pages = self.pages(selector, pointer.live);
        let request = &self.passed(request).with_pages(pages);
        let snapshot = match selector {
            Selector::Active => Snapshot::active(pointer.deploy, pointer.earlier.len()),
            Selector::Number(_) | Selector::Alias(_) => Snapshot::pinned(pointer.deploy),
        };
        let snapshot = snapshot.of_root(pointer.root);
        let scope = Scope::of(space, &pointer, now);
        let plan = self.plan(scope, &pointer, request, snapshot).await?;
        let difference = self.difference(scope, &pointer, request, &plan).await?;
        let Plan {
            status,
            mut headers,
            body,
            described,
        } = plan;
        if let Some(described) = &described {
            self.describe(scope, described, &mut headers).await?;
        }
        if let Some(difference) = &difference {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(DIFFERENCE));
            headers.insert(CONTENT_LENGTH, difference.len().into());
        }
        let is_page = is_page(status, &headers);
        self.mark_place(space, selector, pointer.deploy, is_page, &mut headers);
        if pages == Pages::Live && is_page && body == PlanBody::Empty {
            // What HEAD would get is not made, so nobody knows how long it is.
            headers.remove(CONTENT_LENGTH);
        }
        let body = match body {
            PlanBody::Blob { .. } if let Some(difference) = difference => Body::Bytes(difference),
            PlanBody::Blob { held, .. } if request.makes_live(&held.entry) => {
                let served = served(pointer.deploy, status);
                self.live_page(scope, &held, served, &mut headers).await?
            }
            PlanBody::Page(page) => {
                let page = Bytes::from_static(page.as_bytes());
                live(&page, served(pointer.deploy, status), &mut headers)
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
            // Readers of a preview wait for the next one.
            Selector::Alias(_) => Pages::Live,
        }
    }

    /// A blob that fits in memory, decoded.
    pub(super) async fn whole(&self, scope: Scope<'_>, held: &Held) -> Result<Bytes, Problem> {
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

    /// The pointer of a channel: to the deploy that the client knows of, or to a newer one.
    async fn newest(
        &self,
        channel: &Channel,
        known: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<Pointer>, Problem> {
        let pointers = self.backend().pointers();
        let space = &channel.space;
        let read = pointers.read(channel).await?;
        let is_late = |known: &u64| read.as_ref().is_none_or(|read| read.deploy < *known);
        let late = known.filter(is_late);
        let read = read.filter(|read| !read.gone);
        let Some(known) = late else {
            return Ok(read);
        };
        if !self.claims().may_ask(channel, known, now) {
            return Ok(read);
        }
        let alias = channel.alias.clone();
        let deploy = alias.map_or(Selector::Active, Selector::Alias);
        let command = Command::Locate { deploy };
        match self.backend().spaces().call(space, command, now).await {
            Ok(Reply::Pointer(pointer)) => {
                if pointer.deploy < known {
                    self.claims().unconfirmed(channel, known, now);
                }
                pointers.note(channel, &pointer);
                Ok(Some(*pointer))
            }
            Ok(_) => Ok(read),
            Err(problem) if problem.code == Code::NotFound => {
                self.claims().unconfirmed(channel, known, now);
                Ok(read)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Tells a client where it is: the deploy's place in the site's events on a page, the deploy's
    /// token, and to search engines that only the site itself is to be found.
    fn mark_place(
        &self,
        space: &SpaceName,
        selector: &Selector,
        deploy: u64,
        is_page: bool,
        headers: &mut HeaderMap,
    ) {
        match selector {
            Selector::Active | Selector::Alias(_) if is_page => mark(headers, deploy),
            Selector::Active | Selector::Alias(_) | Selector::Number(_) => {}
        }
        if let Some(token) = self.token_of(space, selector, deploy) {
            headers.insert(KNOW, token);
        }
        if *selector != Selector::Active {
            headers.insert(ROBOTS, HeaderValue::from_static("noindex"));
        }
    }

    /// The token by which a client asks for this deploy or a newer one, where there are newer ones.
    fn token_of(&self, space: &SpaceName, selector: &Selector, deploy: u64) -> Option<HeaderValue> {
        let site = Addressed::Site {
            space: space.clone(),
            deploy: selector.clone(),
        };
        let token = self.tokens().token(&channel(&site)?, deploy)?;
        HeaderValue::from_str(&token).ok()
    }

    async fn pointer(
        &self,
        space: &SpaceName,
        selector: &Selector,
        known: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<Pointer>, Problem> {
        let of = |alias| Channel {
            space: space.clone(),
            alias,
        };
        let number = match selector {
            Selector::Active => return self.newest(&of(None), known, now).await,
            Selector::Alias(alias) => {
                return self.newest(&of(Some(alias.clone())), known, now).await;
            }
            Selector::Number(number) => *number,
        };
        self.numbered(space, number, now).await
    }

    /// Where a deploy lies that is asked for by its number. Its URL never shows anything else, so
    /// the space is asked once, within the budget of anonymous questions.
    ///
    /// The site's pointer names a lower bound of the newest number: a number up to it exists, or
    /// never will again, and either answer is kept. A greater one may be a preview's, or newer than
    /// the pointer; only the space knows, and its "no" is not kept.
    pub(super) async fn numbered(
        &self,
        space: &SpaceName,
        number: u64,
        now: Timestamp,
    ) -> Result<Option<Pointer>, Problem> {
        let key = (space.clone(), number);
        if let Some(pinned) = self.pinned().find(&key) {
            return Ok(pinned);
        }
        let site = Channel::from(space.clone());
        let shown = self.backend().pointers().read(&site).await?;
        let is_past = shown.as_ref().is_some_and(|shown| number <= shown.deploy);
        let question = if is_past {
            Question::Known
        } else {
            Question::Guess
        };
        // Names that no pointer knows share one budget, however many a stranger makes up.
        self.questions()
            .take(shown.is_some().then_some(space), question, now)?;
        let command = Command::Locate {
            deploy: Selector::Number(number),
        };
        let found = match self.backend().spaces().call(space, command, now).await {
            Ok(Reply::Pointer(pointer)) => Some(*pointer),
            Ok(_) => None,
            Err(problem) if matches!(problem.code, Code::NotFound | Code::DeployUnknown) => None,
            Err(problem) => return Err(problem),
        };
        if found.is_some() || is_past {
            let bytes = size_of::<Pointer>() + space.as_str().len() + 64;
            self.pinned().insert(key, found.clone(), bytes);
        }
        Ok(found)
    }

    /// Asks the plan what it needs, and looks that up, until there is one.
    async fn plan(
        &self,
        scope: Scope<'_>,
        pointer: &Pointer,
        request: &SiteRequest,
        snapshot: Snapshot,
    ) -> Result<Plan, Problem> {
        let mut known = Known::default();
        for _ in 0..=ROUNDS_MAX {
            match plan(request, &snapshot, &known) {
                Ok(plan) => return Ok(plan),
                Err(need) => {
                    for lookup in need.lookups {
                        let held = self.look_up(scope, pointer, &lookup).await?;
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

    async fn look_up(
        &self,
        scope: Scope<'_>,
        pointer: &Pointer,
        lookup: &Lookup,
    ) -> Result<Option<Held>, Problem> {
        let at = match lookup.generation.count() {
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
            Err(error) => Err(self.index_failed(scope, error).await),
        }
    }

    /// The body of a blob in a coding, or of a range of it.
    pub(super) async fn blob(
        &self,
        scope: Scope<'_>,
        held: &Held,
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
                // What follows the first piece is verified when its turn comes.
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
        held: &Held,
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

    pub(super) async fn opened(&self, piece: &Piece) -> Result<Bytes, Problem> {
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

const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");

/// Whether an answer is a page, or says that the client has it.
fn is_page(status: StatusCode, headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE);
    status == StatusCode::NOT_MODIFIED
        || media.is_some_and(|media| media.as_bytes().starts_with(b"text/html"))
}

/// The piece of an object that is `keep` of a blob or part of `raw` bytes.
pub(super) fn piece(
    space: SpaceId,
    at: &Location,
    keep: std::ops::Range<u64>,
    raw: u64,
    coding: Coding,
) -> Piece {
    let extent = at.extent;
    let key = ObjectKey {
        space,
        object: extent.object,
    };
    let whole = extent.offset..extent.offset.saturating_add(extent.len);
    match (at.codec, coding) {
        (Codec::Zstd, Coding::Identity) => Piece {
            key,
            range: whole,
            open: Open::Decode { raw, keep },
            check: None,
        },
        (Codec::Zstd, Coding::Zstd) => Piece {
            key,
            range: whole,
            open: Open::AsIs,
            check: None,
        },
        (Codec::Stored | Codec::Parts | Codec::ZstdParts, _) => {
            let range = extent.offset + keep.start..extent.offset + keep.end;
            Piece {
                key,
                range,
                open: Open::AsIs,
                check: None,
            }
        }
    }
}

const fn served(deploy: u64, status: StatusCode) -> Served {
    let is_missing = status.as_u16() == StatusCode::NOT_FOUND.as_u16();
    Served { deploy, is_missing }
}

/// Whether a blob lies in one place, whole.
const fn is_single(held: &Held) -> bool {
    matches!(held.at.codec, Codec::Stored | Codec::Zstd)
}

/// What a blob that lies whole has to prove.
pub(super) fn check_of(scope: Scope<'_>, held: &Held) -> Check {
    Check::of_blob(scope, held.entry.blob, held.entry.size, held.at)
}

/// A plan that sends no blob.
pub(super) fn bodiless(plan: Plan) -> Response<Body> {
    let mut headers = plan.headers;
    let body = match plan.body {
        PlanBody::Text(text) => Body::Bytes(Bytes::from_static(text.as_bytes())),
        PlanBody::Page(page) => {
            let page = Bytes::from_static(page.as_bytes());
            live(&page, served(0, plan.status), &mut headers)
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
