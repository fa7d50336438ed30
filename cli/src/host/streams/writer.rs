//! Group commit: one thread runs all queued transactions in one SQLite transaction, flushes once
//! and then answers them all.
//!
//! While the disk is busy with one batch, the next one gathers: a single client waits for no other,
//! and a hundred share a flush. A transaction that fails rolls back alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::policy::Step;
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

/// The ledger of all streams: the writer has it, and now and then the alarm.
pub(super) type Writable = Mutex<Database>;

/// Locks the ledger. A transaction that panicked was rolled back.
pub(super) fn lock(ledger: &Writable) -> MutexGuard<'_, Database> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where turns are handed in. The thread ends when all of these are gone.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn QueuedTransaction>>,
}

impl Writer {
    /// Starts the thread. `settled` is notified of what is left to do, and when.
    pub(super) fn start(
        ledger: Arc<Writable>,
        engine_config: EngineConfig,
        settled: impl Fn(PostCommit) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, mut jobs) = mpsc::channel(QUEUE_MAX);
        let name = "pmx-streams".to_owned();
        std::thread::Builder::new().name(name).spawn(move || {
            let patterns = PatternCache::default();
            while let Some(batch) = next_batch(&mut jobs) {
                let left = commit(&ledger, &engine_config, &patterns, batch);
                // What is not noted now, the alarm finds later.
                let _ = unpanicked(|| {
                    settled(left);
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

    /// Takes a turn, which weighs so many bytes, and tells its outcome once that is durable. After
    /// it is, `after` runs before anything else happens, even if no one waits for the outcome.
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
        server_timing::note(Step::Turn, begun);
        outcome.unwrap_or_else(|_| Err(failed("the host is about to stop")))
    }
}

/// Where turns are handed in as long as another handle keeps the thread going.
#[derive(Clone)]
pub(super) struct WeakWriter(mpsc::WeakSender<Box<dyn QueuedTransaction>>);

impl WeakWriter {
    /// The writer, if it goes on.
    pub(super) fn upgrade(&self) -> Option<Writer> {
        self.0.upgrade().map(|queue| Writer { queue })
    }
}

/// What a transaction leaves to do.
#[derive(Debug, Default)]
pub(super) struct PostCommit {
    /// For streams, and when.
    pub(super) streams: Vec<(i64, Timestamp)>,
    /// For those who wait for streams that no one asked to grow.
    pub(super) changed: Vec<StreamName>,
    /// For subscribers, if there may be something.
    pub(super) deliveries: Option<PendingDeliveries>,
}

/// Turns that wait. More wait before they are in the queue.
const QUEUE_MAX: usize = 1_024;

/// Turns of one transaction.
const BATCH_TURNS_MAX: usize = 512;

/// Bytes from which on a transaction takes no more.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A turn that waits.
trait QueuedTransaction: Send {
    fn bytes(&self) -> usize;
    fn run(&mut self, turn: &Transaction<'_, Savepoints<'_>>);
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

    fn run(&mut self, turn: &Transaction<'_, Savepoints<'_>>) {
        if let Some(work) = self.begin.take() {
            // What a panic leaves half done, savepoints undo.
            self.outcome =
                unpanicked(|| Ok(work(turn))).unwrap_or_else(|error| Err(storage(error)));
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
            // The turn holds, whatever comes of this.
            let _ = unpanicked(|| {
                after(output);
                Ok(())
            });
        }
        // Who left without waiting does not need it.
        let _ = reply.send(outcome);
    }
}

/// Waits for a turn and takes all others that wait by then.
fn next_batch(
    jobs: &mut mpsc::Receiver<Box<dyn QueuedTransaction>>,
) -> Option<Vec<Box<dyn QueuedTransaction>>> {
    let first = jobs.blocking_recv()?;
    let mut bytes = first.bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH_TURNS_MAX
        && bytes < BATCH_BYTES
        && let Ok(job) = jobs.try_recv()
    {
        bytes = bytes.saturating_add(job.bytes());
        batch.push(job);
    }
    Some(batch)
}

/// Runs turns in one transaction and answers them. A panic outside of the turns undoes the
/// transaction: their requests fail, and the thread goes on.
fn commit(
    ledger: &Writable,
    engine_config: &EngineConfig,
    patterns: &PatternCache,
    mut batch: Vec<Box<dyn QueuedTransaction>>,
) -> PostCommit {
    let committed = unpanicked(|| {
        lock(ledger).atomically(|ledger| {
            let inside = Savepoints::new(ledger);
            let turn = Transaction::new(&inside, engine_config).with_patterns(patterns);
            for job in &mut batch {
                job.run(&turn);
            }
            left(&turn)
        })
    });
    for job in batch {
        job.complete(committed.as_ref().map(drop));
    }
    committed.unwrap_or_default()
}

/// What the turns of a transaction leave to do.
fn left<S: Sql>(turn: &Transaction<'_, S>) -> Result<PostCommit, SqlError> {
    let deliveries = turn.wake();
    let streams = turn.due()?;
    let changed = turn.changed().into_iter().collect();
    Ok(PostCommit {
        streams,
        changed,
        deliveries,
    })
}

/// Runs a thread's loop until it ends automatically: after a panic it begins again.
pub(super) fn steadily(log: Log, mut run: impl FnMut()) {
    while guarded(log, &mut run).is_err() {
        std::thread::sleep(AGAIN_TIME);
    }
}

/// How long a loop that panicked rests, so that one which panics for ever takes no processor.
const AGAIN_TIME: Duration = Duration::from_secs(1);

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
    fn a_panic_while_subscribers_are_woken_undoes_no_append() {
        let engine_config = EngineConfig::default();
        let turn = Transaction::new(&Panics, &engine_config);
        turn.look();
        let left = left(&turn).unwrap();
        let deliveries = left.deliveries.unwrap();
        assert!(deliveries.fault.unwrap().to_string().contains("on purpose"));
        assert!(deliveries.next > Some(turn.now()), "it is tried again");
    }

    /// The writer's thread serves all streams: whatever panics on it, the next turn is taken.
    #[tokio::test]
    async fn the_writer_goes_on_after_a_panic_anywhere() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Database::open(&home.path().join("x.db")).unwrap();
        ledger.run("CREATE TABLE t (v)", &[]).unwrap();
        let ledger = Arc::new(Mutex::new(ledger));
        let settled = |_| panic!("on purpose");
        let writer = Writer::start(Arc::clone(&ledger), EngineConfig::default(), settled).unwrap();
        for round in 0..3 {
            let kept = writer.transact(1, move |turn| insert(turn, 1 + 3 * round), |_| ());
            assert_eq!(kept.await, Ok(1 + 3 * round));
            let panics = writer.transact(1, |turn| insert(turn, 0), |_| ());
            let why = panics.await.unwrap_err().to_string();
            assert!(why.contains("on purpose"), "{why}");
            let after = writer.transact(1, |_| Ok(()), |()| panic!("on purpose"));
            assert_eq!(after.await, Ok(()));
        }
        let rows = lock(&ledger).run("SELECT count(*) FROM t", &[]).unwrap();
        assert_eq!(rows, [[Value::Integer(3)]]);
    }

    fn writer(home: &std::path::Path) -> (Writer, Arc<Writable>) {
        let ledger = Database::open(&home.join("x.db")).unwrap();
        ledger.run("CREATE TABLE t (v)", &[]).unwrap();
        let ledger = Arc::new(Mutex::new(ledger));
        let writer = Writer::start(Arc::clone(&ledger), EngineConfig::default(), drop).unwrap();
        (writer, ledger)
    }

    fn insert(turn: &Transaction<'_, Savepoints<'_>>, value: i64) -> Result<i64, Refusal> {
        turn.atomically(|sql| {
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
    fn turns_share_a_transaction_and_fail_alone() {
        let home = tempfile::tempdir().unwrap();
        let (writer, ledger) = writer(home.path());
        let (after, heard) = channel();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // While the ledger is taken, turns gather.
        let busy = lock(&ledger);
        let turns = (0..300).map(|value| {
            let (writer, after) = (writer.clone(), after.clone());
            runtime.spawn(async move {
                let after = move |value: &i64| after.send(*value).unwrap();
                let turn = writer.transact(1, move |turn| insert(turn, value), after);
                turn.await
            })
        });
        let turns: Vec<_> = turns.collect();
        drop(busy);
        for (value, turn) in turns.into_iter().enumerate() {
            let outcome = runtime.block_on(turn).unwrap();
            assert_eq!(outcome.is_ok(), value % 3 == 1, "{value}");
        }
        let mut heard: Vec<i64> = heard.try_iter().collect();
        heard.sort_unstable();
        let kept: Vec<i64> = (0..300).filter(|value| value % 3 == 1).collect();
        assert_eq!(heard, kept);
        let rows = lock(&ledger).run("SELECT v FROM t ORDER BY v", &[]);
        let kept: Vec<Value> = kept.into_iter().map(Value::Integer).collect();
        assert_eq!(rows.unwrap().concat(), kept);
    }
}
