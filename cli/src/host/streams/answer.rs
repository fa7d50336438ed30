//! HTTP handler of streams: admits a request, runs it and renders the response.

use std::io::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONNECTION, VARY};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use hyper::body::Incoming;
use pmx_core::problem::Problem;
use pmx_streams::http::{
    Admitted, Get, ListRequest, LiveCursor, LiveMode, STREAMS_PATH, StreamRequest, StreamSettings,
    answer, page_in_gzip, registry_refusal, takes_gzip,
};
use pmx_streams::policy::{ClientId, Counted, Per, RateClass, TimedStep};
use pmx_streams::subscription::http::is_control;
use pmx_streams::{Append, Create, From, Generation, Read, Refusal, StreamName};
use tokio::time::{Instant, sleep_until};

use super::super::any_body::{self, AnyBody};
use super::savepoint::Savepoints;
use super::transaction::Transaction;
use super::{Streams, server_timing};
use crate::host::admission::{Peer, scheme_of};
use crate::host::budget::Reservation;
use crate::host::request_body;

/// An admitted request.
struct AdmittedRequest {
    name: StreamName,
    request: StreamRequest,
    counted: Counted,
}

impl Streams {
    /// Answers a request to the address of a stream, of the list, or of subscriptions.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        head: &Parts,
        body: Incoming,
    ) -> Response<AnyBody> {
        if let Some(path) = head.uri.path().strip_prefix(STREAMS_PATH)
            && is_control(path)
        {
            let answer = self.control(head, path, body).await;
            return self
                .config
                .settings
                .add_common_headers(head, answer.map(any_body::full));
        }
        if ListRequest::is_requested(head) {
            let answer = self.list(head, body).await;
            return self
                .config
                .settings
                .add_common_headers(head, answer.map(any_body::full));
        }
        let answering = self.carry_out(head, body);
        let answer = if self.config.settings.reports_timing(head) {
            server_timing::measured(answering).await
        } else {
            answering.await
        };
        let answer = self.config.settings.add_common_headers(head, answer);
        if head.method == Method::HEAD {
            return answer.map(|_| any_body::empty());
        }
        answer
    }

    async fn carry_out(self: &Arc<Self>, head: &Parts, body: Incoming) -> Response<AnyBody> {
        match self.admitted(head, body).await {
            Ok((admitted, _share)) => {
                let mut answer = self.respond(head, admitted.name, admitted.request).await;
                admitted.counted.write_headers(answer.headers_mut());
                answer
            }
            Err(refusal) => refusal.map(any_body::full),
        }
    }

    /// Admits a request and reads its body. Returns it with its share of the memory, or the
    /// refusal.
    async fn admitted(
        &self,
        head: &Parts,
        mut body: Incoming,
    ) -> Result<(AdmittedRequest, Reservation), Response<Bytes>> {
        let begun = std::time::Instant::now();
        let admitted = self.admit_head(head);
        server_timing::note(TimedStep::Auth, begun);
        let mut admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                request_body::drain(head, body);
                return Err(refusal);
            }
        };
        let limit = admitted.request.body_bytes_max();
        let begun = std::time::Instant::now();
        let mut share = self.body_budget.share();
        let received = request_body::receive(head, &mut body, limit, &mut share).await;
        server_timing::note(TimedStep::Body, begun);
        match received {
            Ok(bytes) => {
                admitted.request = admitted.request.with_body(bytes);
                Ok((admitted, share))
            }
            Err(problem) => {
                request_body::drain(head, body);
                Err(closing_problem(&problem))
            }
        }
    }

    /// Admits a request by its head, before its body is read.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    fn admit_head(&self, head: &Parts) -> Result<AdmittedRequest, Response<Bytes>> {
        let admitted = self.config.settings.admit(head, crate::host::now())?;
        if let Some(refusal) = registry_refusal(&admitted.name, &head.method) {
            return Err(refusal);
        }
        let counted = self.count(head, &admitted);
        if let Some(refusal) = answer::limited(&counted) {
            return Err(refusal);
        }
        let request = StreamRequest::parse(head).map_err(|error| answer::invalid(&error))?;
        Ok(AdmittedRequest {
            name: admitted.name,
            request,
            counted,
        })
    }

    /// Counts a request, if there is a limit.
    fn count(&self, head: &Parts, admitted: &Admitted) -> Counted {
        let Some(limiter) = &self.limiter else {
            return Counted::default();
        };
        let address = || {
            let peer = head.extensions.get::<Peer>();
            peer.map(|peer| ClientId::of_address(peer.0))
        };
        let client = admitted
            .principal
            .client(address)
            .map(|id| (Per::Client, id));
        let stream = Some((Per::Stream, ClientId::of_stream(&admitted.name)));
        let whose: Vec<_> = [client, stream].into_iter().flatten().collect();
        let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.count(RateClass::of(&head.method), &whose, crate::host::now())
    }

    async fn respond(
        self: &Arc<Self>,
        head: &Parts,
        name: StreamName,
        request: StreamRequest,
    ) -> Response<AnyBody> {
        let answered = match request {
            StreamRequest::Create(create) => {
                let address = StreamSettings::address_of(head, scheme_of(head));
                self.create(name, create, &address).await
            }
            StreamRequest::Append(append) => self.append(name, append).await,
            StreamRequest::Delete => self.delete(name).await,
            StreamRequest::Head => self.head(&name).await.map(|view| answer::view(&view)),
            StreamRequest::Get(get) => match get.live {
                LiveMode::CatchUp => self.catch_up(head, &name, get).await,
                LiveMode::LongPoll => self.long_poll(&name, &get).await,
                LiveMode::Sse => match self.events(&name, &get).await {
                    Ok(answer) => return answer,
                    Err(refusal) => Err(refusal),
                },
            },
        };
        let answer = answered.unwrap_or_else(|refusal| answer::refused(&refusal));
        answer.map(any_body::full)
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
        let work = move |it: &Transaction<'_, Savepoints<'_>>| it.create(&name, &call, generation);
        // Readers may wait for an earlier stream of this name.
        let created = self
            .writer
            .transact(bytes, work, move |_| topics.notify(&named));
        Ok(answer::created(&created.await?, address))
    }

    async fn append(&self, name: StreamName, call: Append) -> Result<Response<Bytes>, Refusal> {
        let (topics, named) = (Arc::clone(&self.topics), name.clone());
        let bytes = call.body.len();
        let work = move |it: &Transaction<'_, Savepoints<'_>>| it.append(&name, &call);
        let appended = self
            .writer
            .transact(bytes, work, move |_| topics.notify(&named));
        Ok(answer::appended(&appended.await?, bytes))
    }

    async fn delete(&self, name: StreamName) -> Result<Response<Bytes>, Refusal> {
        let (topics, named) = (Arc::clone(&self.topics), name.clone());
        let work = move |it: &Transaction<'_, Savepoints<'_>>| it.delete(&name);
        let deleted = self
            .writer
            .transact(0, work, move |_| topics.notify(&named));
        deleted.await?;
        Ok(answer::deleted())
    }

    async fn catch_up(
        &self,
        head: &Parts,
        name: &StreamName,
        get: Get,
    ) -> Result<Response<Bytes>, Refusal> {
        let page = self.read(name, get.read).await?;
        let cursor = LiveCursor::at(crate::host::now());
        let mut answer = if takes_gzip(head, &page) {
            let coding = move || Ok(page_in_gzip(&get, &page, cursor, gzip));
            self.run_blocking(coding).await?
        } else {
            answer::page(&get, &page, cursor)
        };
        let vary = HeaderValue::from_static("accept-encoding");
        answer.headers_mut().append(VARY, vary);
        Ok(answer)
    }

    async fn long_poll(&self, name: &StreamName, get: &Get) -> Result<Response<Bytes>, Refusal> {
        let mut changes = self.topics.subscribe(name);
        let mut stop = self.stop.clone();
        let end = Instant::now() + self.config.long_poll;
        let first = self.read(name, get.read).await?;
        let cursor = || LiveCursor::after(get.cursor, crate::host::now(), jitter());
        if first.start != first.end {
            return Ok(answer::page(get, &first, cursor()));
        }
        if first.is_at_end() {
            return Ok(answer::timed_out(first.end, true, cursor()));
        }
        let read = Read {
            from: From::At(first.end),
        };
        loop {
            let begun = std::time::Instant::now();
            let has_changed = tokio::select! {
                () = changes.changed() => true,
                () = sleep_until(end) => false,
                _ = stop.changed() => false,
            };
            server_timing::note(TimedStep::Wait, begun);
            if !has_changed {
                return Ok(answer::timed_out(first.end, false, cursor()));
            }
            let shared = changes.shared(read, self.read_shared(name, read)).await?;
            let page = &shared.page;
            if page.view.generation != first.view.generation {
                return Err(Refusal::Unknown);
            }
            if page.start != page.end {
                return Ok(answer::page(get, page, cursor()));
            }
            if page.is_at_end() {
                return Ok(answer::timed_out(page.end, true, cursor()));
            }
        }
    }
}

/// Compresses bytes with gzip at its fastest level.
fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let written = encoder.write_all(bytes);
    let coded = written.and_then(|()| encoder.finish());
    coded.expect("writing to memory does not fail").into()
}

/// A random number for jitter.
pub(crate) fn jitter() -> u64 {
    // Without randomness there is no jitter, which is harmless.
    random().map_or(0, u64::from_be_bytes)
}

/// A random duration below `most`.
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

/// A problem that closes the connection, because the request's body was not read to its end.
pub(super) fn closing_problem(failure: &Problem) -> Response<Bytes> {
    let mut answer = answer::problem(failure);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
