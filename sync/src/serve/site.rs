//! Sites: from a plan to the bytes it names.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::backend::{Backend, Blobs, ObjectKey, Pointer, Pointers, Spaces};
use super::body::{Body, Open, Piece};
use super::fresh::mark;
use super::server::{LivePages, Server};
use crate::channel::Channel;
use crate::code::Code;
use crate::id::SpaceId;
use crate::index::IndexError;
use crate::live::{Served, inject};
use crate::location::{Codec, Location};
use crate::name::SpaceName;
use crate::pack::part::{PartTable, Parts};
use crate::site::{
    Coding, DIFFERENCE, Held, Known, Lookup, Pages, Plan, PlanBody, ROUNDS_MAX, Selector,
    SiteRequest, Snapshot, absent, plan,
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
        let Some(pointer) = self.pointer(space, selector, known, now).await? else {
            let pages = match self.live() {
                LivePages::All => Pages::Live,
                LivePages::Chosen => Pages::Plain,
            };
            return Ok(bodiless(absent(&request.clone().with_pages(pages))));
        };
        let pages = match selector {
            Selector::Active if pointer.live || self.live() == LivePages::All => Pages::Live,
            Selector::Active | Selector::Number(_) => Pages::Plain,
            // Whoever looks at a preview waits for the next one.
            Selector::Alias(_) => Pages::Live,
        };
        let request = &self.passed(request).with_pages(pages);
        let snapshot = match selector {
            Selector::Active => Snapshot::active(pointer.deploy, pointer.earlier.len()),
            Selector::Number(_) | Selector::Alias(_) => Snapshot::pinned(pointer.deploy),
        };
        let snapshot = snapshot.of_root(pointer.root);
        let plan = self.plan(&pointer, request, snapshot).await?;
        let difference = self.difference(&pointer, request, &plan).await?;
        let Plan {
            status,
            mut headers,
            body,
        } = plan;
        if let Some(difference) = &difference {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(DIFFERENCE));
            headers.insert(CONTENT_LENGTH, difference.len().into());
        }
        let is_page = is_page(status, &headers);
        match selector {
            Selector::Active | Selector::Alias(_) if is_page => mark(&mut headers, pointer.deploy),
            Selector::Active | Selector::Alias(_) | Selector::Number(_) => {}
        }
        if *selector != Selector::Active {
            // What is not the site itself is none of a search engine's.
            headers.insert(ROBOTS, HeaderValue::from_static("noindex"));
        }
        if pages == Pages::Live && is_page && body == PlanBody::Empty {
            // What HEAD would get is not made, so nobody knows how long it is.
            headers.remove(CONTENT_LENGTH);
        }
        let body = match body {
            PlanBody::Blob { .. } if let Some(difference) = difference => Body::Bytes(difference),
            PlanBody::Blob { held, .. } if request.makes_live(&held.entry) => {
                let page = self.whole(pointer.space, &held).await?;
                live(&page, pointer.deploy, status, &mut headers)
            }
            PlanBody::Page(page) => {
                let page = Bytes::from_static(page.as_bytes());
                live(&page, pointer.deploy, status, &mut headers)
            }
            PlanBody::Empty => Body::Empty,
            PlanBody::Text(text) => Body::Bytes(Bytes::from_static(text.as_bytes())),
            PlanBody::Blob {
                held,
                coding,
                range,
            } => self.blob(pointer.space, &held, coding, range).await?,
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// A blob that fits in memory, decoded.
    pub(super) async fn whole(&self, space: SpaceId, held: &Held) -> Result<Bytes, Problem> {
        let body = self.blob(space, held, Coding::Identity, None);
        Ok(match body.await? {
            Body::Empty => Bytes::new(),
            Body::Bytes(bytes) => bytes,
            Body::Pieces(pieces) => {
                let mut whole = Vec::new();
                for piece in &pieces {
                    whole.extend_from_slice(&self.opened(piece).await?);
                }
                whole.into()
            }
        })
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
        if !self.claims().may_ask(space, now) {
            return Ok(read);
        }
        let alias = channel.alias.clone();
        let deploy = alias.map_or(Selector::Active, Selector::Alias);
        let command = Command::Locate { deploy };
        match self.backend().spaces().call(space, command, now).await {
            Ok(Reply::Pointer(pointer)) => {
                if pointer.deploy < known {
                    self.claims().in_vain(space, now);
                }
                pointers.note(channel, &pointer);
                Ok(Some(*pointer))
            }
            Ok(_) => Ok(read),
            Err(problem) if problem.code == Code::NotFound => {
                self.claims().in_vain(space, now);
                Ok(read)
            }
            Err(problem) => Err(problem),
        }
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
        // What a deploy's own URL shows never changes, so the space is asked once.
        let key = (space.clone(), number);
        if let Some(pointer) = self.pinned().find(&key) {
            return Ok(Some(pointer));
        }
        let command = Command::Locate {
            deploy: Selector::Number(number),
        };
        match self.backend().spaces().call(space, command, now).await {
            Ok(Reply::Pointer(pointer)) => {
                self.pinned()
                    .insert(key, (*pointer).clone(), size_of::<Pointer>());
                Ok(Some(*pointer))
            }
            Ok(_) => Ok(None),
            Err(problem) if matches!(problem.code, Code::NotFound | Code::DeployUnknown) => {
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Asks the plan what it needs, and looks that up, until there is one.
    async fn plan(
        &self,
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
                        let held = self.look_up(pointer, &lookup).await?;
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

    async fn look_up(&self, pointer: &Pointer, lookup: &Lookup) -> Result<Option<Held>, Problem> {
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
        Ok(found.await?)
    }

    /// The body of a blob in a coding, or of a range of it.
    async fn blob(
        &self,
        space: SpaceId,
        held: &Held,
        coding: Coding,
        range: Option<(u64, u64)>,
    ) -> Result<Body, Problem> {
        let size = held.entry.size;
        let (first, len) = range.unwrap_or((0, size));
        let keep = first..first.saturating_add(len);
        match (held.at.codec, coding) {
            _ if len == 0 => Ok(Body::Empty),
            (Codec::Stored, _) => {
                self.whole_or_piece(piece(space, &held.at, keep.clone(), size, coding))
                    .await
            }
            (Codec::Zstd, _) => {
                self.whole_or_piece(piece(space, &held.at, keep, size, coding))
                    .await
            }
            (Codec::Parts | Codec::ZstdParts, _) => {
                let parts = Parts::of(size)?;
                let table = self.part_table(space, held, parts).await?;
                let pieces = parts.touching(keep).filter_map(|(part, within)| {
                    let location = table.location(part)?;
                    Some(piece(space, location, within, part.len(), coding))
                });
                Ok(Body::Pieces(pieces.collect()))
            }
        }
    }

    pub(super) async fn part_table(
        &self,
        space: SpaceId,
        held: &Held,
        parts: Parts,
    ) -> Result<PartTable, Problem> {
        let extent = held.at.extent;
        let key = ObjectKey {
            space,
            object: extent.object,
        };
        let range = extent.offset..extent.offset.saturating_add(extent.len);
        let bytes = self.backend().blobs().read(key, range).await?;
        let bytes = bytes.ok_or_else(|| missing(key))?;
        PartTable::decode(&bytes, parts).map_err(|error| {
            Problem::new(
                Code::Corrupt,
                format!("reading the parts of a blob in {key}: {error}"),
            )
        })
    }

    /// Reads a small body at once, through the cache; leaves a large one to the platform.
    async fn whole_or_piece(&self, piece: Piece) -> Result<Body, Problem> {
        let raw = match &piece.open {
            Open::AsIs => piece.range.end - piece.range.start,
            Open::Decode { raw, .. } => *raw,
        };
        if raw > KEPT_BODY_BYTES_MAX {
            return Ok(Body::Pieces(vec![piece]));
        }
        let cached = (
            piece.key,
            piece.range.start,
            piece.range.end,
            piece.open.clone(),
        );
        if let Some(bytes) = self.bodies().find(&cached) {
            return Ok(Body::Bytes(bytes));
        }
        let opened = self.opened(&piece).await?;
        self.bodies()
            .insert(cached, opened.clone(), opened.len() + 128);
        Ok(Body::Bytes(opened))
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
        },
        (Codec::Zstd, Coding::Zstd) => Piece {
            key,
            range: whole,
            open: Open::AsIs,
        },
        (Codec::Stored | Codec::Parts | Codec::ZstdParts, _) => {
            let range = extent.offset + keep.start..extent.offset + keep.end;
            Piece {
                key,
                range,
                open: Open::AsIs,
            }
        }
    }
}

/// A page with the live script put in.
fn live(page: &Bytes, deploy: u64, status: StatusCode, headers: &mut HeaderMap) -> Body {
    let is_missing = status == StatusCode::NOT_FOUND;
    let page = inject(page, Served { deploy, is_missing });
    headers.insert(CONTENT_LENGTH, page.len().into());
    Body::Bytes(page)
}

/// A plan that sends no blob.
pub(super) fn bodiless(plan: Plan) -> Response<Body> {
    let mut headers = plan.headers;
    let body = match plan.body {
        PlanBody::Text(text) => Body::Bytes(Bytes::from_static(text.as_bytes())),
        PlanBody::Page(page) => {
            let page = Bytes::from_static(page.as_bytes());
            live(&page, 0, plan.status, &mut headers)
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
