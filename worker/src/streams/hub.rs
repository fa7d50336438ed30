//! Hub object: ingests reports of streams, answers subscribers, and performs the effects.
//!
//! Transactions are synchronous, and their effects run in the background: no report and no request
//! waits for a webhook, a wake stream or the registry. A request that creates a subscription waits
//! until the hub has asked the matching streams to report their tails.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::request::Parts;
use pmx_core::crossing::arrived;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql as _, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::http::{ListRequest, ListedStream, STREAMS_PATH, answer, listed};
use pmx_streams::hub::{Hub, RegistryBatch, TrackRequest};
use pmx_streams::limits::SUBSCRIPTION_BODY_BYTES_MAX;
use pmx_streams::subscription::{
    Copying, Effect, EffectOutcome, PatternCache, PlatformAction, RequiredTails,
    SubscriptionRefusal, SubscriptionResponse, http as subscriptions,
};
use pmx_streams::{StreamName, registry};
use pmx_sync::site::Hosts;
use worker::wasm_bindgen_futures::spawn_local;
use worker::{Env, Request, Response, Storage, console_error};

use super::alarm::{self, KnownAlarm, RETRY};
use super::answer::{AnswerBody, response};
use super::connections::{Connection, Connections};
use super::hub_client::{HubRequest, HubResponse};
use super::index::StreamIndex;
use super::rpc::{RpcReply, RpcRequest, StepRequest, StreamClient};
use super::settings::StreamConfig;
use super::single_flight::SingleFlight;
use super::webhook::Webhook;
use crate::crossing;
use crate::depth::Depth;
use crate::http::{body, now, random};
use crate::isolate;
use crate::js_error;
use crate::sql::ObjectDatabase;

/// The hub object.
pub(crate) struct HubObject {
    database: ObjectDatabase,
    patterns: PatternCache,
    config: StreamConfig,
    hosts: Hosts,
    streams: StreamClient,
    alarm: Cell<KnownAlarm>,
    /// The required tails of requests that are not answered yet.
    pending: RefCell<BTreeMap<u64, RequiredTails>>,
    next: Cell<u64>,
    sending: SingleFlight,
    index: Option<StreamIndex>,
    indexing: SingleFlight,
    webhooks: Rc<Connections>,
    pub(crate) depth: Depth,
}

impl HubObject {
    /// Opens the hub.
    pub(crate) fn open(storage: Storage, env: &Env) -> Result<Self, Problem> {
        let database = ObjectDatabase::new(storage);
        Hub::install(&database, random()?)?;
        let depth = Depth::default();
        Ok(Self {
            database,
            patterns: PatternCache::default(),
            config: StreamConfig::of(env)?,
            hosts: isolate::hosts(env)?,
            streams: StreamClient::new(isolate::streams(env)?, depth.clone()),
            alarm: Cell::new(KnownAlarm::Unknown),
            pending: RefCell::default(),
            next: Cell::default(),
            sending: SingleFlight::default(),
            index: StreamIndex::of(env),
            indexing: SingleFlight::default(),
            webhooks: Rc::default(),
            depth,
        })
    }

    /// Ingests a report of a stream.
    pub(crate) async fn ingest(self: &Rc<Self>, request: &Bytes) -> Result<Response, Problem> {
        let doing = "ingesting a report of a stream";
        let request: HubRequest =
            arrived(request).map_err(|foreign| foreign.into_problem(doing))?;
        let pending: Vec<RequiredTails> = self.pending.borrow().values().cloned().collect();
        let now = now();
        let ack = self.transaction(|hub| hub.ingest(&request.name, &request.update, &pending, now));
        let ack = ack.map_err(failed(doing))?;
        self.after_commit(now).await;
        crossing::response(HubResponse { ack }).map_err(js_error::problem(doing))
    }

    /// Answers a request that the edge has admitted.
    pub(crate) async fn answer(
        self: &Rc<Self>,
        request: &Request,
        head: &Parts,
    ) -> Result<Response, Problem> {
        let answer = if ListRequest::is_requested(head) {
            self.list(head).await
        } else {
            match body(request, SUBSCRIPTION_BODY_BYTES_MAX).await {
                Ok(body) => subscriptions::respond(self.handle(head, &body).await),
                Err(problem) => answer::problem(&problem),
            }
        };
        let answer = self
            .config
            .settings
            .add_common_headers(head, answer.map(AnswerBody::Bytes));
        response(answer, &head.method)
    }

    /// Lists the streams for an operator.
    async fn list(&self, head: &Parts) -> http::Response<Bytes> {
        let listing = match ListRequest::admitted(&self.config.settings, head, now()) {
            Ok(listing) => listing,
            Err(answer) => return answer,
        };
        match self.transaction(|hub| hub.list(&listing)) {
            Ok((names, next)) => {
                let found = RefCell::new(BTreeMap::new());
                for some in names.chunks(LOOKUPS_MAX) {
                    join_all(some.iter().map(|name| self.look_up(name, &found))).await;
                }
                let found = found.into_inner().into_values();
                match found.collect::<Result<Vec<_>, _>>() {
                    Ok(found) => {
                        let streams: Vec<_> = found.into_iter().flatten().collect();
                        listed(&streams, next.as_ref())
                    }
                    Err(failure) => answer::problem(&js_error::problem(LISTING)(failure)),
                }
            }
            Err(error) => answer::problem(&failed(LISTING)(error)),
        }
    }

    /// Looks up the properties of a stream, if it exists.
    async fn look_up(&self, name: &StreamName, found: &RefCell<Lookups>) {
        let request = RpcRequest::Step(StepRequest::Look);
        let outcome = match self.streams.send(name, request).await {
            Ok(Ok(RpcReply::Seen(view))) => {
                Ok(view.map(|view| ListedStream::new(name.clone(), &view)))
            }
            Ok(Ok(other)) => Err(format!("it answers another question: {other:?}")),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(error) => Err(error.to_string()),
        };
        found.borrow_mut().insert(name.clone(), outcome);
    }

    /// Handles a request to the subscriptions.
    async fn handle(
        self: &Rc<Self>,
        head: &Parts,
        body: &Bytes,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        let scheme = head.uri.scheme_str().unwrap_or("https");
        let base_url = subscriptions::base_url(head, scheme, self.config.url.as_deref())?;
        let policy = self.config.webhooks;
        let path = head.uri.path().strip_prefix(STREAMS_PATH).unwrap_or("");
        let claimable = subscriptions::claimable(&self.config.settings, head, path, now())?;
        let context = subscriptions::RequestContext {
            base_url: &base_url,
            policy,
            // A Worker's request to its own zone does not reach the Worker.
            own_domain: Some(self.hosts.domain()),
            claimable: &claimable,
        };
        let request = subscriptions::parse(&head.method, path, &head.headers, body, &context)?;
        let required = self.transaction(|hub| hub.required_tails(&request))?;
        let _pending = self.register_pending(&required);
        let to_track = self.transaction(|hub| hub.streams_to_track(&required, now()))?;
        self.follow(&to_track).await;
        let now = now();
        let handle = |database: &ObjectDatabase| self.hub(database)?.handle(&request, now);
        let response = self.database.atomically(handle);
        // Also after a refusal: the hub may have to ask more streams.
        self.after_commit(now).await;
        response
    }

    /// Runs the alarm: asks overdue streams, and begins due effects.
    pub(crate) async fn wake(self: &Rc<Self>) -> Result<(), Problem> {
        // The alarm has fired, so it is no longer set.
        self.alarm.set(KnownAlarm::Known(None));
        let overdue_tracking = self.transaction(|hub| hub.overdue_tracking(now()));
        let overdue_tracking = overdue_tracking.map_err(failed("looking for streams to follow"))?;
        self.follow(&overdue_tracking).await;
        self.after_commit(now()).await;
        Ok(())
    }

    /// Sets the alarm again after it failed.
    pub(crate) async fn retry(&self) -> worker::Result<()> {
        self.alarm.set(KnownAlarm::Known(Some(now().after(RETRY))));
        self.database.storage().set_alarm(RETRY).await
    }

    /// Runs a transaction: it commits as a whole or rolls back.
    fn transaction<T>(
        &self,
        body: impl FnOnce(&Hub<'_, ObjectDatabase>) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.database
            .atomically(|database| body(&self.hub(database)?))
    }

    fn hub<'a>(&self, database: &'a ObjectDatabase) -> Result<Hub<'a, ObjectDatabase>, SqlError> {
        let hub = Hub::open(database)?.with_cache(&self.patterns);
        Ok(hub.with_index(self.index.is_some()))
    }

    /// Begins the effects of a transaction and sets the alarm, without a wait in between. At the
    /// end of a deep chain of calls, it leaves the effects to the alarm, which begins a new chain.
    async fn after_commit(self: &Rc<Self>, now: Timestamp) {
        let capacity = self.webhooks.capacity(now);
        let is_deep = self.depth.is_deep();
        let due = self.transaction(|hub| {
            let effects = if is_deep {
                Vec::new()
            } else {
                hub.work(now, capacity)?
            };
            let due = hub.due(now, capacity.without(&effects))?;
            Ok((effects, due))
        });
        let set = match due {
            Ok((effects, due)) => {
                for effect in effects {
                    let connection = self.webhooks.open(&effect, now);
                    self.spawn(Rc::clone(self).perform(effect, connection));
                }
                self.schedule(due, now).await
            }
            Err(error) => Err(failed("looking at what is left")(error)),
        };
        if let Err(problem) = set {
            // The next transaction tries again.
            self.alarm.set(KnownAlarm::Unknown);
            console_error!("{problem}");
        }
        if is_deep {
            return;
        }
        self.spawn(Rc::clone(self).send_to_registry());
        if self.index.is_some() {
            self.spawn(Rc::clone(self).write_index());
        }
    }

    /// Runs work of this object in the background.
    #[expect(clippy::unused_self, reason = "the work is this object's")]
    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        let work: Pin<Box<dyn Future<Output = ()>>> = Box::pin(work);
        spawn_local(work);
    }

    /// Sets the alarm, unless it is early enough.
    async fn schedule(&self, due: Option<Timestamp>, now: Timestamp) -> Result<(), Problem> {
        alarm::schedule(&self.alarm, self.database.storage(), due, now).await
    }

    /// Asks streams to report their tails from now on.
    async fn follow(&self, to_track: &TrackRequest) {
        let follow = |name| self.follow_one(name, to_track.round);
        join_all(to_track.streams.iter().map(follow)).await;
    }

    async fn follow_one(&self, name: &StreamName, round: u64) {
        let request = RpcRequest::Step(StepRequest::Follow { round });
        let answer = match self.streams.send(name, request).await {
            Ok(Ok(RpcReply::Following(tail))) => Some(tail),
            Ok(Ok(_)) => None,
            Ok(Err(refusal)) => {
                console_error!("following {name}: {refusal}");
                None
            }
            Err(error) => {
                console_error!("following {name}: {error}");
                None
            }
        };
        let recorded = self.transaction(|hub| match answer {
            Some(tail) => hub.tracked(name, tail.as_ref(), now()),
            None => hub.tracking_failed(name, now()),
        });
        if let Err(error) = recorded {
            console_error!("following {name}: {error}");
        }
    }

    /// Performs an effect, and records its outcome.
    async fn perform(self: Rc<Self>, effect: Effect, connection: Option<Connection>) {
        let outcome = match effect.action {
            PlatformAction::Webhook {
                url,
                headers,
                body,
                timeout,
                attempt: _,
            } => {
                let webhook = Webhook {
                    url,
                    headers,
                    body,
                    timeout,
                };
                webhook.send().await
            }
            PlatformAction::Append { stream, message } => self.announce(&stream, &message).await,
            PlatformAction::Copy(copying) => self.copy(copying).await,
        };
        drop(connection);
        let now = now();
        let recorded = self.transaction(|hub| {
            hub.subscriptions()
                .on_delivery_result(&effect.lease, &outcome, now)
        });
        if let Err(error) = recorded {
            console_error!("recording the outcome of a wake: {error}");
        }
        self.after_commit(now).await;
    }

    async fn announce(&self, stream: &StreamName, message: &Bytes) -> EffectOutcome {
        let request = RpcRequest::Step(StepRequest::Append {
            messages: message.clone(),
            producer: None,
        });
        match self.streams.send(stream, request).await {
            Ok(Ok(RpcReply::Appended)) => EffectOutcome::Appended,
            Ok(_) | Err(_) => EffectOutcome::Failed,
        }
    }

    /// Asks a stream to copy messages into another.
    async fn copy(&self, copying: Box<Copying>) -> EffectOutcome {
        let source = copying.source.clone();
        match self.streams.send(&source, RpcRequest::Copy(copying)).await {
            Ok(Ok(RpcReply::Copied(to))) => EffectOutcome::Copied(to),
            Ok(_) | Err(_) => EffectOutcome::Failed,
        }
    }

    /// Sends the queued batches to the registry.
    async fn send_to_registry(self: Rc<Self>) {
        let Some(_flight) = self.sending.try_begin(now()) else {
            return;
        };
        while let Some(batch) = self.next_batch() {
            let append = &batch.append;
            let request = RpcRequest::Step(StepRequest::Register {
                messages: append.body.clone(),
                producer: append.producer.clone(),
            });
            let sent = self.streams.send(&registry::name(), request).await;
            let is_sent = matches!(sent, Ok(Ok(RpcReply::Appended)));
            let recorded = self.transaction(|hub| {
                if is_sent {
                    hub.ack_registry_batch(&batch)
                } else {
                    hub.nack_registry_batch(now())
                }
            });
            if let Err(error) = recorded {
                console_error!("writing to the registry: {error}");
                return;
            }
            if !is_sent {
                console_error!("writing to the registry: {sent:?}");
            }
        }
    }

    /// Writes the queued batches to the index.
    async fn write_index(self: Rc<Self>) {
        let (Some(index), Some(_flight)) = (&self.index, self.indexing.try_begin(now())) else {
            return;
        };
        let failed = |error: SqlError| console_error!("writing the index: {error}");
        while let Some(batch) = self
            .transaction(|hub| hub.index_batch(now()))
            .unwrap_or_else(|error| {
                failed(error);
                None
            })
        {
            let written = index.write(&batch.statements).await;
            let recorded = self.transaction(|hub| match written {
                Ok(()) => hub.ack_index_batch(&batch),
                Err(_) => hub.nack_index_batch(now()),
            });
            if let Err(error) = written {
                console_error!("writing the index: {error}");
            }
            if let Err(error) = recorded {
                return failed(error);
            }
        }
    }

    fn next_batch(&self) -> Option<RegistryBatch> {
        let batch = self.transaction(|hub| hub.registry_batch(now()));
        batch.unwrap_or_else(|error| {
            console_error!("writing to the registry: {error}");
            None
        })
    }

    /// Registers the required tails of a request, until the result is dropped.
    fn register_pending(self: &Rc<Self>, required: &RequiredTails) -> Option<Pending> {
        if *required == RequiredTails::default() {
            return None;
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.pending.borrow_mut().insert(number, required.clone());
        let hub = Rc::clone(self);
        Some(Pending { hub, number })
    }
}

/// The properties of the streams that exist.
type Lookups = BTreeMap<StreamName, Result<Option<ListedStream>, String>>;

const LISTING: &str = "listing streams";

/// Concurrent lookups of streams.
const LOOKUPS_MAX: usize = 50;

/// See [`HubObject::register_pending`].
struct Pending {
    hub: Rc<HubObject>,
    number: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.hub.pending.borrow_mut().remove(&self.number);
    }
}

fn failed(doing: &'static str) -> impl FnOnce(SqlError) -> Problem {
    move |error| js_error::problem(doing)(error.to_string())
}
