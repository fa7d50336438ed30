//! Stream transaction: operations on the streams of the database, by name.

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

/// A transaction over the streams of a database, at one time.
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

    /// Adds a cache of patterns that outlives the transaction.
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

    /// Runs statements that commit or roll back together.
    #[cfg(test)]
    pub(super) fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&S) -> Result<T, E>,
    ) -> Result<T, E> {
        self.sql.atomically(body)
    }

    /// The time of the transaction.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// When the jobs of the changed streams are due.
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
        // The registry and the subscriptions have the stream if and only if it exists.
        self.sql
            .atomically(|_| self.create_all(name, call, generation))
    }

    fn create_all(
        &self,
        name: &StreamName,
        call: &Create,
        generation: Generation,
    ) -> Result<Created, Refusal> {
        let key = stream_ids::find_or_insert(self.sql, name)?;
        self.touched.borrow_mut().insert(key);
        let engine = self.engine(key);
        let created = block_on(driver::create(&engine, self, call, self.now, generation))?;
        if created.fresh {
            self.report(name, key)?;
            self.on_created(name, created.view.next)?;
        }
        Ok(created)
    }

    pub(super) fn append(&self, name: &StreamName, call: &Append) -> Result<Appended, Refusal> {
        self.atomically_if_followed(|| {
            let appended = self.write(name, |engine| engine.append(call, self.now))?;
            if !appended.repeated {
                self.on_append(name, appended.next)?;
            }
            Ok(appended)
        })
    }

    pub(super) fn delete(&self, name: &StreamName) -> Result<Deleted, Refusal> {
        self.sql.atomically(|_| {
            let key = stream_ids::find(self.sql, name)?.ok_or(Refusal::Unknown)?;
            let deleted = self.write(name, |engine| engine.delete(self.now))?;
            self.report(name, key)?;
            self.on_removed(name)?;
            Ok(deleted)
        })
    }

    /// Reports the lifecycle events of the stream with a key to the registry.
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
                self.on_removed(name)?;
                // Its readers get its end.
                self.notify_readers(name);
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
        self.notify_readers(&registry);
        Ok(())
    }

    /// Notifies the readers of a stream after the commit.
    pub(super) fn notify_readers(&self, name: &StreamName) {
        self.changed.borrow_mut().insert(name.clone());
    }

    /// The streams whose readers have to be notified.
    pub(super) fn changed(&self) -> BTreeSet<StreamName> {
        self.changed.take()
    }

    pub(super) fn renew(&self, name: &StreamName) -> Result<(), Refusal> {
        self.write(name, |engine| engine.renew(self.now))
    }

    /// Runs one step of a stream, which commits or rolls back alone.
    fn write<T>(
        &self,
        name: &StreamName,
        step: impl FnOnce(&Engine<'_, S>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let key = stream_ids::find(self.sql, name).map_err(storage)?;
        let key = key.ok_or(Refusal::Unknown)?;
        self.touched.borrow_mut().insert(key);
        self.engine(key).atomically(step)
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
            Err(refusal) => Err(BackendError::new(format!("releasing {source}"), refusal)),
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
