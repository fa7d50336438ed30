//! Ledgers with a planted bug of the collection: statements that are left out or answered wrongly.

use std::cell::RefCell;
use std::collections::BTreeMap;

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_tests::sql::Sqlite;

use super::bugs::Bug;

/// A bug of the collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A sweep begins although a root was recorded after the walk began.
    RootsNotReadAgain,
    /// The walk stops at nodes that the last collection marked.
    SubtreeNotWalked,
    /// A publish finds content in objects that are garbage.
    GarbageFound,
    /// The row of a pack outlives its object.
    PackSurvives,
    /// The rows of nodes outlive their objects.
    NodesSurvive,
    /// An object may go although readers have a pointer from before the sweep.
    PointerNotAwaited,
    /// A newer announcement of a channel makes the space forget that an older one waits.
    AnnouncementForgets,
    /// Objects go at once.
    NoGrace,
    /// An arrival of an object that is garbage is recorded.
    LateArrivalAccepted,
    /// The policy gives up what previews show.
    PreviewsAreNoRoots,
    /// The policy gives up deploys whose assets pages still ask for.
    EarlierAreNoRoots,
    /// A deploy whose content was given up is served, and rolled back to.
    GoneIsServed,
    /// A compaction gives the old object up itself.
    CompactionDeletesAtOnce,
    /// A compaction announces no pointer.
    CompactionNotAnnounced,
    /// Nothing notices that index nodes moved: no commit, no pointer, no acknowledgement.
    MovesUnnoticed,
}

/// A ledger with or without a bug.
pub(crate) struct Mutant {
    ledger: Sqlite,
    flaw: Option<Flaw>,
    copies: RefCell<RepackLog>,
}

/// What compactions did so far.
#[derive(Default)]
struct RepackLog {
    /// The object that was planned last.
    planned: Vec<u8>,
    /// The old object of each new one.
    old: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The new object, while a compaction is being recorded.
    recording: Option<Vec<u8>>,
}

impl RepackLog {
    fn note(&mut self, statement: &str, params: &[Value]) {
        let blob = |at: usize| match params.get(at) {
            Some(Value::Blob(bytes)) => bytes.clone(),
            _ => Vec::new(),
        };
        if statement.contains("instr(refs") {
            self.planned = blob(1);
        } else if statement.starts_with("INSERT INTO object") {
            self.old.insert(blob(0), self.planned.clone());
        } else if statement.starts_with("UPDATE node SET object") {
            self.recording = Some(blob(0));
        } else if statement.starts_with("SELECT key, value FROM meta") {
            self.recording = None;
        }
    }

    /// The old and the new object, while a compaction is being recorded.
    fn recorded(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let new = self.recording.clone()?;
        Some((self.old.get(&new)?.clone(), new))
    }
}

impl Mutant {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        let flaw = match bug {
            Some(Bug::Collection(flaw)) => Some(flaw),
            Some(_) | None => None,
        };
        Self {
            ledger: Sqlite::new(),
            flaw,
            copies: RefCell::default(),
        }
    }

    /// The answer of the bug to a statement, if it is one that the bug changes.
    fn answer(&self, statement: &str, params: &[Value]) -> Option<Result<Vec<SqlRow>, SqlError>> {
        let is = |start: &str| statement.trim_start().starts_with(start);
        let nothing = || Some(Ok(Vec::new()));
        self.copies.borrow_mut().note(statement, params);
        match self.flaw? {
            Flaw::RootsNotReadAgain if is("SELECT DISTINCT deploy.root") => nothing(),
            Flaw::EarlierAreNoRoots if is("SELECT number, root, at, alias, pin") => {
                let rows = self.ledger.run(statement, params);
                Some(rows.map(|mut rows| {
                    let same = Value::Blob(vec![0; 32]);
                    for row in &mut rows {
                        row[1] = same.clone();
                    }
                    rows
                }))
            }
            Flaw::SubtreeNotWalked if is("SELECT bytes, object, at, length, mark, refs") => {
                let rows = self.ledger.run(statement, params);
                Some(rows.map(|mut rows| {
                    for row in &mut rows {
                        // A node that a sweep kept before counts as walked.
                        if matches!(row[4], Value::Integer(mark) if mark > 0) {
                            row[4] = Value::Integer(i64::MAX);
                        }
                    }
                    rows
                }))
            }
            Flaw::GarbageFound if is("SELECT 1 FROM object WHERE id = ? AND mark >= ?") => {
                Some(Ok(vec![vec![Value::Integer(1)]]))
            }
            Flaw::PackSurvives if is("DELETE FROM pack WHERE id = ?") => nothing(),
            Flaw::NodesSurvive if is("DELETE FROM node WHERE id = ?") => nothing(),
            Flaw::PointerNotAwaited if is("SELECT 1 FROM outbox WHERE since") => nothing(),
            Flaw::NoGrace if is("INSERT INTO doomed") => {
                let mut params = params.to_vec();
                (params[0], params[2]) = (Value::Integer(0), Value::Integer(0));
                let statement = statement.replace("INSERT", "INSERT OR IGNORE");
                Some(self.ledger.run(&statement, &params))
            }
            Flaw::LateArrivalAccepted if is("SELECT 1 FROM doomed WHERE object") => nothing(),
            Flaw::PreviewsAreNoRoots if is("SELECT name, deploy FROM alias") => nothing(),
            Flaw::AnnouncementForgets if is("INSERT INTO outbox (kind, deploy, since)") => {
                let statement = format!("{statement}, since = excluded.since");
                Some(self.ledger.run(&statement, params))
            }
            Flaw::GoneIsServed if is("SELECT number, root, parent, kind") => {
                let rows = self.ledger.run(statement, params);
                Some(rows.map(|mut rows| {
                    for state in rows.iter_mut().filter_map(|row| row.get_mut(18)) {
                        *state = Value::Integer(0);
                    }
                    rows
                }))
            }
            flaw => self.answer_of_compaction(flaw, statement),
        }
    }

    /// The same, for the bugs of compactions.
    fn answer_of_compaction(
        &self,
        flaw: Flaw,
        statement: &str,
    ) -> Option<Result<Vec<SqlRow>, SqlError>> {
        let is = |start: &str| statement.trim_start().starts_with(start);
        let nothing = || Some(Ok(Vec::new()));
        let recorded = || self.copies.borrow().recorded();
        match flaw {
            Flaw::CompactionDeletesAtOnce if is("INSERT INTO outbox") => {
                if let Some((old, _)) = recorded() {
                    let object = Value::Blob(old);
                    let doom = "INSERT OR IGNORE INTO doomed (due, object, tick, bytes, again)
                         VALUES (0, ?, 0, 0, 0)";
                    for statement in [doom, "DELETE FROM object WHERE id = ?"] {
                        let done = self.ledger.run(statement, std::slice::from_ref(&object));
                        done.expect("the planted bug");
                    }
                }
                None
            }
            Flaw::CompactionNotAnnounced if is("INSERT INTO outbox") => {
                recorded().and_then(|_| nothing())
            }
            Flaw::MovesUnnoticed if is("SELECT CAST(value AS INTEGER) FROM meta") => nothing(),
            _ => None,
        }
    }
}

impl Sql for Mutant {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        match self.answer(statement, params) {
            Some(answer) => answer,
            None => self.ledger.run(statement, params),
        }
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.ledger.atomically(|_| body(self))
    }
}
