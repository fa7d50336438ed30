//! Alarm thread: runs the deferred jobs of streams (rotation, expiry, deletion) beside the answers.
//! It locks the ledger for single transactions only.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;
use pmx_streams::driver;
use pmx_streams::subscription::Subscriptions;
use pmx_streams::{Engine, EngineConfig, Job};

use super::cold::SegmentFolder;
use super::savepoint::Savepoints;
use super::stream_ids;
use super::transaction::Transaction;
use super::writer::{WeakWriter, Writable, Writer, lock, steadily};
use crate::host::access_log::Log;
use crate::host::blocking::block_on;
use crate::host::panics::guarded;
use crate::host::sql::Database;

/// A stream by its key, and when to look after it.
pub(super) type Due = (i64, Timestamp);

/// The alarm's thread and what it needs.
pub(super) struct Alarm {
    pub(super) ledger: Arc<Writable>,
    pub(super) cold: Arc<SegmentFolder>,
    pub(super) engine_config: EngineConfig,
    /// Not the writer itself: it ends when the host no longer needs it.
    pub(super) writer: WeakWriter,
    pub(super) log: Log,
}

impl Alarm {
    /// Starts the thread; it ends when all senders are gone. It begins with every stream: a crash
    /// may have come before what was to be done.
    pub(super) fn start(self, queue: Receiver<Due>, again: &Sender<Due>) -> std::io::Result<()> {
        let keys = stream_ids::all(&*lock(&self.ledger)).unwrap_or_else(|error| {
            self.log.fault("looking for streams", &error);
            Vec::new()
        });
        let now = crate::host::now();
        for key in keys {
            // Fails only if no one listens, and then nothing is to be done.
            let _ = again.send((key, now));
        }
        let name = "pmx-chores".to_owned();
        let thread = std::thread::Builder::new().name(name);
        let mut timers = TimerQueue::default();
        let work = move || steadily(self.log, || self.run(&mut timers, &queue));
        thread.spawn(work).map(drop)
    }

    fn run(&self, timers: &mut TimerQueue, queue: &Receiver<Due>) {
        loop {
            // However much comes in, one stream is looked after in between.
            for due in queue.try_iter() {
                timers.note(due);
            }
            if let Some(key) = timers.take_due(crate::host::now()) {
                for due in self.look_after(key) {
                    timers.note(due);
                }
                continue;
            }
            match queue.recv_timeout(timers.wait(crate::host::now())) {
                Ok(due) => timers.note(due),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Does what is due for a stream. Returns when to come again, to it and to others.
    fn look_after(&self, key: i64) -> Vec<Due> {
        let done = guarded(self.log, || self.jobs(key));
        match done {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                self.log.fault("looking after a stream", &error);
                vec![(key, crate::host::now().after(RETRY_TIME))]
            }
            Err(_) => vec![(key, crate::host::now().after(RETRY_TIME))],
        }
    }

    fn jobs(&self, key: i64) -> Result<Vec<Due>, SqlError> {
        let short = ShortTransaction::new(&self.ledger);
        let turn = Transaction::new(&short, &self.engine_config);
        let engine = turn.engine(key);
        let rest = self.some_jobs(&engine, &turn)?;
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
        // What was given back may have destroyed a source.
        let mut due = turn.due()?;
        let next = match rest {
            Rest::More => Some(turn.now()),
            Rest::None => engine.due(turn.now())?,
        };
        due.extend(next.map(|at| (key, at)));
        Ok(due)
    }

    /// Has the registry told what happened to a stream.
    fn report(&self, key: i64) -> Result<(), SqlError> {
        let Some(writer) = self.writer.upgrade() else {
            return Ok(());
        };
        let work = move |turn: &Transaction<'_, Savepoints<'_>>| turn.report_of(key);
        let reported = block_on(Writer::transact(&writer, 0, work, |()| ()));
        reported.map_err(|refusal| SqlError(refusal.to_string()))
    }

    /// Does chores of a stream until there are none, or until a segment was written: then it is
    /// the turn of others.
    fn some_jobs(
        &self,
        engine: &Engine<'_, ShortTransaction<'_>>,
        turn: &Transaction<'_, ShortTransaction<'_>>,
    ) -> Result<Rest, SqlError> {
        let now = turn.now();
        while let Some(mut job) = engine.atomically(|engine| engine.next_job(now))? {
            match block_on(driver::perform(&mut job, &*self.cold, turn, now)) {
                Ok(()) => engine.atomically(|engine| engine.complete_job(&job, now))?,
                Err(failure) => {
                    self.log.fault("looking after a stream", &failure);
                    engine.atomically(|engine| engine.fail_job(&job, now))?;
                }
            }
            if let Job::WriteSegment { .. } = job {
                return Ok(Rest::More);
            }
        }
        Ok(Rest::None)
    }
}

/// Whether something may be left to do at once.
enum Rest {
    More,
    None,
}

/// The longest wait.
const IDLE_TIME: Duration = Duration::from_hours(1);

/// How long to wait after a failure of the database.
const RETRY_TIME: Duration = Duration::from_secs(5);

/// When to look after which stream.
#[derive(Default)]
struct TimerQueue {
    by_time: BTreeSet<(Timestamp, i64)>,
    by_key: HashMap<i64, Timestamp>,
}

impl TimerQueue {
    /// Notes a time, unless an earlier one is noted for the same stream.
    fn note(&mut self, (key, at): Due) {
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

    /// The stream that has waited for longest, if its time has come.
    fn take_due(&mut self, now: Timestamp) -> Option<i64> {
        let &(at, key) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_key.remove(&key);
        Some(key)
    }

    /// How long nothing is to be done.
    fn wait(&self, now: Timestamp) -> Duration {
        self.by_time.first().map_or(IDLE_TIME, |(at, _)| {
            let millis = at.as_millis().saturating_sub(now.as_millis());
            Duration::from_millis(millis).min(IDLE_TIME)
        })
    }
}

/// The ledger, taken for one turn at a time.
struct ShortTransaction<'a> {
    ledger: &'a Writable,
    held: RefCell<Option<MutexGuard<'a, Database>>>,
}

impl<'a> ShortTransaction<'a> {
    const fn new(ledger: &'a Writable) -> Self {
        Self {
            ledger,
            held: RefCell::new(None),
        }
    }
}

impl Sql for ShortTransaction<'_> {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        match &*self.held.borrow() {
            Some(held) => held.run(statement, params),
            None => lock(self.ledger).run(statement, params),
        }
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.held.borrow().is_some() {
            return Err(SqlError("a turn inside a turn".into()).into());
        }
        *self.held.borrow_mut() = Some(lock(self.ledger));
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
            // If even this fails, no one can begin anything until the connection ends.
            let _ = held.run("ROLLBACK", &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agenda_is_in_the_order_of_time() {
        let at = Timestamp::from_millis;
        let mut timers = TimerQueue::default();
        for due in [(1, 50), (2, 20), (3, 90), (1, 30), (2, 70)] {
            timers.note((due.0, at(due.1)));
        }
        assert_eq!(timers.take_due(at(19)), None);
        assert_eq!(timers.wait(at(19)), Duration::from_millis(1));
        assert_eq!(timers.take_due(at(40)), Some(2));
        assert_eq!(timers.take_due(at(40)), Some(1));
        assert_eq!(timers.take_due(at(40)), None);
        timers.note((3, at(95)));
        assert_eq!(timers.take_due(at(90)), Some(3));
        assert_eq!(timers.wait(at(90)), IDLE_TIME);
        assert!(timers.by_key.is_empty());
    }

    #[test]
    fn a_brief_turn_holds_or_is_undone() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Database::open(&home.path().join("x.db")).unwrap();
        ledger.run("CREATE TABLE t (v)", &[]).unwrap();
        let ledger = Writable::new(ledger);
        let short = ShortTransaction::new(&ledger);
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
        assert!(lock(&ledger).is_idle());
        let rows = short.run("SELECT v FROM t", &[]).unwrap();
        assert_eq!(rows.concat(), ["a".into()]);
    }
}
