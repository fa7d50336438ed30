//! Durable Streams on the embedded host: one database, and a folder of cold segments.
//!
//! ```text
//! streams.db                           names, hot logs and all other state
//! streams/<generation>/<start>-<end>   segments
//! streams/scratch/                     segments being written
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

use http::Response;
use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql as _, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::http::Get;
use pmx_streams::policy::{Limiter, Per, TimedStep};
use pmx_streams::subscription::Subscriptions;
use pmx_streams::{
    Engine, EngineConfig, Generation, Page, Read, Refusal, StreamName, StreamProperties, registry,
};
use tokio::sync::{Semaphore, watch};

use super::access_log::Log;
use super::any_body::AnyBody;
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
use writer::{PostCommit, StreamWriter};

pub use config::StreamConfig;

/// All streams of a host.
pub(crate) struct Streams {
    config: StreamConfig,
    writer: StreamWriter,
    readers: Arc<Readers>,
    cold: Arc<SegmentFolder>,
    topics: Arc<Topics>,
    /// Limits concurrent reads.
    permits: Arc<Semaphore>,
    /// Memory for bodies of requests.
    body_budget: Arc<Budget>,
    /// Counts requests, if there is a limit.
    limiter: Option<Mutex<Limiter>>,
    stop: watch::Receiver<bool>,
}

impl Streams {
    /// Opens or creates the database and the folder. Live readers are disconnected when `stop`
    /// changes.
    pub(crate) fn open(
        data: &Path,
        config: StreamConfig,
        stop: watch::Receiver<bool>,
        log: Log,
    ) -> Result<Self, HostError> {
        let file = data.join("streams.db");
        let cold = Arc::new(SegmentFolder::open(&data.join("streams"))?);
        let database =
            open_database(&file, &config.engine_config).map_err(|source| HostError::Schema {
                path: file.clone(),
                source,
            })?;
        super::durable::flush_folder(data).map_err(super::error::disk("flush", data))?;
        let database = Arc::new(Mutex::new(database));
        let (timers, queue) = channel();
        let topics: Arc<Topics> = Arc::default();
        let (requests, dispatch_queue) = channel();
        let after_commit = {
            let (topics, requests) = (Arc::clone(&topics), requests.clone());
            let timers = timers.clone();
            move |post_commit| run_post_commit(post_commit, &topics, &timers, &requests, log)
        };
        let engine_config = config.engine_config.clone();
        let writer = StreamWriter::start(Arc::clone(&database), engine_config, after_commit);
        let writer = writer.map_err(HostError::Threads)?;
        let alarm = Alarm {
            database,
            cold: Arc::clone(&cold),
            engine_config: config.engine_config.clone(),
            writer: writer.weak(),
            log,
        };
        alarm.start(queue, &timers).map_err(HostError::Threads)?;
        let readers = Arc::new(Readers::new(&file, config.engine_config.clone()));
        let dispatcher = WebhookDispatcher {
            writer: writer.weak(),
            readers: Arc::clone(&readers),
            cold: Arc::clone(&cold),
            requests,
            log,
        };
        dispatcher
            .start(dispatch_queue)
            .map_err(HostError::Threads)?;
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

    /// The properties of a stream.
    async fn head(&self, name: &StreamName) -> Result<StreamProperties, Refusal> {
        let (readers, name) = (Arc::clone(&self.readers), name.clone());
        self.run_blocking(move || readers.head(&name, super::now()))
            .await
    }

    /// Reads a page, and renews the stream's time to live.
    async fn read(&self, name: &StreamName, read: Read) -> Result<Page, Refusal> {
        let (readers, cold) = (Arc::clone(&self.readers), Arc::clone(&self.cold));
        let named = name.clone();
        let reading = move || readers.page(&named, read, &cold, super::now());
        let begun = Instant::now();
        let (page, needs_renewal, cold) = self.run_blocking(reading).await?;
        server_timing::took(TimedStep::Transaction, begun.elapsed().saturating_sub(cold));
        if !cold.is_zero() {
            server_timing::took(TimedStep::Cold, cold);
        }
        if needs_renewal == Renewal::Yes {
            let named = name.clone();
            let renew = move |it: &Transaction<'_, Savepoints<'_>>| it.renew(&named);
            self.writer.transact(0, renew, |()| ()).await?;
        }
        Ok(page)
    }

    /// Reads a page for all readers at one offset, and renews the stream's time to live.
    async fn read_shared(&self, name: &StreamName, read: Read) -> Result<Shared, Refusal> {
        let page = self.read(name, read).await?;
        Ok(Shared::new(read, page))
    }

    /// Begins the response to a reader of events.
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

    /// Runs blocking work on a blocking thread, within the limit of concurrent reads.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = permit.await.expect("the semaphore is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.unwrap_or_else(|error| {
            let why = format!("reading: {error}");
            Err(storage(SqlError(why)))
        })
    }
}

/// A stream as the source of its event readers.
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

/// Passes the work that follows a commit to readers, alarm and dispatcher.
fn run_post_commit(
    post_commit: PostCommit,
    topics: &Topics,
    timers: &Sender<(i64, Timestamp)>,
    requests: &Sender<DispatchRequest>,
    log: Log,
) {
    for stream in &post_commit.changed {
        topics.notify(stream);
    }
    for due in post_commit.streams {
        // Fails only if the alarm has ended, as the host does then.
        let _ = timers.send(due);
    }
    if let Some(deliveries) = post_commit.deliveries {
        dispatch(deliveries, topics, requests, log);
    }
}

/// Notifies the readers of wake streams, and passes deliveries to the dispatcher.
fn dispatch(
    deliveries: PendingDeliveries,
    topics: &Topics,
    requests: &Sender<DispatchRequest>,
    log: Log,
) {
    for stream in &deliveries.announced {
        topics.notify(stream);
    }
    if let Some(error) = deliveries.fault {
        log.fault("waking subscribers", &error);
    }
    // Fails only if the dispatcher has ended, as the host does then.
    let _ = requests.send(DispatchRequest::Deliver(deliveries.effects));
    let _ = requests.send(DispatchRequest::Due(deliveries.next));
}

/// Opens the database, and creates or migrates its tables in one transaction.
fn open_database(file: &Path, engine_config: &EngineConfig) -> Result<Database, SchemaError> {
    let database = Database::open(file)?;
    // The statement journal of savepoints stays in memory.
    database.run("PRAGMA temp_store = MEMORY", &[])?;
    let seed = random_bytes()?;
    database.atomically(|database| {
        Engine::install(database)?;
        Subscriptions::install(database, seed)?;
        stream_ids::install(database)?;
        Ok::<_, SchemaError>(create_registry(database, engine_config)?)
    })?;
    Ok(database)
}

/// Creates the registry, if it does not exist.
fn create_registry(database: &Database, engine_config: &EngineConfig) -> Result<(), SqlError> {
    let key = stream_ids::find_or_insert(database, &registry::name())?;
    let engine = Engine::new(database, key, engine_config);
    let generation = Generation::from_random(random_bytes()?);
    let made = engine.create(&registry::create(), super::now(), generation);
    made.map(drop).map_err(|error| SqlError(error.to_string()))
}

/// Draws random bytes.
fn random_bytes<const N: usize>() -> Result<[u8; N], SqlError> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| SqlError(format!("drawing randomness: {error}")))?;
    Ok(bytes)
}

/// The rates that this process counts: it serves all clients and all streams.
const PER: [Per; 2] = [Per::Client, Per::Stream];

/// Concurrent reads, each with a connection: fewer than the threads that may block.
const READS_MAX: usize = 8;

/// Bytes of request bodies in memory: four of the largest.
const BODY_BUDGET_BYTES: usize = 64 * 1024 * 1024;
