//! From a request on a socket to its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as AnyBody;
use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use hyper::body::Incoming;
use pmx_sync::code::Code;
use pmx_sync::stream::http::{
    Call, Cursor, Get, Live, STREAMS_PATH, Settings, answer, is_reserved, name_of,
};
use pmx_sync::stream::subscription::http::is_control;
use pmx_sync::stream::{Append, Create, From, Generation, Read, Refusal, StreamName, registry};
use pmx_sync::wire::Problem;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::savepoint::Batch;
use super::turn::Turn;
use super::{ROOM_KIB, Streams, events};
use crate::host::inbound;

impl Streams {
    /// Answers a request whose address is a stream's.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        head: &Parts,
        body: Incoming,
    ) -> Response<AnyBody> {
        if let Some(path) = head.uri.path().strip_prefix(STREAMS_PATH)
            && is_control(path)
        {
            let answer = self.control(head, path, body).await;
            return self.config.settings.dress(head, answer.map(AnyBody::from));
        }
        let answer = match self.admitted(head, body).await {
            Ok((name, call, _room)) => self.respond(head, name, call).await,
            Err(refusal) => refusal.map(AnyBody::from),
        };
        let answer = self.config.settings.dress(head, answer);
        if head.method == Method::HEAD {
            return answer.map(|_| AnyBody::empty());
        }
        answer
    }

    /// What is asked of which stream, body and all, and its room in memory; or why it is not even
    /// tried.
    async fn admitted(
        &self,
        head: &Parts,
        mut body: Incoming,
    ) -> Result<(StreamName, Call, SemaphorePermit<'_>), Response<Bytes>> {
        let (name, call) = match self.looked_at(head) {
            Ok(asked) => asked,
            Err(refusal) => {
                inbound::drain(head, body);
                return Err(refusal);
            }
        };
        let (announced, limit) = (inbound::announced(head), call.body_bytes_max());
        let collected = match inbound::check(announced, limit) {
            Ok(()) => {
                let kib = announced.unwrap_or(limit as u64).div_ceil(1024);
                let kib = u32::try_from(kib).unwrap_or(ROOM_KIB).min(ROOM_KIB);
                let room = self.room.acquire_many(kib).await;
                let room = room.expect("the semaphore is never closed");
                let bytes = inbound::collect(&mut body, announced, limit).await;
                bytes.map(|bytes| (bytes, room))
            }
            Err(problem) => Err(problem),
        };
        match collected {
            Ok((bytes, room)) => Ok((name, call.with_body(bytes), room)),
            Err(problem) => {
                inbound::drain(head, body);
                Err(broken_off(&problem))
            }
        }
    }

    /// All that can be said before the body is read.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    fn looked_at(&self, head: &Parts) -> Result<(StreamName, Call), Response<Bytes>> {
        let settings = &self.config.settings;
        if let Some(preflight) = settings.preflight(head) {
            return Err(preflight);
        }
        let refused = |problem| answer::problem(&problem);
        settings.authorise(head).map_err(refused)?;
        let missing = || Problem::new(Code::NotFound, "the address is no stream's");
        let name = name_of(&head.uri).ok_or_else(|| refused(missing()))?;
        let name = name.map_err(|error| answer::invalid(&error))?;
        if is_reserved(&name) {
            return Err(refused(missing()));
        }
        if let Some(refusal) = registry::refusal(&name, &head.method) {
            return Err(refusal);
        }
        let call = Call::parse(head).map_err(|error| answer::invalid(&error))?;
        Ok((name, call))
    }

    async fn respond(
        self: &Arc<Self>,
        head: &Parts,
        name: StreamName,
        call: Call,
    ) -> Response<AnyBody> {
        let answered = match call {
            Call::Create(create) => {
                let address = Settings::address_of(head, "http");
                self.create(name, create, &address).await
            }
            Call::Append(append) => self.append(name, append).await,
            Call::Delete => self.delete(name).await,
            Call::Head => self.head(&name).await.map(|view| answer::view(&view)),
            Call::Get(get) => match get.live {
                Live::CatchUp => self.catch_up(&name, &get).await,
                Live::LongPoll => self.long_poll(&name, &get).await,
                Live::Sse => match events::begin(self, &name, &get).await {
                    Ok(answer) => return answer,
                    Err(refusal) => Err(refusal),
                },
            },
        };
        let answer = answered.unwrap_or_else(|refusal| answer::refused(&refusal));
        answer.map(AnyBody::from)
    }

    async fn create(
        &self,
        name: StreamName,
        call: Create,
        address: &str,
    ) -> Result<Response<Bytes>, Refusal> {
        let generation = Generation::from_random(random()?);
        let (topics, named) = (Arc::clone(&self.topics), name.clone());
        let bytes = call.body.len();
        let work = move |turn: &Turn<'_, Batch<'_>>| turn.create(&name, &call, generation);
        // Somebody may wait for what was deleted under this name.
        let created = self
            .writer
            .turn(bytes, work, move |_| topics.changed(&named));
        Ok(answer::created(&created.await?, address))
    }

    async fn append(&self, name: StreamName, call: Append) -> Result<Response<Bytes>, Refusal> {
        let (topics, named) = (Arc::clone(&self.topics), name.clone());
        let bytes = call.body.len();
        let work = move |turn: &Turn<'_, Batch<'_>>| turn.append(&name, &call);
        let appended = self
            .writer
            .turn(bytes, work, move |_| topics.changed(&named));
        Ok(answer::appended(&appended.await?, bytes))
    }

    async fn delete(&self, name: StreamName) -> Result<Response<Bytes>, Refusal> {
        let (topics, named) = (Arc::clone(&self.topics), name.clone());
        let work = move |turn: &Turn<'_, Batch<'_>>| turn.delete(&name);
        let deleted = self.writer.turn(0, work, move |_| topics.changed(&named));
        deleted.await?;
        Ok(answer::deleted())
    }

    async fn catch_up(&self, name: &StreamName, get: &Get) -> Result<Response<Bytes>, Refusal> {
        let page = self.read(name, get.read).await?;
        let cursor = Cursor::at(crate::host::now());
        Ok(answer::page(get, &page, cursor))
    }

    async fn long_poll(&self, name: &StreamName, get: &Get) -> Result<Response<Bytes>, Refusal> {
        let mut changes = self.topics.subscribe(name);
        let mut stop = self.stop.clone();
        let end = Instant::now() + self.config.long_poll;
        let first = self.read(name, get.read).await?;
        let cursor = || Cursor::after(get.cursor, crate::host::now(), jitter());
        if first.start != first.end {
            return Ok(answer::page(get, &first, cursor()));
        }
        if first.is_at_end() {
            return Ok(answer::waited(first.end, true, cursor()));
        }
        let read = Read {
            from: From::At(first.end),
        };
        loop {
            tokio::select! {
                () = changes.changed() => {}
                () = sleep_until(end) => return Ok(answer::waited(first.end, false, cursor())),
                _ = stop.changed() => return Ok(answer::waited(first.end, false, cursor())),
            }
            let shared = changes.shared(read, self.read(name, read)).await?;
            let page = &shared.page;
            if page.view.generation != first.view.generation {
                return Err(Refusal::Unknown);
            }
            if page.start != page.end {
                return Ok(answer::page(get, page, cursor()));
            }
            if page.is_at_end() {
                return Ok(answer::waited(page.end, true, cursor()));
            }
        }
    }
}

/// A number for jitter.
pub(super) fn jitter() -> u64 {
    // Without randomness nothing is jittered, and nothing else is lost.
    random().map_or(0, u64::from_be_bytes)
}

/// Up to how long `most` is, by chance.
pub(super) fn up_to(most: Duration) -> Duration {
    Duration::from_millis(jitter() % (most.as_millis() as u64).max(1))
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::Storage {
        why: format!("drawing randomness: {error}"),
    })?;
    Ok(bytes)
}

/// Where a body was not read to its end, the connection can't go on.
pub(super) fn broken_off(failure: &Problem) -> Response<Bytes> {
    let mut answer = answer::problem(failure);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
