//! Durable Streams on this machine: all in one database, cold segments in a folder.
//!
//! ```text
//! streams.db                     names, hot logs and all else that changes
//! streams/<generation>/<start>-<end>   segments
//! streams/scratch/               segments being written
//! ```

mod alarm;
pub(super) mod answer;
pub(super) mod broadcast;
mod cold;
mod config;
mod control;
pub(super) mod events;
mod pending;
mod readers;
mod savepoint;
mod server_timing;
mod stream_ids;
mod subscription_events;
mod transaction;
mod webhook;
mod writer;

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::body::Body as AnyBody;
use http::Response;
use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql as _, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::http::Get;
use pmx_streams::policy::{Limiter, Per, Step};
use pmx_streams::subscription::Subscriptions;
use pmx_streams::{
    Engine, EngineConfig, Generation, Page, Read, Refusal, StreamName, View, registry,
};
use tokio::sync::{Semaphore, watch};

use super::access_log::Log;
use super::budget::Budget;
use super::error::HostError;
use super::sql::Database;
use alarm::Alarm;
use broadcast::{Shared, Topics};
use cold::SegmentFolder;
use pending::PendingDeliveries;
use readers::{Readers, Renewal};
use savepoint::Savepoints;
use transaction::{Transaction, storage};
use webhook::{DispatchRequest, WebhookDispatcher};
use writer::{PostCommit, Writer};

pub use config::StreamConfig;

/// All streams of a host.
pub(crate) struct Streams {
    config: StreamConfig,
    writer: Writer,
    readers: Arc<Readers>,
    cold: Arc<SegmentFolder>,
    topics: Arc<Topics>,
    /// Reads at work at once.
    permits: Arc<Semaphore>,
    /// Memory for bodies of requests.
    body_budget: Arc<Budget>,
    /// Counts requests, if there is a limit.
    limiter: Option<Mutex<Limiter>>,
    stop: watch::Receiver<bool>,
}

impl Streams {
    /// Opens what is there and makes what is not. Live readers are let go when `stop` changes.
    pub(crate) fn open(
        data: &Path,
        config: StreamConfig,
        stop: watch::Receiver<bool>,
        log: Log,
    ) -> Result<Self, HostError> {
        let file = data.join("streams.db");
        let cold = Arc::new(SegmentFolder::open(&data.join("streams"))?);
        let ledger = opened(&file, &config.engine_config).map_err(|source| HostError::Schema {
            path: file.clone(),
            source,
        })?;
        super::durable::flush_folder(data).map_err(super::error::disk("flush", data))?;
        let ledger = Arc::new(Mutex::new(ledger));
        let (again, queue) = channel();
        let topics: Arc<Topics> = Arc::default();
        let (orders, ordered) = channel();
        let settled = {
            let (topics, orders) = (Arc::clone(&topics), orders.clone());
            let again = again.clone();
            move |left| settle(left, &topics, &again, &orders, log)
        };
        let writer = Writer::start(Arc::clone(&ledger), config.engine_config.clone(), settled);
        let writer = writer.map_err(HostError::Threads)?;
        let alarm = Alarm {
            ledger,
            cold: Arc::clone(&cold),
            engine_config: config.engine_config.clone(),
            writer: writer.weak(),
            log,
        };
        alarm.start(queue, &again).map_err(HostError::Threads)?;
        let readers = Arc::new(Readers::new(&file, config.engine_config.clone()));
        let dispatcher = WebhookDispatcher {
            writer: writer.weak(),
            readers: Arc::clone(&readers),
            cold: Arc::clone(&cold),
            own: orders,
            log,
        };
        dispatcher.start(ordered).map_err(HostError::Threads)?;
        Ok(Self {
            readers,
            limiter: Limiter::of(config.settings.rates, &PER).map(Mutex::new),
            config,
            writer,
            cold,
            topics,
            permits: Arc::new(Semaphore::new(READS_MAX)),
            body_budget: Budget::new(BODY_BUDGET_BYTES),
            stop,
        })
    }

    /// What is known of a stream.
    async fn head(&self, name: &StreamName) -> Result<View, Refusal> {
        let (readers, name) = (Arc::clone(&self.readers), name.clone());
        self.run_blocking(move || readers.head(&name, super::now()))
            .await
    }

    /// Reads a page, and notes that it was read.
    async fn read(&self, name: &StreamName, read: Read) -> Result<Page, Refusal> {
        let (readers, cold) = (Arc::clone(&self.readers), Arc::clone(&self.cold));
        let named = name.clone();
        let reading = move || readers.page(&named, read, &cold, super::now());
        let begun = Instant::now();
        let (page, needs_renewal, cold) = self.run_blocking(reading).await?;
        server_timing::took(Step::Turn, begun.elapsed().saturating_sub(cold));
        if !cold.is_zero() {
            server_timing::took(Step::Cold, cold);
        }
        if needs_renewal == Renewal::Yes {
            let named = name.clone();
            let renew = move |turn: &Transaction<'_, Savepoints<'_>>| turn.renew(&named);
            self.writer.transact(0, renew, |()| ()).await?;
        }
        Ok(page)
    }

    /// The same, for all who are at the same place.
    async fn read_shared(&self, name: &StreamName, read: Read) -> Result<Shared, Refusal> {
        let page = self.read(name, read).await?;
        Ok(Shared::alone(read, page))
    }

    /// Begins to answer a reader of events.
    async fn events(
        self: &Arc<Self>,
        name: &StreamName,
        get: &Get,
    ) -> Result<Response<AnyBody>, Refusal> {
        let changes = self.topics.subscribe(name);
        let stop = self.stop.clone();
        let source = OfStream {
            streams: Arc::clone(self),
            name: name.clone(),
        };
        events::begin(source, changes, get, stop).await
    }

    /// Does what blocks on a thread where that holds up no one.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = Arc::clone(&self.permits).acquire_owned();
        let turn = turn.await.expect("the semaphore is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.unwrap_or_else(|error| {
            let why = format!("reading: {error}");
            Err(storage(SqlError(why)))
        })
    }
}

/// A stream, as its readers read it.
struct OfStream {
    streams: Arc<Streams>,
    name: StreamName,
}

impl events::Source for OfStream {
    type Failure = Refusal;

    async fn read(&self, read: Read) -> Result<Page, Refusal> {
        self.streams.read(&self.name, read).await
    }
}

/// Has done what a transaction leaves to do.
fn settle(
    left: PostCommit,
    topics: &Topics,
    again: &Sender<(i64, Timestamp)>,
    orders: &Sender<DispatchRequest>,
    log: Log,
) {
    for stream in &left.changed {
        topics.notify(stream);
    }
    for due in left.streams {
        // Fails only if the alarm has ended, and then so does the host.
        let _ = again.send(due);
    }
    if let Some(deliveries) = left.deliveries {
        wake(deliveries, topics, orders, log);
    }
}

/// Tells those who wait for it what became of a transaction's wakes.
fn wake(
    deliveries: PendingDeliveries,
    topics: &Topics,
    orders: &Sender<DispatchRequest>,
    log: Log,
) {
    for stream in &deliveries.announced {
        topics.notify(stream);
    }
    if let Some(error) = deliveries.fault {
        log.fault("waking subscribers", &error);
    }
    // Fails only if the courier has ended, and then so does the host.
    let _ = orders.send(DispatchRequest::Deliver(deliveries.carried));
    let _ = orders.send(DispatchRequest::Due(deliveries.next));
}

/// Opens the database of streams: its tables are made or migrated in one transaction.
fn opened(file: &Path, engine_config: &EngineConfig) -> Result<Database, SchemaError> {
    let ledger = Database::open(file)?;
    // What savepoints keep to undo stays in memory.
    ledger.run("PRAGMA temp_store = MEMORY", &[])?;
    let seed = drawn()?;
    ledger.atomically(|ledger| {
        Engine::install(ledger)?;
        Subscriptions::install(ledger, seed)?;
        stream_ids::install(ledger)?;
        Ok::<_, SchemaError>(found_registry(ledger, engine_config)?)
    })?;
    Ok(ledger)
}

/// Makes the registry, unless it is there.
fn found_registry(ledger: &Database, engine_config: &EngineConfig) -> Result<(), SqlError> {
    let key = stream_ids::find_or_give(ledger, &registry::name())?;
    let engine = Engine::new(ledger, key, engine_config);
    let generation = Generation::from_random(drawn()?);
    let made = engine.create(&registry::create(), super::now(), generation);
    made.map(drop).map_err(|error| SqlError(error.to_string()))
}

/// Random bytes.
fn drawn<const N: usize>() -> Result<[u8; N], SqlError> {
    let mut bytes = [0; N];
    let drawn = getrandom::fill(&mut bytes);
    drawn.map_err(|error| SqlError(format!("drawing randomness: {error}")))?;
    Ok(bytes)
}

/// Whose requests are counted: here is all that answers them.
const PER: [Per; 2] = [Per::Client, Per::Stream];

/// Reads at work at once, each with a connection of its own: below the threads that may block.
const READS_MAX: usize = 8;

/// Bytes of bodies in memory at once: four of the largest.
const BODY_BUDGET_BYTES: usize = 64 * 1024 * 1024;
