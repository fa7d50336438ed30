//! What streams leave to do later: old rows move to segments, what expired ends, what nobody needs
//! is deleted. One thread does it, beside the answers; it takes the ledger for single turns only.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;
use pmx_streams::execute;
use pmx_streams::subscription::Subscriptions;
use pmx_streams::{Chore, Engine, Shape};

use super::cold::SegmentFolder;
use super::names;
use super::savepoint::Batch;
use super::turn::Turn;
use super::writer::{WeakWriter, Writable, Writer, steadily, taken};
use crate::host::access_log::Log;
use crate::host::blocking::block_on;
use crate::host::panics::guarded;
use crate::host::sql::Ledger;

/// A stream by its key, and when to look after it.
pub(super) type Due = (i64, Timestamp);

/// The alarm's thread and what it needs.
pub(super) struct Alarm {
    pub(super) ledger: Arc<Writable>,
    pub(super) cold: Arc<SegmentFolder>,
    pub(super) shape: Shape,
    /// Not the writer itself: it ends when the host no longer needs it.
    pub(super) writer: WeakWriter,
    pub(super) log: Log,
}

impl Alarm {
    /// Starts the thread; it ends when all senders are gone. It begins with every stream: a crash
    /// may have come before what was to be done.
    pub(super) fn start(self, queue: Receiver<Due>, again: &Sender<Due>) -> std::io::Result<()> {
        let keys = names::all(&*taken(&self.ledger)).unwrap_or_else(|error| {
            self.log.fault("looking for streams", &error);
            Vec::new()
        });
        let now = crate::host::now();
        for key in keys {
            // Fails only if nobody listens, and then nothing is to be done.
            let _ = again.send((key, now));
        }
        let name = "pmx-chores".to_owned();
        let thread = std::thread::Builder::new().name(name);
        let mut agenda = Agenda::default();
        let work = move || steadily(self.log, || self.run(&mut agenda, &queue));
        thread.spawn(work).map(drop)
    }

    fn run(&self, agenda: &mut Agenda, queue: &Receiver<Due>) {
        loop {
            // However much comes in, one stream is looked after in between.
            for due in queue.try_iter() {
                agenda.note(due);
            }
            if let Some(key) = agenda.take_due(crate::host::now()) {
                for due in self.look_after(key) {
                    agenda.note(due);
                }
                continue;
            }
            match queue.recv_timeout(agenda.wait(crate::host::now())) {
                Ok(due) => agenda.note(due),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Does what is due for a stream. Returns when to come again, to it and to others.
    fn look_after(&self, key: i64) -> Vec<Due> {
        let done = guarded(self.log, || self.chores(key));
        match done {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                self.log.fault("looking after a stream", &error);
                vec![(key, crate::host::now().after(RETRY_TIME))]
            }
            Err(_) => vec![(key, crate::host::now().after(RETRY_TIME))],
        }
    }

    fn chores(&self, key: i64) -> Result<Vec<Due>, SqlError> {
        let brief = Brief::new(&self.ledger);
        let turn = Turn::new(&brief, &self.shape);
        let engine = turn.engine(key);
        let rest = self.some_chores(&engine, &turn)?;
        if engine.has_lifecycle_events()? {
            self.report(key)?;
        }
        brief.atomically(|sql| {
            if Engine::new(sql, key, &self.shape).is_void()? {
                if let Some(name) = names::of(sql, key)? {
                    Subscriptions::open(sql)?.forgotten(&name)?;
                }
                names::forget(sql, key)?;
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
        let work = move |turn: &Turn<'_, Batch<'_>>| turn.report_of(key);
        let reported = block_on(Writer::turn(&writer, 0, work, |()| ()));
        reported.map_err(|refusal| SqlError(refusal.to_string()))
    }

    /// Does chores of a stream until there are none, or until a segment was written: then it is
    /// the turn of others.
    fn some_chores(
        &self,
        engine: &Engine<'_, Brief<'_>>,
        turn: &Turn<'_, Brief<'_>>,
    ) -> Result<Rest, SqlError> {
        let now = turn.now();
        while let Some(mut chore) = engine.atomically(|engine| engine.chore(now))? {
            match block_on(execute::carry_out(&mut chore, &*self.cold, turn, now)) {
                Ok(()) => engine.atomically(|engine| engine.chore_done(&chore, now))?,
                Err(failure) => {
                    self.log.fault("looking after a stream", &failure);
                    engine.atomically(|engine| engine.chore_failed(&chore, now))?;
                }
            }
            if let Chore::Write { .. } = chore {
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
struct Agenda {
    by_time: BTreeSet<(Timestamp, i64)>,
    by_key: HashMap<i64, Timestamp>,
}

impl Agenda {
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
struct Brief<'a> {
    ledger: &'a Writable,
    held: RefCell<Option<MutexGuard<'a, Ledger>>>,
}

impl<'a> Brief<'a> {
    const fn new(ledger: &'a Writable) -> Self {
        Self {
            ledger,
            held: RefCell::new(None),
        }
    }
}

impl Sql for Brief<'_> {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        match &*self.held.borrow() {
            Some(held) => held.run(statement, params),
            None => taken(self.ledger).run(statement, params),
        }
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.held.borrow().is_some() {
            return Err(SqlError("a turn inside a turn".into()).into());
        }
        *self.held.borrow_mut() = Some(taken(self.ledger));
        let _release = Release(self);
        self.run("BEGIN IMMEDIATE", &[])?;
        let output = body(self)?;
        self.run("COMMIT", &[])?;
        Ok(output)
    }
}

struct Release<'a, 'b>(&'a Brief<'b>);

impl Drop for Release<'_, '_> {
    fn drop(&mut self) {
        if let Some(held) = self.0.held.borrow_mut().take()
            && !held.is_idle()
        {
            // If even this fails, nobody can begin anything until the connection ends.
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
        let mut agenda = Agenda::default();
        for due in [(1, 50), (2, 20), (3, 90), (1, 30), (2, 70)] {
            agenda.note((due.0, at(due.1)));
        }
        assert_eq!(agenda.take_due(at(19)), None);
        assert_eq!(agenda.wait(at(19)), Duration::from_millis(1));
        assert_eq!(agenda.take_due(at(40)), Some(2));
        assert_eq!(agenda.take_due(at(40)), Some(1));
        assert_eq!(agenda.take_due(at(40)), None);
        agenda.note((3, at(95)));
        assert_eq!(agenda.take_due(at(90)), Some(3));
        assert_eq!(agenda.wait(at(90)), IDLE_TIME);
        assert!(agenda.by_key.is_empty());
    }

    #[test]
    fn a_brief_turn_holds_or_is_undone() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&home.path().join("x.db")).unwrap();
        ledger.run("CREATE TABLE t (v)", &[]).unwrap();
        let ledger = Writable::new(ledger);
        let brief = Brief::new(&ledger);
        let insert =
            |sql: &Brief<'_>, value: &str| sql.run("INSERT INTO t VALUES (?)", &[value.into()]);
        brief.atomically(|sql| insert(sql, "a")).unwrap();
        let failed: Result<(), SqlError> = brief.atomically(|sql| {
            insert(sql, "b")?;
            Err(SqlError("no".into()))
        });
        failed.unwrap_err();
        let nested = brief.atomically(|sql| sql.atomically(|sql| insert(sql, "c")));
        nested.unwrap_err();
        assert!(taken(&ledger).is_idle());
        let rows = brief.run("SELECT v FROM t", &[]).unwrap();
        assert_eq!(rows.concat(), ["a".into()]);
    }
}
