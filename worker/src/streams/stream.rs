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
use pmx_streams::http::{Call, Cursor, Get, Live, Settings, answer};
use pmx_streams::policy::{Operation, Per, Timing};
use pmx_streams::subscription::{Copying, FanOutBatch};
use pmx_streams::{Create, Engine, Generation, Page, Read, Refusal, RowCache, driver};
use pmx_sync::serve::BodyPermit;
use worker::{Delay, Env, Response, Storage, console_error, web_sys};

use super::alarm::{self, Alarm, RETRY};
use super::analytics::Analytics;
use super::answer::{Body, sent};
use super::events;
use super::hub_client::HubClient;
use super::limit::Limit;
use super::notify::Notify;
use super::request::Incoming;
use super::rpc::{RpcReply, RpcRequest, StepRequest, StreamClient};
use super::server_timing;
use super::settings::StreamConfig;
use super::source::{self, Seen, Source};
use crate::depth::Depth;
use crate::head::announced;
use crate::http::{now, random};
use crate::isolate;
use crate::js_error;
use crate::r2::R2;
use crate::sql::ObjectDatabase;

/// The stream that an object is.
pub(crate) struct Stream {
    log: ObjectDatabase,
    row: RowCache,
    /// Whether they are known to be there.
    has_tables: Cell<bool>,
    config: StreamConfig,
    limit: Limit,
    pub(super) points: Analytics,
    cold: R2,
    peers: StreamClient,
    changes: Notify,
    tail: RefCell<Option<Rc<Seen>>>,
    listeners: Cell<usize>,
    alarm: Cell<Alarm>,
    pub(super) hub: HubClient,
    pub(crate) depth: Depth,
}

/// The one stream of a database.
const KEY: i64 = 1;

type Answer<B = Body> = http::Response<B>;

impl Stream {
    /// Opens the stream, if there is one yet.
    pub(crate) fn open(storage: Storage, env: &Env, name: Option<&str>) -> Result<Self, Problem> {
        let config = StreamConfig::of(env)?;
        let depth = Depth::default();
        Ok(Self {
            log: ObjectDatabase::new(storage),
            row: RowCache::default(),
            has_tables: Cell::new(false),
            limit: Limit::new(config.settings.rates, Per::Stream),
            points: Analytics::of(env),
            config,
            cold: isolate::bucket(env)?,
            peers: StreamClient::new(isolate::streams(env)?, depth.clone()),
            changes: Notify::default(),
            tail: RefCell::default(),
            listeners: Cell::default(),
            alarm: Cell::new(Alarm::Unknown),
            hub: HubClient::new(isolate::hub(env)?, depth.clone(), name),
            depth,
        })
    }

    pub(super) fn engine(&self) -> Engine<'_, ObjectDatabase> {
        Engine::new(&self.log, KEY, &self.config.engine_config)
            .with_hub_registry()
            .with_row_cache(&self.row)
    }

    /// Whether nothing was ever kept here. Asking for a name does not make tables for it, or
    /// a client that guesses names would fill the disk.
    fn is_blank(&self) -> Result<bool, SqlError> {
        if !self.has_tables.get() && Engine::is_installed(&self.log)? {
            // An older version may have made them.
            self.install()?;
        }
        Ok(!self.has_tables.get())
    }

    /// Makes the tables, unless they are there, and keeps the name for an alarm that knows none.
    fn install(&self) -> Result<(), SchemaError> {
        Engine::install(&self.log)?;
        match self.hub.name() {
            Some(name) => Engine::keep_name(&self.log, &name)?,
            None => self.hub.recall(Engine::name_of(&self.log)?),
        }
        self.has_tables.set(true);
        Ok(())
    }

    /// Answers a request that the edge let pass.
    pub(crate) async fn answer(
        self: &Rc<Self>,
        incoming: &Incoming,
        head: &Parts,
    ) -> Result<web_sys::Response, Problem> {
        let counted = self.limit.of_stream(&head.method);
        let asked = match answer::limited(&counted) {
            None => self.asked(incoming, head).await,
            Some(refused) => {
                incoming.drain().await;
                Err(refused)
            }
        };
        let mut answer = match asked {
            Ok((call, share)) => {
                let answer = self.observed(call, head).await;
                drop(share);
                answer
            }
            Err(refused) => refused.map(Body::Bytes),
        };
        if answer.status() != http::StatusCode::TOO_MANY_REQUESTS {
            counted.write_headers(answer.headers_mut());
        }
        let answer = self.config.settings.add_common_headers(head, answer);
        sent(answer, &head.method)
    }

    /// Carries a call out, and tells a client that wants to know what it came to.
    async fn observed(self: &Rc<Self>, call: Call, head: &Parts) -> Answer {
        let (begun, step, what) = (now(), server_timing::step(&call), Operation::of(&call));
        let taken = match &call {
            Call::Append(append) => append.body.len(),
            Call::Create(_) | Call::Delete | Call::Head | Call::Get(_) => 0,
        };
        self.points.learn(head);
        let answer = self.carry_out(call, head).await;
        let mut answer = answer.unwrap_or_else(|refusal| refused(&refusal).map(Body::Bytes));
        let took = server_timing::since(begun);
        if let Some(what) = what {
            let given = match answer.body() {
                Body::Bytes(bytes) => bytes.len(),
                Body::Stream(_) => 0,
            };
            let (bytes, status) = (taken.max(given) as u64, answer.status().as_u16());
            self.points
                .write(what, bytes, status, took.as_millis() as u64);
        }
        if self.config.settings.tells_times(head) {
            let mut timing = Timing::default();
            timing.note(step, took);
            timing.write_headers(answer.headers_mut());
        }
        answer
    }

    /// What is asked, body and all, and the room that the body takes.
    async fn asked(
        &self,
        incoming: &Incoming,
        head: &Parts,
    ) -> Result<(Call, BodyPermit), Answer<Bytes>> {
        let call = match Call::parse(head) {
            Ok(call) => call,
            Err(error) => {
                incoming.drain().await;
                return Err(answer::invalid(&error));
            }
        };
        let limit = call.body_bytes_max();
        let announced = announced(&head.headers);
        let share = isolate::room(&incoming.request, announced, limit).map_err(|problem| {
            incoming.discard();
            answer::problem(&problem)
        })?;
        let body = incoming.body(announced, limit).await;
        let body = body.map_err(|problem| answer::problem(&problem))?;
        Ok((call.with_body(body), share))
    }

    async fn carry_out(self: &Rc<Self>, call: Call, head: &Parts) -> Result<Answer, Refusal> {
        let now = now();
        match (self.is_blank()?, call.makes_stream()) {
            (true, true) => self.install().map_err(SqlError::from)?,
            (true, false) => return Err(Refusal::Unknown),
            (false, _) => {}
        }
        let answer = match call {
            Call::Create(create) => self.create(&create, head, now).await?,
            Call::Append(append) => {
                let after = self.engine().append_alone(&append, now)?;
                self.appended(after.due, now).await;
                if after.is_report_due {
                    self.report().await;
                }
                answer::appended(&after.appended, append.body.len())
            }
            Call::Delete => {
                self.engine().atomically(|engine| engine.delete(now))?;
                self.changed(now).await;
                self.report().await;
                answer::deleted()
            }
            Call::Head => answer::view(&self.engine().head(now)?),
            Call::Get(get) => return self.get(get).await,
        };
        Ok(answer.map(Body::Bytes))
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
        let created = driver::create(&engine, &self.peers, create, now, generation).await;
        // Also if nothing came of it: it may have left something to do.
        self.changed(now).await;
        self.report().await;
        let scheme = head.uri.scheme_str().unwrap_or("https");
        let address = Settings::address_of(head, scheme);
        Ok(answer::created(&created?, &address))
    }

    async fn get(self: &Rc<Self>, get: Get) -> Result<Answer, Refusal> {
        let answer = match get.live {
            Live::CatchUp => {
                let now = now();
                let page = self.read(&get.read, now).await?;
                answer::page(&get, &page, Cursor::at(now))
            }
            Live::LongPoll => source::poll(self, get, self.config.long_poll).await?,
            Live::Sse => return events::begin(self, &get).await,
        };
        Ok(answer.map(Body::Bytes))
    }

    async fn read(&self, read: &Read, now: Timestamp) -> Result<Page, Refusal> {
        let engine = self.engine();
        while !engine.is_readable()? {
            Delay::from(COLD_PAUSE).await;
        }
        driver::read(&engine, &self.cold, read, now).await
    }

    /// What follows a turn that may have written anything.
    async fn changed(&self, now: Timestamp) {
        self.settled(self.engine().due(now), now).await;
    }

    /// What follows an append, of which it is known what is due.
    async fn appended(&self, due: Option<Timestamp>, now: Timestamp) {
        match self.alarm.get() {
            // What there was to do before is not known yet.
            Alarm::Unknown => self.changed(now).await,
            Alarm::Known(_) => self.settled(Ok(due), now).await,
        }
    }

    async fn settled(&self, due: Result<Option<Timestamp>, SqlError>, now: Timestamp) {
        let due =
            due.map_err(|error| js_error::problem("looking at what is left")(error.to_string()));
        let scheduled = match due {
            Ok(due) => self.schedule(due, now).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = scheduled {
            // The turn holds; the next one that writes tries again.
            self.alarm.set(Alarm::Unknown);
            console_error!("{problem}");
        }
        if self.listeners.get() > 0 {
            // The runtime holds back answers until what they tell is on disk. Events are none.
            if let Err(thrown) = self.log.storage().sync().await {
                console_error!("waiting for the disk: {thrown}");
            }
        }
        self.changes.notify_all();
    }

    /// Sets the alarm, unless it comes early enough.
    async fn schedule(&self, due: Option<Timestamp>, now: Timestamp) -> Result<(), Problem> {
        alarm::schedule(&self.alarm, self.log.storage(), due, now).await
    }

    /// Does what is left to do. Returns whether anything is kept here at all.
    pub(crate) async fn jobs(&self) -> Result<Kept, Problem> {
        // It has rung: the next has to be set anew.
        self.alarm.set(Alarm::Known(None));
        let failed = |error: SqlError| js_error::problem("doing what is left")(error.to_string());
        // Its tables may be an older version's, and its name is there.
        if self.is_blank().map_err(failed)? {
            return Ok(Kept::Nothing);
        }
        let engine = self.engine();
        let room = |bytes| isolate::room_for(bytes).ok();
        let jobs = driver::run_jobs(&engine, &self.cold, &self.peers, room, now()).await;
        let jobs = jobs.map_err(failed)?;
        for failure in &jobs.failures {
            console_error!("{failure}");
        }
        if engine.head(now()).is_err() {
            // It is over: its readers need not wait any more. A ring for less would have them read,
            // and each read makes the stream live longer.
            self.changes.notify_all();
        }
        self.report().await;
        let next = engine.due(now()).map_err(failed)?;
        self.schedule(next, now()).await?;
        if next.is_none() && engine.has_no_rows().map_err(failed)? {
            Ok(Kept::Nothing)
        } else {
            Ok(Kept::Something)
        }
    }

    /// Forgets all: nothing is billed for a stream that is none.
    pub(crate) async fn forget(&self) -> Result<(), Problem> {
        let deleted = self.log.storage().delete_all().await;
        deleted.map_err(js_error::problem("forgetting a stream"))
    }

    /// Sets the alarm again after it failed.
    pub(crate) async fn retry(&self) -> worker::Result<()> {
        self.alarm.set(Alarm::Known(Some(now().after(RETRY))));
        self.log.storage().set_alarm(RETRY).await
    }

    /// Answers another object.
    pub(crate) async fn handle(&self, asked: &RpcRequest) -> Result<Response, Problem> {
        let now = now();
        let failed = |error: SqlError| js_error::problem("looking for a stream")(error.to_string());
        if self.is_blank().map_err(failed)? {
            if !asked.makes_stream() {
                return super::rpc::answer(asked.without_stream());
            }
            self.install()?;
        }
        let step = match asked {
            RpcRequest::Step(step) => step,
            RpcRequest::Copy(copying) => return super::rpc::answer(self.copy(copying).await),
        };
        let generation = Generation::from_random(random()?);
        let obliged = self
            .engine()
            .atomically(|engine| step.transaction(engine, generation, now));
        self.changed(now).await;
        if let Ok(RpcReply::Appended) = obliged {
            self.report().await;
        }
        super::rpc::answer(obliged)
    }
}

impl Stream {
    /// Copies messages into another stream.
    async fn copy(&self, copying: &Copying) -> Result<RpcReply, Refusal> {
        let engine = self.engine();
        let read = async |read| driver::peek(&engine, &self.cold, &read, now()).await;
        let FanOutBatch { append, to } = copying.gather(read).await?;
        let asked = RpcRequest::Step(StepRequest::Append {
            messages: append.body,
            producer: append.producer,
        });
        match self.peers.ask(&copying.target, asked).await?? {
            RpcReply::Appended => Ok(RpcReply::Copied(to)),
            other => Err(Refusal::Unavailable {
                why: format!("{} answers another question: {other:?}", copying.target),
            }),
        }
    }
}

/// Whether an object has anything to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A stream, or something to do for one that was.
    Something,
    /// Neither.
    Nothing,
}

/// How long a test that reads from segments only waits for them.
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
        self.points.write(Operation::Live, sent, 200, millis);
    }

    async fn look(&self, read: Read) -> Result<Rc<Seen>, Refusal> {
        let version = self.changes.version();
        let known = self.tail.borrow().clone();
        if let Some(seen) = known.filter(|seen| seen.is_of(version, read)) {
            return Ok(seen);
        }
        let page = self.read(&read, now()).await?;
        let seen = Rc::new(Seen::new(version, read, page));
        // A client that catches up is alone at their place.
        if seen.page.is_up_to_date() {
            self.tail.replace(Some(Rc::clone(&seen)));
        }
        Ok(seen)
    }
}

fn refused(refusal: &Refusal) -> Answer<Bytes> {
    if let Refusal::Storage { why } | Refusal::Unavailable { why } = refusal {
        console_error!("{why}");
    }
    answer::refused(refusal)
}
