//! Stream object: its transactions, its waiting readers, and its alarm.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use pmx_core::problem::Problem;
use pmx_core::schema::SchemaError;
use pmx_core::sql::SqlError;
use pmx_core::time::Timestamp;
use pmx_streams::http::{Get, LiveCursor, LiveMode, StreamRequest, StreamSettings, answer};
use pmx_streams::policy::{Operation, Per, Timing};
use pmx_streams::subscription::{Copying, FanOutBatch};
use pmx_streams::{Create, Engine, Generation, Page, Read, Refusal, RowCache, driver};
use pmx_sync::serve::BodyPermit;
use worker::{Delay, Env, Response, Storage, console_error, web_sys};

use super::alarm::{self, KnownAlarm, RETRY};
use super::analytics::Analytics;
use super::answer::{AnswerBody, sent};
use super::events;
use super::hub_client::HubClient;
use super::limit::Limit;
use super::notify::Notify;
use super::request::ObjectRequest;
use super::rpc::{RpcReply, RpcRequest, StepRequest, StreamClient, respond};
use super::server_timing;
use super::settings::StreamConfig;
use super::source::{self, SharedPage, Source};
use crate::depth::Depth;
use crate::head::announced;
use crate::http::{now, random};
use crate::isolate;
use crate::js_error;
use crate::r2::R2;
use crate::sql::ObjectDatabase;

/// The stream of an object.
pub(crate) struct Stream {
    log: ObjectDatabase,
    row: RowCache,
    /// Whether this instance knows that the tables exist.
    has_tables: Cell<bool>,
    config: StreamConfig,
    limit: Limit,
    pub(super) analytics: Analytics,
    cold: R2,
    streams: StreamClient,
    changes: Notify,
    tail: RefCell<Option<Rc<SharedPage>>>,
    listeners: Cell<usize>,
    alarm: Cell<KnownAlarm>,
    pub(super) hub: HubClient,
    pub(crate) depth: Depth,
}

/// The key of the object's stream.
const KEY: i64 = 1;

type Answer<B = AnswerBody> = http::Response<B>;

impl Stream {
    /// Opens the stream, which need not exist yet.
    pub(crate) fn open(storage: Storage, env: &Env, name: Option<&str>) -> Result<Self, Problem> {
        let config = StreamConfig::of(env)?;
        let depth = Depth::default();
        Ok(Self {
            log: ObjectDatabase::new(storage),
            row: RowCache::default(),
            has_tables: Cell::new(false),
            limit: Limit::new(config.settings.rates, Per::Stream),
            analytics: Analytics::of(env),
            config,
            cold: isolate::bucket(env)?,
            streams: StreamClient::new(isolate::streams(env)?, depth.clone()),
            changes: Notify::default(),
            tail: RefCell::default(),
            listeners: Cell::default(),
            alarm: Cell::new(KnownAlarm::Unknown),
            hub: HubClient::new(isolate::hub(env)?, depth.clone(), name),
            depth,
        })
    }

    pub(super) fn engine(&self) -> Engine<'_, ObjectDatabase> {
        Engine::new(&self.log, KEY, &self.config.engine_config)
            .with_hub_registry()
            .with_row_cache(&self.row)
    }

    /// Whether the object has no tables. A read does not create them: otherwise a client that
    /// guesses names would fill the disk.
    fn is_blank(&self) -> Result<bool, SqlError> {
        if !self.has_tables.get() && Engine::is_installed(&self.log)? {
            // An older version may have created them.
            self.install()?;
        }
        Ok(!self.has_tables.get())
    }

    /// Creates or migrates the tables, and saves the name for an alarm that has none.
    fn install(&self) -> Result<(), SchemaError> {
        Engine::install(&self.log)?;
        match self.hub.name() {
            Some(name) => Engine::save_name(&self.log, &name)?,
            None => self.hub.set_stored_name(Engine::name_of(&self.log)?),
        }
        self.has_tables.set(true);
        Ok(())
    }

    /// Answers a request that the edge has admitted.
    pub(crate) async fn answer(
        self: &Rc<Self>,
        incoming: &ObjectRequest,
        head: &Parts,
    ) -> Result<web_sys::Response, Problem> {
        let counted = self.limit.of_stream(&head.method);
        let received = match answer::limited(&counted) {
            None => self.receive(incoming, head).await,
            Some(refused) => {
                incoming.drain().await;
                Err(refused)
            }
        };
        let mut answer = match received {
            Ok((request, share)) => {
                let answer = self.respond(request, head).await;
                drop(share);
                answer
            }
            Err(refused) => refused.map(AnswerBody::Bytes),
        };
        if answer.status() != http::StatusCode::TOO_MANY_REQUESTS {
            counted.write_headers(answer.headers_mut());
        }
        let answer = self.config.settings.add_common_headers(head, answer);
        sent(answer, &head.method)
    }

    /// Handles a request, and records metrics and timing.
    async fn respond(self: &Rc<Self>, request: StreamRequest, head: &Parts) -> Answer {
        let (step, operation) = (server_timing::step(&request), Operation::of(&request));
        let begun = now();
        let received = match &request {
            StreamRequest::Append(append) => append.body.len(),
            StreamRequest::Create(_)
            | StreamRequest::Delete
            | StreamRequest::Head
            | StreamRequest::Get(_) => 0,
        };
        self.analytics.learn_name(head);
        let answer = self.handle_request(request, head).await;
        let mut answer = answer.unwrap_or_else(|refusal| refused(&refusal).map(AnswerBody::Bytes));
        let took = server_timing::since(begun);
        if let Some(operation) = operation {
            let sent = match answer.body() {
                AnswerBody::Bytes(bytes) => bytes.len(),
                AnswerBody::Stream(_) => 0,
            };
            let (bytes, status) = (received.max(sent) as u64, answer.status().as_u16());
            let millis = took.as_millis() as u64;
            self.analytics.write(operation, bytes, status, millis);
        }
        if self.config.settings.reports_timing(head) {
            let mut timing = Timing::default();
            timing.add(step, took);
            timing.write_headers(answer.headers_mut());
        }
        answer
    }

    /// Parses a request and reads its body. Returns it with the body's share of the memory.
    async fn receive(
        &self,
        incoming: &ObjectRequest,
        head: &Parts,
    ) -> Result<(StreamRequest, BodyPermit), Answer<Bytes>> {
        let request = match StreamRequest::parse(head) {
            Ok(request) => request,
            Err(error) => {
                incoming.drain().await;
                return Err(answer::invalid(&error));
            }
        };
        let limit = request.body_bytes_max();
        let announced = announced(&head.headers);
        let share = isolate::room(&incoming.request, announced, limit).map_err(|problem| {
            incoming.discard();
            answer::problem(&problem)
        })?;
        let body = incoming.body(announced, limit).await;
        let body = body.map_err(|problem| answer::problem(&problem))?;
        Ok((request.with_body(body), share))
    }

    async fn handle_request(
        self: &Rc<Self>,
        request: StreamRequest,
        head: &Parts,
    ) -> Result<Answer, Refusal> {
        let now = now();
        match (self.is_blank()?, request.makes_stream()) {
            (true, true) => self.install().map_err(SqlError::from)?,
            (true, false) => return Err(Refusal::Unknown),
            (false, _) => {}
        }
        let answer = match request {
            StreamRequest::Create(create) => self.create(&create, head, now).await?,
            StreamRequest::Append(append) => {
                let after = self.engine().append_alone(&append, now)?;
                self.after_append(after.due, now).await;
                if after.is_report_due {
                    self.report().await;
                }
                answer::appended(&after.appended, append.body.len())
            }
            StreamRequest::Delete => {
                self.engine().atomically(|engine| engine.delete(now))?;
                self.after_write(now).await;
                self.report().await;
                answer::deleted()
            }
            StreamRequest::Head => answer::view(&self.engine().head(now)?),
            StreamRequest::Get(get) => return self.get(get).await,
        };
        Ok(answer.map(AnswerBody::Bytes))
    }

    async fn create(
        &self,
        create: &Create,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Answer<Bytes>, Refusal> {
        let bytes = random().map_err(|problem| Refusal::Storage {
            why: problem.detail,
        })?;
        let generation = Generation::from_random(bytes);
        let engine = self.engine();
        let created = driver::create(&engine, &self.streams, create, now, generation).await;
        // A failed create may have queued jobs.
        self.after_write(now).await;
        self.report().await;
        let scheme = head.uri.scheme_str().unwrap_or("https");
        let address = StreamSettings::address_of(head, scheme);
        Ok(answer::created(&created?, &address))
    }

    async fn get(self: &Rc<Self>, get: Get) -> Result<Answer, Refusal> {
        let answer = match get.live {
            LiveMode::CatchUp => {
                let now = now();
                let page = self.read(&get.read, now).await?;
                answer::page(&get, &page, LiveCursor::at(now))
            }
            LiveMode::LongPoll => source::poll(self, get, self.config.long_poll).await?,
            LiveMode::Sse => return events::begin(self, &get).await,
        };
        Ok(answer.map(AnswerBody::Bytes))
    }

    async fn read(&self, read: &Read, now: Timestamp) -> Result<Page, Refusal> {
        let engine = self.engine();
        while !engine.is_readable()? {
            Delay::from(COLD_PAUSE).await;
        }
        driver::read(&engine, &self.cold, read, now).await
    }

    /// Sets the alarm and notifies readers, after a transaction that may have written anything.
    async fn after_write(&self, now: Timestamp) {
        self.after_commit(self.engine().due(now), now).await;
    }

    /// Sets the alarm and notifies readers after an append, whose due time is known.
    async fn after_append(&self, due: Option<Timestamp>, now: Timestamp) {
        match self.alarm.get() {
            // Earlier jobs are not known yet.
            KnownAlarm::Unknown => self.after_write(now).await,
            KnownAlarm::Known(_) => self.after_commit(Ok(due), now).await,
        }
    }

    async fn after_commit(&self, due: Result<Option<Timestamp>, SqlError>, now: Timestamp) {
        let due =
            due.map_err(|error| js_error::problem("looking at what is left")(error.to_string()));
        let scheduled = match due {
            Ok(due) => self.schedule(due, now).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = scheduled {
            // The transaction is committed; the next one that writes tries again.
            self.alarm.set(KnownAlarm::Unknown);
            console_error!("{problem}");
        }
        if self.listeners.get() > 0 {
            // The runtime delays responses until the write is on disk, but not events.
            if let Err(thrown) = self.log.storage().sync().await {
                console_error!("waiting for the disk: {thrown}");
            }
        }
        self.changes.notify_all();
    }

    /// Sets the alarm, unless it is early enough.
    async fn schedule(&self, due: Option<Timestamp>, now: Timestamp) -> Result<(), Problem> {
        alarm::schedule(&self.alarm, self.log.storage(), due, now).await
    }

    /// Runs the due jobs. Returns whether the object has any state left.
    pub(crate) async fn jobs(&self) -> Result<Contents, Problem> {
        // The alarm has fired, so it is no longer set.
        self.alarm.set(KnownAlarm::Known(None));
        let failed = |error: SqlError| js_error::problem("doing what is left")(error.to_string());
        // This also migrates tables of an older version, and reads the name.
        if self.is_blank().map_err(failed)? {
            return Ok(Contents::Empty);
        }
        let engine = self.engine();
        let reserve = |bytes| isolate::room_for(bytes).ok();
        let jobs = driver::run_jobs(&engine, &self.cold, &self.streams, reserve, now()).await;
        let jobs = jobs.map_err(failed)?;
        for failure in &jobs.failures {
            console_error!("{failure}");
        }
        if engine.head(now()).is_err() {
            // Its readers get its end. Without an end, each notified reader would read, and each
            // read renews the time to live.
            self.changes.notify_all();
        }
        self.report().await;
        let next = engine.due(now()).map_err(failed)?;
        self.schedule(next, now()).await?;
        if next.is_none() && engine.has_no_rows().map_err(failed)? {
            Ok(Contents::Empty)
        } else {
            Ok(Contents::Present)
        }
    }

    /// Deletes all storage, so that a stream that ended costs nothing.
    pub(crate) async fn forget(&self) -> Result<(), Problem> {
        let deleted = self.log.storage().delete_all().await;
        deleted.map_err(js_error::problem("forgetting a stream"))
    }

    /// Sets the alarm again after it failed.
    pub(crate) async fn retry(&self) -> worker::Result<()> {
        self.alarm.set(KnownAlarm::Known(Some(now().after(RETRY))));
        self.log.storage().set_alarm(RETRY).await
    }

    /// Handles an RPC request of another object.
    pub(crate) async fn handle(&self, request: &RpcRequest) -> Result<Response, Problem> {
        let now = now();
        let failed = |error: SqlError| js_error::problem("looking for a stream")(error.to_string());
        if self.is_blank().map_err(failed)? {
            if !request.makes_stream() {
                return respond(request.without_stream());
            }
            self.install()?;
        }
        let step = match request {
            RpcRequest::Step(step) => step,
            RpcRequest::Copy(copying) => return respond(self.copy(copying).await),
        };
        let generation = Generation::from_random(random()?);
        let handled = self
            .engine()
            .atomically(|engine| step.handle(engine, generation, now));
        self.after_write(now).await;
        if let Ok(RpcReply::Appended) = handled {
            self.report().await;
        }
        respond(handled)
    }
}

impl Stream {
    /// Copies messages into another stream.
    async fn copy(&self, copying: &Copying) -> Result<RpcReply, Refusal> {
        let engine = self.engine();
        let read = async |read| driver::peek(&engine, &self.cold, &read, now()).await;
        let FanOutBatch { append, to } = copying.gather(read).await?;
        let request = RpcRequest::Step(StepRequest::Append {
            messages: append.body,
            producer: append.producer,
        });
        match self.streams.send(&copying.target, request).await?? {
            RpcReply::Appended => Ok(RpcReply::Copied(to)),
            other => Err(Refusal::Unavailable {
                why: format!("{} answers another question: {other:?}", copying.target),
            }),
        }
    }
}

/// Whether an object has any state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// It has a stream, or jobs of one that ended.
    Present,
    /// It has neither.
    Empty,
}

/// Interval at which a test polls until all rows are in segments.
const COLD_PAUSE: Duration = Duration::from_millis(5);

impl Source for Stream {
    type Failure = Refusal;

    fn changes(&self) -> &Notify {
        &self.changes
    }

    fn listeners(&self) -> &Cell<usize> {
        &self.listeners
    }

    fn served(&self, sent: u64, millis: u64) {
        self.analytics.write(Operation::Live, sent, 200, millis);
    }

    async fn read_shared(&self, read: Read) -> Result<Rc<SharedPage>, Refusal> {
        let version = self.changes.version();
        let known = self.tail.borrow().clone();
        if let Some(shared) = known.filter(|it| it.is_of(version, read)) {
            return Ok(shared);
        }
        let page = self.read(&read, now()).await?;
        let shared = Rc::new(SharedPage::new(version, read, page));
        // A reader that catches up is alone at its offset.
        if shared.page.is_up_to_date() {
            self.tail.replace(Some(Rc::clone(&shared)));
        }
        Ok(shared)
    }
}

fn refused(refusal: &Refusal) -> Answer<Bytes> {
    if let Refusal::Storage { why } | Refusal::Unavailable { why } = refusal {
        console_error!("{why}");
    }
    answer::refused(refusal)
}
