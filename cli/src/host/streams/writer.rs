//! Group commit: one thread runs all queued transactions in one SQLite transaction, flushes once
//! and then answers them all.
//!
//! While the disk flushes one batch, the queue collects the next: a single client waits for no
//! other, and a hundred clients share a flush. A transaction that fails rolls back alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::policy::TimedStep;
use pmx_streams::subscription::PatternCache;
use pmx_streams::{EngineConfig, Refusal, StreamName};
use tokio::sync::{mpsc, oneshot};

use super::pending::PendingDeliveries;
use super::savepoint::Savepoints;
use super::server_timing;
use super::transaction::{Transaction, storage};
use crate::host::access_log::Log;
use crate::host::panics::{guarded, unpanicked};
use crate::host::sql::Database;

/// The database of all streams, which the writer and the alarm lock.
pub(super) type SharedDatabase = Mutex<Database>;

/// Locks the database. A transaction that panicked was rolled back.
pub(super) fn lock(database: &SharedDatabase) -> MutexGuard<'_, Database> {
    database.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queue of the writer thread, which ends when all handles are dropped.
#[derive(Clone)]
pub(super) struct StreamWriter {
    queue: mpsc::Sender<Box<dyn QueuedTransaction>>,
}

impl StreamWriter {
    /// Starts the thread. It passes the work that follows each commit to `after_commit`.
    pub(super) fn start(
        database: Arc<SharedDatabase>,
        engine_config: EngineConfig,
        after_commit: impl Fn(PostCommit) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, mut jobs) = mpsc::channel(QUEUE_MAX);
        let name = "pmx-streams".to_owned();
        std::thread::Builder::new().name(name).spawn(move || {
            let patterns = PatternCache::default();
            while let Some(batch) = next_batch(&mut jobs) {
                let post_commit = commit(&database, &engine_config, &patterns, batch);
                // After a panic, the alarm finds the rest later.
                let _ = unpanicked(|| {
                    after_commit(post_commit);
                    Ok(())
                });
            }
        })?;
        Ok(Self { queue })
    }

    /// A handle that does not keep the thread from ending.
    pub(super) fn weak(&self) -> WeakWriter {
        WeakWriter(self.queue.downgrade())
    }

    /// Runs a transaction with a body of `bytes` bytes, and returns its outcome once it is durable.
    /// `after` runs on the writer thread directly after the commit, even if the caller is gone.
    pub(super) async fn transact<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Transaction<'_, Savepoints<'_>>) -> Result<T, Refusal> + Send + 'static,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, outcome) = oneshot::channel();
        let job = Work {
            bytes,
            begin: Some(work),
            after,
            outcome: Err(failed("it was never begun")),
            reply,
        };
        let begun = Instant::now();
        let sent = self.queue.send(Box::new(job)).await;
        sent.map_err(|_| failed("the host is about to stop"))?;
        let outcome = outcome.await;
        server_timing::note(TimedStep::Transaction, begun);
        outcome.unwrap_or_else(|_| Err(failed("the host is about to stop")))
    }
}

/// A handle that does not keep the thread running.
#[derive(Clone)]
pub(super) struct WeakWriter(mpsc::WeakSender<Box<dyn QueuedTransaction>>);

impl WeakWriter {
    /// The writer, if its thread still runs.
    pub(super) fn upgrade(&self) -> Option<StreamWriter> {
        self.0.upgrade().map(|queue| StreamWriter { queue })
    }
}

/// Work that follows a commit.
#[derive(Debug, Default)]
pub(super) struct PostCommit {
    /// Streams with jobs, and when they are due.
    pub(super) streams: Vec<(i64, Timestamp)>,
    /// Streams whose readers have to be notified.
    pub(super) changed: Vec<StreamName>,
    /// Deliveries of subscriptions, if there may be some.
    pub(super) deliveries: Option<PendingDeliveries>,
}

/// Length of the queue. Other callers wait to enqueue.
const QUEUE_MAX: usize = 1_024;

/// Most transactions in one batch.
const BATCH_TRANSACTIONS_MAX: usize = 512;

/// Bytes of bodies that complete a batch.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A transaction in the queue.
trait QueuedTransaction: Send {
    fn bytes(&self) -> usize;
    fn run(&mut self, transaction: &Transaction<'_, Savepoints<'_>>);
    fn complete(self: Box<Self>, committed: Result<(), &SqlError>);
}

struct Work<T, W, A> {
    bytes: usize,
    begin: Option<W>,
    after: A,
    outcome: Result<T, Refusal>,
    reply: oneshot::Sender<Result<T, Refusal>>,
}

impl<T, W, A> QueuedTransaction for Work<T, W, A>
where
    T: Send,
    W: FnOnce(&Transaction<'_, Savepoints<'_>>) -> Result<T, Refusal> + Send,
    A: FnOnce(&T) + Send,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn run(&mut self, transaction: &Transaction<'_, Savepoints<'_>>) {
        if let Some(work) = self.begin.take() {
            // Savepoints roll back the statements before a panic.
            let outcome = unpanicked(|| Ok(work(transaction)));
            self.outcome = outcome.unwrap_or_else(|error| Err(storage(error)));
        }
    }

    fn complete(self: Box<Self>, committed: Result<(), &SqlError>) {
        let Self {
            after,
            outcome,
            reply,
            ..
        } = *self;
        let outcome = match (outcome, committed) {
            (Ok(_), Err(error)) => Err(failed(&error.to_string())),
            (outcome, _) => outcome,
        };
        if let Ok(output) = &outcome {
            // The transaction is committed, even if this panics.
            let _ = unpanicked(|| {
                after(output);
                Ok(())
            });
        }
        // Fails if the caller has left without waiting.
        let _ = reply.send(outcome);
    }
}

/// Waits for a transaction, and takes all others that are queued by then.
fn next_batch(
    jobs: &mut mpsc::Receiver<Box<dyn QueuedTransaction>>,
) -> Option<Vec<Box<dyn QueuedTransaction>>> {
    let first = jobs.blocking_recv()?;
    let mut bytes = first.bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH_TRANSACTIONS_MAX
        && bytes < BATCH_BYTES
        && let Ok(job) = jobs.try_recv()
    {
        bytes = bytes.saturating_add(job.bytes());
        batch.push(job);
    }
    Some(batch)
}

/// Runs a batch in one SQLite transaction and answers its callers. A panic outside of their work
/// rolls back the batch: the requests fail, and the thread continues.
fn commit(
    database: &SharedDatabase,
    engine_config: &EngineConfig,
    patterns: &PatternCache,
    mut batch: Vec<Box<dyn QueuedTransaction>>,
) -> PostCommit {
    let committed = unpanicked(|| {
        lock(database).atomically(|database| {
            let inside = Savepoints::new(database);
            let transaction = Transaction::new(&inside, engine_config).with_patterns(patterns);
            for job in &mut batch {
                job.run(&transaction);
            }
            post_commit(&transaction)
        })
    });
    for job in batch {
        job.complete(committed.as_ref().map(drop));
    }
    committed.unwrap_or_default()
}

/// The work that follows the commit of a transaction.
fn post_commit<S: Sql>(transaction: &Transaction<'_, S>) -> Result<PostCommit, SqlError> {
    let deliveries = transaction.wake();
    let streams = transaction.due()?;
    let changed = transaction.changed().into_iter().collect();
    Ok(PostCommit {
        streams,
        changed,
        deliveries,
    })
}

/// Runs a thread's loop until it returns, and restarts it after a panic.
pub(super) fn run_with_restarts(log: Log, mut run: impl FnMut()) {
    while guarded(log, &mut run).is_err() {
        std::thread::sleep(RESTART_TIME);
    }
}

/// Delay before a restart, so that a loop that always panics does not use a whole processor.
const RESTART_TIME: Duration = Duration::from_secs(1);

fn failed(why: &str) -> Refusal {
    storage(SqlError(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use pmx_core::sql::{SqlRow, Value};

    use super::*;

    /// A database whose statements panic.
    struct Panics;

    impl Sql for Panics {
        fn run(&self, _: &str, _: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
            panic!("on purpose")
        }

        fn atomically<T, E: From<SqlError>>(
            &self,
            body: impl FnOnce(&Self) -> Result<T, E>,
        ) -> Result<T, E> {
            body(self)
        }
    }

    #[test]
    fn post_commit_survives_a_panic_of_deliveries() {
        let engine_config = EngineConfig::default();
        let transaction = Transaction::new(&Panics, &engine_config);
        transaction.mark_due();
        let post_commit = post_commit(&transaction).unwrap();
        let deliveries = post_commit.deliveries.unwrap();
        assert!(deliveries.fault.unwrap().to_string().contains("on purpose"));
        assert!(deliveries.next > Some(transaction.now()), "it is retried");
    }

    /// The writer thread serves all streams, so it has to survive any panic.
    #[tokio::test]
    async fn writer_continues_after_a_panic_anywhere() {
        let home = tempfile::tempdir().unwrap();
        let database = Database::open(&home.path().join("x.db")).unwrap();
        database.run("CREATE TABLE t (v)", &[]).unwrap();
        let database = Arc::new(Mutex::new(database));
        let panics = |_| panic!("on purpose");
        let writer =
            StreamWriter::start(Arc::clone(&database), EngineConfig::default(), panics).unwrap();
        for round in 0..3 {
            let kept = writer.transact(1, move |it| insert(it, 1 + 3 * round), |_| ());
            assert_eq!(kept.await, Ok(1 + 3 * round));
            let panics = writer.transact(1, |it| insert(it, 0), |_| ());
            let why = panics.await.unwrap_err().to_string();
            assert!(why.contains("on purpose"), "{why}");
            let after = writer.transact(1, |_| Ok(()), |()| panic!("on purpose"));
            assert_eq!(after.await, Ok(()));
        }
        let rows = lock(&database).run("SELECT count(*) FROM t", &[]).unwrap();
        assert_eq!(rows, [[Value::Integer(3)]]);
    }

    fn writer(home: &std::path::Path) -> (StreamWriter, Arc<SharedDatabase>) {
        let database = Database::open(&home.join("x.db")).unwrap();
        database.run("CREATE TABLE t (v)", &[]).unwrap();
        let database = Arc::new(Mutex::new(database));
        let writer =
            StreamWriter::start(Arc::clone(&database), EngineConfig::default(), drop).unwrap();
        (writer, database)
    }

    fn insert(it: &Transaction<'_, Savepoints<'_>>, value: i64) -> Result<i64, Refusal> {
        it.atomically(|sql| {
            sql.run("INSERT INTO t VALUES (?)", &[Value::Integer(value)])?;
            match value % 3 {
                0 => panic!("on purpose"),
                1 => Ok(value),
                _ => Err(SqlError("on purpose".into())),
            }
        })
        .map_err(storage)
    }

    #[test]
    fn writer_batches_transactions_that_fail_alone() {
        let home = tempfile::tempdir().unwrap();
        let (writer, database) = writer(home.path());
        let (after, committed) = channel();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // While the database is locked, transactions queue up.
        let locked = lock(&database);
        let transactions = (0..300).map(|value| {
            let (writer, after) = (writer.clone(), after.clone());
            runtime.spawn(async move {
                let after = move |value: &i64| after.send(*value).unwrap();
                let outcome = writer.transact(1, move |it| insert(it, value), after);
                outcome.await
            })
        });
        let transactions: Vec<_> = transactions.collect();
        drop(locked);
        for (value, transaction) in transactions.into_iter().enumerate() {
            let outcome = runtime.block_on(transaction).unwrap();
            assert_eq!(outcome.is_ok(), value % 3 == 1, "{value}");
        }
        let mut committed: Vec<i64> = committed.try_iter().collect();
        committed.sort_unstable();
        let kept: Vec<i64> = (0..300).filter(|value| value % 3 == 1).collect();
        assert_eq!(committed, kept);
        let rows = lock(&database).run("SELECT v FROM t ORDER BY v", &[]);
        let kept: Vec<Value> = kept.into_iter().map(Value::Integer).collect();
        assert_eq!(rows.unwrap().concat(), kept);
    }
}
