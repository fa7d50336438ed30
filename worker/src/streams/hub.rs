//! Hub object: ingests reports of streams, answers subscribers, and performs the effects.
//!
//! Turns are synchronous, and what they leave to do is done beside them: no one who tells or asks
//! waits for a webhook, a wake stream or the registry. A client that subscribes waits until the
//! streams that exist were asked to tell.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use pmx_core::crossing::arrived;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql as _, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::http::{Listed, Listing, STREAMS_PATH, answer, listed};
use pmx_streams::hub::{Hub, RegistryBatch, TrackRequest};
use pmx_streams::limits::SUBSCRIPTION_BODY_BYTES_MAX;
use pmx_streams::subscription::{
    Action, Answer, Copying, Effect, Outcome, PatternCache, Refusal, RequiredTails,
    http as subscriptions,
};
use pmx_streams::{StreamName, registry};
use pmx_sync::site::Hosts;
use worker::wasm_bindgen_futures::spawn_local;
use worker::{Env, Request, Response, Storage, console_error};

use super::alarm::{self, Alarm, RETRY};
use super::answer::{Body, response};
use super::connections::{Connection, Connections};
use super::hub_client::{HubRequest, HubResponse};
use super::index::Index;
use super::notify::join_all;
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

/// The hub that an object is.
pub(crate) struct HubObject {
    log: ObjectDatabase,
    patterns: PatternCache,
    config: StreamConfig,
    hosts: Hosts,
    streams: StreamClient,
    alarm: Cell<Alarm>,
    /// What those need who are about to subscribe.
    pending: RefCell<BTreeMap<u64, RequiredTails>>,
    next: Cell<u64>,
    sending: SingleFlight,
    index: Option<Index>,
    indexing: SingleFlight,
    webhooks: Rc<Connections>,
    pub(crate) depth: Depth,
}

impl HubObject {
    /// Opens the hub.
    pub(crate) fn open(storage: Storage, env: &Env) -> Result<Self, Problem> {
        let log = ObjectDatabase::new(storage);
        Hub::install(&log, random()?)?;
        let depth = Depth::default();
        Ok(Self {
            log,
            patterns: PatternCache::default(),
            config: StreamConfig::of(env)?,
            hosts: isolate::hosts(env)?,
            streams: StreamClient::new(isolate::streams(env)?, depth.clone()),
            alarm: Cell::new(Alarm::Unknown),
            pending: RefCell::default(),
            next: Cell::default(),
            sending: SingleFlight::default(),
            index: Index::of(env),
            indexing: SingleFlight::default(),
            webhooks: Rc::default(),
            depth,
        })
    }

    /// Hears a stream.
    pub(crate) async fn ingest(self: &Rc<Self>, request: &Bytes) -> Result<Response, Problem> {
        let doing = "hearing a stream";
        let request: HubRequest =
            arrived(request).map_err(|foreign| foreign.into_problem(doing))?;
        let pending: Vec<RequiredTails> = self.pending.borrow().values().cloned().collect();
        let now = now();
        let ack = self.transaction(|hub| hub.ingest(&request.name, &request.update, &pending, now));
        let ack = ack.map_err(failed(doing))?;
        self.settle(now).await;
        crossing::response(HubResponse { ack }).map_err(js_error::problem(doing))
    }

    /// Answers a request that the edge let pass.
    pub(crate) async fn answer(
        self: &Rc<Self>,
        request: &Request,
        head: &Parts,
    ) -> Result<Response, Problem> {
        let answer = if Listing::is_asked(head) {
            self.list(head).await
        } else {
            match body(request, SUBSCRIPTION_BODY_BYTES_MAX).await {
                Ok(body) => subscriptions::answer(self.called(head, &body).await),
                Err(problem) => answer::problem(&problem),
            }
        };
        let answer = self
            .config
            .settings
            .add_common_headers(head, answer.map(Body::Bytes));
        response(answer, &head.method)
    }

    /// Answers an operator who wants to know which streams there are.
    async fn list(&self, head: &Parts) -> http::Response<Bytes> {
        let listing = match Listing::admitted(&self.config.settings, head, now()) {
            Ok(listing) => listing,
            Err(answer) => return answer,
        };
        match self.transaction(|hub| hub.listed(&listing)) {
            Ok((names, next)) => {
                let found = RefCell::new(BTreeMap::new());
                for some in names.chunks(ASKED_AT_ONCE) {
                    join_all(some.iter().map(|name| self.look(name, &found))).await;
                }
                let seen = found.into_inner().into_values();
                match seen.collect::<Result<Vec<_>, _>>() {
                    Ok(seen) => {
                        let streams: Vec<_> = seen.into_iter().flatten().collect();
                        listed(&streams, next.as_ref())
                    }
                    Err(failure) => answer::problem(&js_error::problem(LISTING)(failure)),
                }
            }
            Err(error) => answer::problem(&failed(LISTING)(error)),
        }
    }

    /// Sees whether a stream is there, and how it is.
    async fn look(&self, name: &StreamName, found: &RefCell<Looks>) {
        let asked = RpcRequest::Step(StepRequest::Look);
        let seen = match self.streams.ask(name, asked).await {
            Ok(Ok(RpcReply::Seen(view))) => Ok(view.map(|view| Listed::new(name.clone(), &view))),
            Ok(Ok(other)) => Err(format!("it answers another question: {other:?}")),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(error) => Err(error.to_string()),
        };
        found.borrow_mut().insert(name.clone(), seen);
    }

    async fn called(self: &Rc<Self>, head: &Parts, body: &Bytes) -> Result<Answer, Refusal> {
        let scheme = head.uri.scheme_str().unwrap_or("https");
        let root = subscriptions::root(head, scheme, self.config.url.as_deref())?;
        let policy = self.config.webhooks;
        let path = head.uri.path().strip_prefix(STREAMS_PATH).unwrap_or("");
        let claimable = subscriptions::claimable(&self.config.settings, head, path, now())?;
        let context = subscriptions::RequestContext {
            root: &root,
            policy,
            // What a Worker sends to its own zone does not run the Worker.
            own: Some(self.hosts.domain()),
            claimable: &claimable,
        };
        let call = subscriptions::parse(&head.method, path, &head.headers, body, &context)?;
        let needs = self.transaction(|hub| hub.required_tails(&call))?;
        let _pending = self.expect(&needs);
        let to_track = self.transaction(|hub| hub.streams_to_track(&needs, now()))?;
        self.follow(&to_track).await;
        let now = now();
        let answer = self.log.atomically(|log| self.hub(log)?.handle(&call, now));
        // Also if it was refused: streams may be left to ask.
        self.settle(now).await;
        answer
    }

    /// Does what is due.
    pub(crate) async fn wake(self: &Rc<Self>) -> Result<(), Problem> {
        // It has rung: the next has to be set anew.
        self.alarm.set(Alarm::Known(None));
        let overdue_tracking = self.transaction(|hub| hub.overdue_tracking(now()));
        let overdue_tracking = overdue_tracking.map_err(failed("looking for streams to follow"))?;
        self.follow(&overdue_tracking).await;
        self.settle(now()).await;
        Ok(())
    }

    /// Sets the alarm again after it failed.
    pub(crate) async fn retry(&self) -> worker::Result<()> {
        self.alarm.set(Alarm::Known(Some(now().after(RETRY))));
        self.log.storage().set_alarm(RETRY).await
    }

    /// Takes a turn that holds as a whole or not at all.
    fn transaction<T>(
        &self,
        turn: impl FnOnce(&Hub<'_, ObjectDatabase>) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.log.atomically(|log| turn(&self.hub(log)?))
    }

    fn hub<'a>(&self, log: &'a ObjectDatabase) -> Result<Hub<'a, ObjectDatabase>, SqlError> {
        let hub = Hub::open(log)?.with_cache(&self.patterns);
        Ok(hub.with_index(self.index.is_some()))
    }

    /// What follows a turn: nothing waits between it and the alarm. Where a chain of objects led
    /// here, the alarm does it, from which depth begins anew.
    async fn settle(self: &Rc<Self>, now: Timestamp) {
        let room = self.webhooks.room(now);
        let is_deep = self.depth.is_deep();
        let left = self.transaction(|hub| {
            let effects = if is_deep {
                Vec::new()
            } else {
                hub.work(now, room)?
            };
            let due = hub.due(now, room.beside(&effects))?;
            Ok((effects, due))
        });
        let set = match left {
            Ok((effects, due)) => {
                for effect in effects {
                    let connection = self.webhooks.open(&effect, now);
                    self.beside(Rc::clone(self).carry(effect, connection));
                }
                self.schedule(due, now).await
            }
            Err(error) => Err(failed("looking at what is left")(error)),
        };
        if let Err(problem) = set {
            // The next turn tries again.
            self.alarm.set(Alarm::Unknown);
            console_error!("{problem}");
        }
        if is_deep {
            return;
        }
        self.beside(Rc::clone(self).send_to_registry());
        if self.index.is_some() {
            self.beside(Rc::clone(self).write_index());
        }
    }

    /// Does something that no one waits for.
    #[expect(clippy::unused_self, reason = "it is this object's")]
    fn beside(&self, work: impl Future<Output = ()> + 'static) {
        let work: Pin<Box<dyn Future<Output = ()>>> = Box::pin(work);
        spawn_local(work);
    }

    /// Sets the alarm, unless it comes early enough.
    async fn schedule(&self, due: Option<Timestamp>, now: Timestamp) -> Result<(), Problem> {
        alarm::schedule(&self.alarm, self.log.storage(), due, now).await
    }

    /// Asks streams to tell from now on how far they are.
    async fn follow(&self, to_track: &TrackRequest) {
        let ask = |name| self.follow_one(name, to_track.round);
        join_all(to_track.streams.iter().map(ask)).await;
    }

    async fn follow_one(&self, name: &StreamName, round: u64) {
        let asked = RpcRequest::Step(StepRequest::Follow { round });
        let followed = self.streams.ask(name, asked).await;
        let context = match followed {
            Ok(Ok(RpcReply::Following(context))) => Some(context),
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
        let noted = self.transaction(|hub| match context {
            Some(context) => hub.tracked(name, context.as_ref(), now()),
            None => hub.tracking_failed(name, now()),
        });
        if let Err(error) = noted {
            console_error!("following {name}: {error}");
        }
    }

    /// Wakes a worker, and records the result.
    async fn carry(self: Rc<Self>, effect: Effect, connection: Option<Connection>) {
        let outcome = match effect.action {
            Action::Webhook {
                url,
                headers,
                body,
                timeout,
                tried: _,
            } => {
                let webhook = Webhook {
                    url,
                    headers,
                    body,
                    timeout,
                };
                webhook.carry().await
            }
            Action::Append { stream, message } => self.announce(&stream, &message).await,
            Action::Copy(copying) => self.copy(copying).await,
        };
        drop(connection);
        let now = now();
        let noted = self.transaction(|hub| {
            hub.subscriptions()
                .on_delivery_result(&effect.lease, &outcome, now)
        });
        if let Err(error) = noted {
            console_error!("noting how a wake went: {error}");
        }
        self.settle(now).await;
    }

    async fn announce(&self, stream: &StreamName, message: &Bytes) -> Outcome {
        let asked = RpcRequest::Step(StepRequest::Append {
            messages: message.clone(),
            producer: None,
        });
        match self.streams.ask(stream, asked).await {
            Ok(Ok(RpcReply::Appended)) => Outcome::Appended,
            Ok(_) | Err(_) => Outcome::Failed,
        }
    }

    /// Has a stream copy messages to another.
    async fn copy(&self, copying: Box<Copying>) -> Outcome {
        let source = copying.source.clone();
        match self.streams.ask(&source, RpcRequest::Copy(copying)).await {
            Ok(Ok(RpcReply::Copied(to))) => Outcome::Copied(to),
            Ok(_) | Err(_) => Outcome::Failed,
        }
    }

    /// Tells the registry what it has not heard.
    async fn send_to_registry(self: Rc<Self>) {
        let Some(_posting) = self.sending.try_begin(now()) else {
            return;
        };
        while let Some(batch) = self.next_batch() {
            let append = &batch.append;
            let asked = RpcRequest::Step(StepRequest::Register {
                messages: append.body.clone(),
                producer: append.producer.clone(),
            });
            let sent = self.streams.ask(&registry::name(), asked).await;
            let is_sent = matches!(sent, Ok(Ok(RpcReply::Appended)));
            let noted = self.transaction(|hub| {
                if is_sent {
                    hub.ack_registry_batch(&batch)
                } else {
                    hub.nack_registry_batch(now())
                }
            });
            if let Err(error) = noted {
                console_error!("writing to the registry: {error}");
                return;
            }
            if !is_sent {
                console_error!("writing to the registry: {sent:?}");
            }
        }
    }

    /// Writes to the index what it lacks.
    async fn write_index(self: Rc<Self>) {
        let (Some(index), Some(_indexing)) = (&self.index, self.indexing.try_begin(now())) else {
            return;
        };
        let failed = |error: SqlError| console_error!("writing the index: {error}");
        while let Some(rows) = self
            .transaction(|hub| hub.index_rows(now()))
            .unwrap_or_else(|error| {
                failed(error);
                None
            })
        {
            let written = index.write(&rows.statements).await;
            let noted = self.transaction(|hub| match written {
                Ok(()) => hub.ack_rows(&rows),
                Err(_) => hub.nack_rows(now()),
            });
            if let Err(error) = written {
                console_error!("writing the index: {error}");
            }
            if let Err(error) = noted {
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

    /// Notes what a client needs, for as long as what is returned lives.
    fn expect(self: &Rc<Self>, needs: &RequiredTails) -> Option<Pending> {
        if *needs == RequiredTails::default() {
            return None;
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.pending.borrow_mut().insert(number, needs.clone());
        let hub = Rc::clone(self);
        Some(Pending { hub, number })
    }
}

/// What streams said of themselves: those that are there.
type Looks = BTreeMap<StreamName, Result<Option<Listed>, String>>;

const LISTING: &str = "listing streams";

/// Streams that are asked at once how they are.
const ASKED_AT_ONCE: usize = 50;

/// See [`HubObject::expect`].
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
