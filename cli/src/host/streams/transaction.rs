//! Transactions over the streams of the database, by name.

use std::cell::RefCell;
use std::collections::BTreeSet;

use pmx_core::backend::BackendError;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::driver::{self, OtherStreams};
use pmx_streams::subscription::PatternCache;
use pmx_streams::{
    Append, Appended, Create, Created, Deleted, Engine, EngineConfig, Fork, ForkSnapshot,
    Generation, LifecycleChange, Refusal, StreamName, registry,
};

use super::pending::PendingWakes;
use super::stream_ids;
use crate::host::blocking::block_on;

/// The streams in a database, at a moment.
pub(super) struct Transaction<'a, S> {
    sql: &'a S,
    engine_config: &'a EngineConfig,
    now: Timestamp,
    touched: RefCell<BTreeSet<i64>>,
    changed: RefCell<BTreeSet<StreamName>>,
    pub(super) wakes: PendingWakes,
    pub(super) patterns: PatternCache,
}

impl<'a, S: Sql> Transaction<'a, S> {
    pub(super) fn new(sql: &'a S, engine_config: &'a EngineConfig) -> Self {
        let (now, touched) = (crate::host::now(), RefCell::default());
        Self {
            sql,
            engine_config,
            now,
            touched,
            changed: RefCell::default(),
            wakes: PendingWakes::default(),
            patterns: PatternCache::default(),
        }
    }

    /// The same with a cache of patterns that outlives the transaction.
    pub(super) fn with_patterns(self, patterns: &PatternCache) -> Self {
        let patterns = patterns.clone();
        Self { patterns, ..self }
    }

    /// The database.
    pub(super) const fn sql(&self) -> &'a S {
        self.sql
    }

    /// The stream with a key.
    pub(super) const fn engine(&self, key: i64) -> Engine<'a, S> {
        Engine::new(self.sql, key, self.engine_config).with_local_registry()
    }

    /// Statements that hold or are undone together.
    #[cfg(test)]
    pub(super) fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&S) -> Result<T, E>,
    ) -> Result<T, E> {
        self.sql.atomically(body)
    }

    /// The moment.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// When to do what the turns left to do for the streams they wrote to.
    pub(super) fn due(&self) -> Result<Vec<(i64, Timestamp)>, SqlError> {
        let mut all = Vec::new();
        for key in self.touched.take() {
            let due = self.engine(key).due(self.now)?;
            all.extend(due.map(|at| (key, at)));
        }
        Ok(all)
    }

    pub(super) fn create(
        &self,
        name: &StreamName,
        call: &Create,
        generation: Generation,
    ) -> Result<Created, Refusal> {
        // The registry has it, and a client that waits for it, or there is none.
        self.sql
            .atomically(|_| self.create_all(name, call, generation))
    }

    fn create_all(
        &self,
        name: &StreamName,
        call: &Create,
        generation: Generation,
    ) -> Result<Created, Refusal> {
        let key = stream_ids::find_or_give(self.sql, name)?;
        self.touched.borrow_mut().insert(key);
        let engine = self.engine(key);
        let created = block_on(driver::create(&engine, self, call, self.now, generation))?;
        if created.fresh {
            self.report(name, key)?;
            self.began(name, created.view.next)?;
        }
        Ok(created)
    }

    pub(super) fn append(&self, name: &StreamName, call: &Append) -> Result<Appended, Refusal> {
        self.together(|| {
            let appended = self.write(name, |engine| engine.append(call, self.now))?;
            if !appended.repeated {
                self.grew(name, appended.next)?;
            }
            Ok(appended)
        })
    }

    pub(super) fn delete(&self, name: &StreamName) -> Result<Deleted, Refusal> {
        self.sql.atomically(|_| {
            let key = stream_ids::find(self.sql, name)?.ok_or(Refusal::Unknown)?;
            let deleted = self.write(name, |engine| engine.delete(self.now))?;
            self.report(name, key)?;
            self.gone(name)?;
            Ok(deleted)
        })
    }

    /// Tells the registry what happened to the stream with a key.
    pub(super) fn report_of(&self, key: i64) -> Result<(), Refusal> {
        match stream_ids::of(self.sql, key)? {
            Some(name) => self.sql.atomically(|_| self.report(&name, key)),
            None => Ok(()),
        }
    }

    fn report(&self, name: &StreamName, key: i64) -> Result<(), Refusal> {
        let mut messages = Vec::new();
        for event in self.engine(key).take_lifecycle_events()? {
            if event.change == LifecycleChange::Ended {
                self.gone(name)?;
                // Its readers need not wait any more.
                self.grown_unasked(name);
            }
            messages.extend(registry::message(name, &event.change, event.at));
        }
        if messages.is_empty() {
            return Ok(());
        }
        let append = Append {
            media_type: Some(registry::media_type()),
            body: format!("[{}]", messages.join(",")).into(),
            seq: None,
            producer: None,
            close: false,
        };
        let registry = registry::name();
        self.append(&registry, &append)?;
        self.grown_unasked(&registry);
        Ok(())
    }

    /// A stream grew, and a client that waits for it has to learn of it.
    pub(super) fn grown_unasked(&self, name: &StreamName) {
        self.changed.borrow_mut().insert(name.clone());
    }

    /// Streams that grew although no one asked them to.
    pub(super) fn changed(&self) -> BTreeSet<StreamName> {
        self.changed.take()
    }

    pub(super) fn renew(&self, name: &StreamName) -> Result<(), Refusal> {
        self.write(name, |engine| engine.renew(self.now))
    }

    /// Takes a turn of one stream that holds or is undone.
    fn write<T>(
        &self,
        name: &StreamName,
        turn: impl FnOnce(&Engine<'_, S>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let key = stream_ids::find(self.sql, name).map_err(storage)?;
        let key = key.ok_or(Refusal::Unknown)?;
        self.touched.borrow_mut().insert(key);
        self.engine(key).atomically(turn)
    }
}

impl<S: Sql> OtherStreams for Transaction<'_, S> {
    async fn retain(
        &self,
        source: &StreamName,
        fork: &Fork,
        reference: Generation,
        now: Timestamp,
    ) -> Result<ForkSnapshot, Refusal> {
        match self.write(source, |engine| engine.retain(fork, reference, now)) {
            Err(Refusal::Unknown) => Err(Refusal::NoSource),
            shared => shared,
        }
    }

    async fn release(
        &self,
        source: &StreamName,
        reference: Generation,
        now: Timestamp,
    ) -> Result<(), BackendError> {
        match self.write(source, |engine| engine.release(reference, now)) {
            Ok(()) | Err(Refusal::Unknown) => Ok(()),
            Err(refusal) => Err(BackendError::new(format!("giving {source} back"), refusal)),
        }
    }
}

// By value, as `map_err` passes it.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn storage(error: SqlError) -> Refusal {
    Refusal::Storage {
        why: error.to_string(),
    }
}
