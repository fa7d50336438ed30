//! Alarm thread: runs the deferred jobs of streams (rotation, expiry, deletion) in the background.
//! It locks the database for single transactions only.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;
use pmx_streams::driver;
use pmx_streams::subscription::Subscriptions;
use pmx_streams::{Engine, EngineConfig, StreamJob};

use super::cold::SegmentFolder;
use super::savepoint::Savepoints;
use super::stream_ids;
use super::transaction::Transaction;
use super::writer::{SharedDatabase, StreamWriter, WeakWriter, lock, run_with_restarts};
use crate::host::access_log::Log;
use crate::host::blocking::block_on;
use crate::host::panics::guarded;
use crate::host::sql::Database;

/// The key of a stream, and when its jobs are due.
pub(super) type DueStream = (i64, Timestamp);

/// The state of the alarm thread.
pub(super) struct Alarm {
    pub(super) database: Arc<SharedDatabase>,
    pub(super) cold: Arc<SegmentFolder>,
    pub(super) engine_config: EngineConfig,
    /// Weak, so that the alarm does not keep the writer running.
    pub(super) writer: WeakWriter,
    pub(super) log: Log,
}

impl Alarm {
    /// Starts the thread, which ends when all senders are dropped. It begins with the jobs of every
    /// stream: a crash may have left some.
    pub(super) fn start(
        self,
        queue: Receiver<DueStream>,
        again: &Sender<DueStream>,
    ) -> std::io::Result<()> {
        let keys = stream_ids::all(&*lock(&self.database)).unwrap_or_else(|error| {
            self.log.fault("looking for streams", &error);
            Vec::new()
        });
        let now = crate::host::now();
        for key in keys {
            // Fails only if the receiver is dropped, and then there is no thread to notify.
            let _ = again.send((key, now));
        }
        let name = "pmx-jobs".to_owned();
        let thread = std::thread::Builder::new().name(name);
        let mut timers = TimerQueue::default();
        let work = move || run_with_restarts(self.log, || self.run(&mut timers, &queue));
        thread.spawn(work).map(drop)
    }

    fn run(&self, timers: &mut TimerQueue, queue: &Receiver<DueStream>) {
        loop {
            // One stream's jobs run between two reads of the queue, however full it is.
            for due in queue.try_iter() {
                timers.insert(due);
            }
            if let Some(key) = timers.take_due(crate::host::now()) {
                for due in self.run_jobs(key) {
                    timers.insert(due);
                }
                continue;
            }
            match queue.recv_timeout(timers.wait(crate::host::now())) {
                Ok(due) => timers.insert(due),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Runs the due jobs of a stream. Returns when its next jobs and those of others are due.
    fn run_jobs(&self, key: i64) -> Vec<DueStream> {
        match guarded(self.log, || self.try_jobs(key)) {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                self.log.fault("running jobs of a stream", &error);
                vec![(key, crate::host::now().after(RETRY_TIME))]
            }
            Err(_) => vec![(key, crate::host::now().after(RETRY_TIME))],
        }
    }

    fn try_jobs(&self, key: i64) -> Result<Vec<DueStream>, SqlError> {
        let short = ShortTransaction::new(&self.database);
        let transaction = Transaction::new(&short, &self.engine_config);
        let engine = transaction.engine(key);
        let rest = self.some_jobs(&engine, &transaction)?;
        if engine.has_lifecycle_events()? {
            self.report(key)?;
        }
        short.atomically(|sql| {
            if Engine::new(sql, key, &self.engine_config).has_no_rows()? {
                if let Some(name) = stream_ids::of(sql, key)? {
                    Subscriptions::open(sql)?.on_removed(&name)?;
                }
                stream_ids::forget(sql, key)?;
            }
            Ok::<_, SqlError>(())
        })?;
        // The release of a fork may have destroyed its source.
        let mut due = transaction.due()?;
        let next = match rest {
            Rest::More => Some(transaction.now()),
            Rest::None => engine.due(transaction.now())?,
        };
        due.extend(next.map(|at| (key, at)));
        Ok(due)
    }

    /// Reports the lifecycle events of a stream to the registry.
    fn report(&self, key: i64) -> Result<(), SqlError> {
        let Some(writer) = self.writer.upgrade() else {
            return Ok(());
        };
        let work = move |it: &Transaction<'_, Savepoints<'_>>| it.report_of(key);
        let reported = block_on(StreamWriter::transact(&writer, 0, work, |()| ()));
        reported.map_err(|refusal| SqlError(refusal.to_string()))
    }

    /// Runs jobs of a stream until no job is due, or until it has written a segment: then other
    /// streams come first.
    fn some_jobs(
        &self,
        engine: &Engine<'_, ShortTransaction<'_>>,
        transaction: &Transaction<'_, ShortTransaction<'_>>,
    ) -> Result<Rest, SqlError> {
        let now = transaction.now();
        while let Some(mut job) = engine.atomically(|engine| engine.next_job(now))? {
            match block_on(driver::perform(&mut job, &*self.cold, transaction, now)) {
                Ok(()) => engine.atomically(|engine| engine.complete_job(&job, now))?,
                Err(failure) => {
                    self.log.fault("running jobs of a stream", &failure);
                    engine.atomically(|engine| engine.fail_job(&job, now))?;
                }
            }
            if let StreamJob::WriteSegment { .. } = job {
                return Ok(Rest::More);
            }
        }
        Ok(Rest::None)
    }
}

/// Whether a stream may have more due jobs.
enum Rest {
    More,
    None,
}

/// The longest wait.
const IDLE_TIME: Duration = Duration::from_hours(1);

/// How long to wait after a failure of the database.
const RETRY_TIME: Duration = Duration::from_secs(5);

/// The times at which the jobs of streams are due.
#[derive(Default)]
struct TimerQueue {
    by_time: BTreeSet<(Timestamp, i64)>,
    by_key: HashMap<i64, Timestamp>,
}

impl TimerQueue {
    /// Inserts a time, unless the queue has an earlier one for the stream.
    fn insert(&mut self, (key, at): DueStream) {
        match self.by_key.get(&key) {
            Some(known) if *known <= at => return,
            Some(known) => {
                self.by_time.remove(&(*known, key));
            }
            None => {}
        }
        self.by_key.insert(key, at);
        self.by_time.insert((at, key));
    }

    /// Takes the stream with the earliest time, if it is due.
    fn take_due(&mut self, now: Timestamp) -> Option<i64> {
        let &(at, key) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_key.remove(&key);
        Some(key)
    }

    /// The time until the next stream is due.
    fn wait(&self, now: Timestamp) -> Duration {
        self.by_time.first().map_or(IDLE_TIME, |(at, _)| {
            let millis = at.as_millis().saturating_sub(now.as_millis());
            Duration::from_millis(millis).min(IDLE_TIME)
        })
    }
}

/// The database, locked for one transaction at a time.
struct ShortTransaction<'a> {
    database: &'a SharedDatabase,
    held: RefCell<Option<MutexGuard<'a, Database>>>,
}

impl<'a> ShortTransaction<'a> {
    const fn new(database: &'a SharedDatabase) -> Self {
        Self {
            database,
            held: RefCell::new(None),
        }
    }
}

impl Sql for ShortTransaction<'_> {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        match &*self.held.borrow() {
            Some(held) => held.run(statement, params),
            None => lock(self.database).run(statement, params),
        }
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.held.borrow().is_some() {
            return Err(SqlError("a transaction inside a transaction".into()).into());
        }
        *self.held.borrow_mut() = Some(lock(self.database));
        let _release = Release(self);
        self.run("BEGIN IMMEDIATE", &[])?;
        let output = body(self)?;
        self.run("COMMIT", &[])?;
        Ok(output)
    }
}

struct Release<'a, 'b>(&'a ShortTransaction<'b>);

impl Drop for Release<'_, '_> {
    fn drop(&mut self) {
        if let Some(held) = self.0.held.borrow_mut().take()
            && !held.is_idle()
        {
            // If the rollback fails, no transaction can begin on this connection.
            let _ = held.run("ROLLBACK", &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_queue_returns_streams_in_the_order_of_their_times() {
        let at = Timestamp::from_millis;
        let mut timers = TimerQueue::default();
        for due in [(1, 50), (2, 20), (3, 90), (1, 30), (2, 70)] {
            timers.insert((due.0, at(due.1)));
        }
        assert_eq!(timers.take_due(at(19)), None);
        assert_eq!(timers.wait(at(19)), Duration::from_millis(1));
        assert_eq!(timers.take_due(at(40)), Some(2));
        assert_eq!(timers.take_due(at(40)), Some(1));
        assert_eq!(timers.take_due(at(40)), None);
        timers.insert((3, at(95)));
        assert_eq!(timers.take_due(at(90)), Some(3));
        assert_eq!(timers.wait(at(90)), IDLE_TIME);
        assert!(timers.by_key.is_empty());
    }

    #[test]
    fn short_transaction_commits_or_rolls_back() {
        let home = tempfile::tempdir().unwrap();
        let database = Database::open(&home.path().join("x.db")).unwrap();
        database.run("CREATE TABLE t (v)", &[]).unwrap();
        let database = SharedDatabase::new(database);
        let short = ShortTransaction::new(&database);
        let insert = |sql: &ShortTransaction<'_>, value: &str| {
            sql.run("INSERT INTO t VALUES (?)", &[value.into()])
        };
        short.atomically(|sql| insert(sql, "a")).unwrap();
        let failed: Result<(), SqlError> = short.atomically(|sql| {
            insert(sql, "b")?;
            Err(SqlError("no".into()))
        });
        failed.unwrap_err();
        let nested = short.atomically(|sql| sql.atomically(|sql| insert(sql, "c")));
        nested.unwrap_err();
        assert!(lock(&database).is_idle());
        let rows = short.run("SELECT v FROM t", &[]).unwrap();
        assert_eq!(rows.concat(), ["a".into()]);
    }
}
