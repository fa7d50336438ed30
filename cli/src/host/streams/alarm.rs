//! What streams leave to do later: old rows move to segments, what expired ends, what nobody needs
//! is deleted. One thread does it, beside the answers; it takes the ledger for single turns only.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use pmx_sync::sql::{Sql, SqlError, SqlRow, Value};
use pmx_sync::stream::execute::{self, Chores};
use pmx_sync::stream::{Engine, Shape};
use pmx_sync::time::Timestamp;

use super::cold::SegmentFolder;
use super::names;
use super::turn::Turn;
use super::writer::{Writable, taken};
use crate::host::http::guarded;
use crate::host::journal::Log;
use crate::host::ready::block_on;
use crate::host::sql::Ledger;

/// A stream by its key, and when to look after it.
pub(super) type Due = (i64, Timestamp);

/// The alarm's thread and what it needs.
pub(super) struct Alarm {
    pub(super) ledger: Arc<Writable>,
    pub(super) cold: Arc<SegmentFolder>,
    pub(super) shape: Shape,
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
        thread.spawn(move || self.run(&queue)).map(drop)
    }

    fn run(&self, queue: &Receiver<Due>) {
        let mut due: BTreeMap<i64, Timestamp> = BTreeMap::new();
        loop {
            let now = crate::host::now();
            let first = due
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(k, at)| (*k, *at));
            let wait = first.map_or(IDLE_TIME, |(_, at)| {
                Duration::from_millis(at.as_millis().saturating_sub(now.as_millis()))
            });
            match queue.recv_timeout(wait.min(IDLE_TIME)) {
                Ok((key, at)) => note(&mut due, key, at),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((key, at)) = first
                        && at <= crate::host::now()
                    {
                        due.remove(&key);
                        for (key, at) in self.look_after(key) {
                            note(&mut due, key, at);
                        }
                    }
                }
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
        let work = execute::chores(&engine, &*self.cold, &turn, turn.now());
        let Chores { next, failures } = block_on(work)?;
        for failure in &failures {
            self.log.fault("looking after a stream", failure);
        }
        brief.atomically(|sql| {
            if Engine::new(sql, key, &self.shape).is_void()? {
                names::forget(sql, key)?;
            }
            Ok::<_, SqlError>(())
        })?;
        // What was given back may have destroyed a source.
        let mut due = turn.due()?;
        due.extend(next.map(|at| (key, at.max(turn.now().after(PAUSE_TIME)))));
        Ok(due)
    }
}

/// The longest wait.
const IDLE_TIME: Duration = Duration::from_hours(1);

/// How long to wait after a failure of the database.
const RETRY_TIME: Duration = Duration::from_secs(5);

/// The shortest wait between two visits to the same stream.
const PAUSE_TIME: Duration = Duration::from_millis(20);

fn note(due: &mut BTreeMap<i64, Timestamp>, key: i64, at: Timestamp) {
    let known = due.entry(key).or_insert(at);
    *known = at.min(*known);
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
