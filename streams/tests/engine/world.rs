//! Test host: streams in one database, with cold storage in memory and injected crashes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use pmx_core::backend::BackendError;
use pmx_core::crossing::{Crossing, arrived};
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;
use pmx_streams::driver::{self, JobsOutcome, OtherStreams};
use pmx_streams::{
    Append, Appended, Cold, Create, Created, Deleted, Engine, EngineConfig, Fork, ForkSnapshot,
    Generation, Page, Read, Refusal, RowCache, SegmentKey, StreamName,
};
use pmx_tests::sql::Sqlite;

/// Counts steps, and fails every step from a given one on.
#[derive(Debug, Default)]
pub(super) struct Faults {
    steps: Cell<u64>,
    crash: Cell<Option<u64>>,
}

impl Faults {
    /// Fails all steps after `steps` more.
    pub(super) fn crash_after(&self, steps: Option<u64>) {
        self.steps.set(0);
        self.crash.set(steps);
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    fn step(&self) -> Result<(), ()> {
        let step = self.steps.replace(self.steps.get() + 1);
        match self.crash.get() {
            Some(crash) if step >= crash => Err(()),
            Some(_) | None => Ok(()),
        }
    }
}

pub(super) struct Database<'a> {
    sqlite: Sqlite,
    faults: &'a Faults,
}

impl Sql for Database<'_> {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        assert!(params.len() <= 100, "{statement}");
        let step = self.faults.step();
        step.map_err(|()| SqlError("the machine is off".to_owned()))?;
        self.sqlite.run(statement, params)
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        // The commit is a step of its own: it may fail after everything before it succeeded.
        self.sqlite.atomically(|_| {
            let done = body(self)?;
            let step = self.faults.step();
            step.map_err(|()| SqlError("the machine is off".to_owned()))?;
            Ok(done)
        })
    }
}

/// A database in which every statement is a step.
pub(super) fn database(faults: &Faults) -> Database<'_> {
    let sqlite = Sqlite::new();
    Database { sqlite, faults }
}

/// Segments in memory.
pub(super) struct MemoryCold<'a> {
    pub(super) objects: RefCell<BTreeMap<SegmentKey, Bytes>>,
    faults: &'a Faults,
}

impl MemoryCold<'_> {
    fn step(&self) -> Result<(), BackendError> {
        let step = self.faults.step();
        step.map_err(|()| BackendError::new("cold storage", "the machine is off"))
    }
}

impl Cold for MemoryCold<'_> {
    async fn read(
        &self,
        key: &SegmentKey,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        self.step()?;
        let objects = self.objects.borrow();
        let range = range.start as usize..range.end as usize;
        Ok(objects
            .get(key)
            .filter(|object| range.end <= object.len())
            .map(|object| object.slice(range)))
    }

    async fn write(&self, key: &SegmentKey, body: Bytes) -> Result<(), BackendError> {
        self.step()?;
        let before = self.objects.borrow_mut().insert(*key, body.clone());
        assert!(before.is_none_or(|before| before == body), "{key} changed");
        self.step()
    }

    async fn delete(&self, keys: &[SegmentKey]) -> Result<(), BackendError> {
        self.step()?;
        let mut objects = self.objects.borrow_mut();
        objects.retain(|key, _| !keys.contains(key));
        self.step()
    }

    async fn list(&self, generation: Generation) -> Result<Vec<SegmentKey>, BackendError> {
        self.step()?;
        let objects = self.objects.borrow();
        let keys = objects.keys().filter(|key| key.generation == generation);
        Ok(keys.take(2).copied().collect())
    }
}

pub(super) struct World<'a> {
    pub(super) sql: Database<'a>,
    pub(super) cold: MemoryCold<'a>,
    pub(super) engine_config: EngineConfig,
    generations: Cell<u8>,
    row_caches: [RowCache; NAMES.len()],
}

/// Names of all streams; the key of each is its number.
pub(super) const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn key(stream: usize) -> i64 {
    stream.try_into().unwrap()
}

pub(super) fn name(stream: usize) -> StreamName {
    StreamName::parse(NAMES[stream]).unwrap()
}

impl<'a> World<'a> {
    pub(super) fn new(engine_config: EngineConfig, faults: &'a Faults) -> Self {
        let sql = database(faults);
        Engine::install(&sql).unwrap();
        let objects = RefCell::default();
        Self {
            sql,
            cold: MemoryCold { objects, faults },
            engine_config,
            generations: Cell::default(),
            row_caches: Default::default(),
        }
    }

    pub(super) fn engine(&self, stream: usize) -> Engine<'_, Database<'a>> {
        self.engine_of(stream, &self.engine_config)
    }

    /// Every other stream has a row cache, as in a Durable Object.
    fn engine_of<'b>(
        &'b self,
        stream: usize,
        engine_config: &'b EngineConfig,
    ) -> Engine<'b, Database<'a>> {
        let engine = Engine::new(&self.sql, key(stream), engine_config);
        if stream.is_multiple_of(2) {
            engine.with_row_cache(&self.row_caches[stream])
        } else {
            engine
        }
    }

    pub(super) fn create(
        &self,
        stream: usize,
        call: &Create,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        self.generations.set(self.generations.get().wrapping_add(1));
        let mut generation = [0; 16];
        generation[0] = self.generations.get();
        let generation = Generation::from_random(generation);
        poll_ready(driver::create(
            &self.engine(stream),
            self,
            call,
            now,
            generation,
        ))
    }

    pub(super) fn append(
        &self,
        stream: usize,
        call: &Append,
        now: Timestamp,
    ) -> Result<Appended, Refusal> {
        let engine = self.engine(stream);
        if stream.is_multiple_of(2) {
            // As in a Durable Object.
            return Ok(engine.append_alone(call, now)?.appended);
        }
        engine.atomically(|engine| engine.append(call, now))
    }

    pub(super) fn read(&self, stream: usize, call: &Read, now: Timestamp) -> Result<Page, Refusal> {
        poll_ready(driver::read(&self.engine(stream), &self.cold, call, now))
    }

    pub(super) fn delete(&self, stream: usize, now: Timestamp) -> Result<Deleted, Refusal> {
        let engine = self.engine(stream);
        engine.atomically(|engine| engine.delete(now))
    }

    pub(super) fn jobs(&self, stream: usize, now: Timestamp) -> Result<JobsOutcome, SqlError> {
        let engine = self.engine(stream);
        poll_ready(driver::run_jobs(&engine, &self.cold, self, Some, now))
    }

    /// The same without memory for rotations.
    pub(super) fn jobs_without_memory(
        &self,
        stream: usize,
        now: Timestamp,
    ) -> Result<JobsOutcome, SqlError> {
        let engine = self.engine(stream);
        let reserve = |bytes| (bytes == 0).then_some(());
        poll_ready(driver::run_jobs(&engine, &self.cold, self, reserve, now))
    }

    /// Runs all jobs but rotations.
    pub(super) fn tidy(&self, now: Timestamp) {
        let engine_config = EngineConfig {
            segment_bytes: u64::MAX,
            segment_messages: u64::MAX,
            ..self.engine_config.clone()
        };
        let engine = |stream| self.engine_of(stream, &engine_config);
        // The end of a fork may make its source's job due.
        while let Some(stream) = (0..NAMES.len()).find(|&stream| {
            let due = engine(stream).due(now).unwrap();
            due.is_some_and(|due| due <= now)
        }) {
            let jobs = poll_ready(driver::run_jobs(
                &engine(stream),
                &self.cold,
                self,
                Some,
                now,
            ))
            .unwrap();
            assert_eq!(jobs.failures, []);
        }
    }

    /// Advances the time until the incarnations of ended streams are deleted.
    pub(super) fn forget_incarnation(&self, now: u64) {
        let later = Timestamp::from_millis(now + 8 * 24 * 60 * 60 * 1_000);
        for stream in 0..NAMES.len() {
            let engine = self.engine(stream);
            assert_eq!(engine.next_job(later).unwrap(), None);
        }
    }

    /// Rows of a table.
    pub(super) fn rows(&self, table: &str) -> u64 {
        let select = format!("SELECT count(*) FROM {table}");
        match self.sql.run(&select, &[]).unwrap()[0][0] {
            Value::Integer(count) => count.try_into().unwrap(),
            _ => unreachable!("a count is a number"),
        }
    }

    /// Every object is listed by a stream, or retained by a deleted stream for its forks.
    pub(super) fn check_objects(&self) {
        let select = "SELECT DISTINCT generation FROM stream_segment \
             UNION SELECT generation FROM stream WHERE deleted = 1";
        let rows = self.sql.run(select, &[]).unwrap();
        let generations: BTreeSet<_> = rows.concat().into_iter().map(text).collect();
        for key in self.cold.objects.borrow().keys() {
            assert!(generations.contains(&key.generation.to_string()), "{key}");
        }
        let select = "SELECT generation, start, object_end FROM stream_segment";
        for row in self.sql.run(select, &[]).unwrap() {
            let [generation, start, end] = row.try_into().unwrap();
            let key = SegmentKey {
                generation: Generation::from_hex(&text(generation)).unwrap(),
                start: number(start),
                end: number(end),
            };
            assert!(self.cold.objects.borrow().contains_key(&key), "{key}");
        }
    }
}

fn text(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        _ => unreachable!("it is text"),
    }
}

fn number(value: Value) -> u64 {
    match value {
        Value::Integer(number) => number.try_into().unwrap(),
        _ => unreachable!("it is a number"),
    }
}

impl OtherStreams for World<'_> {
    async fn retain(
        &self,
        source: &StreamName,
        fork: &Fork,
        reference: Generation,
        now: Timestamp,
    ) -> Result<ForkSnapshot, Refusal> {
        let engine = self.engine(number_of(source));
        let snapshot = engine.atomically(|engine| engine.retain(fork, reference, now))?;
        // Encoded and decoded as between two Durable Objects.
        Ok(arrived(&Crossing::of(snapshot).unwrap().to_bytes()).unwrap())
    }

    async fn release(
        &self,
        source: &StreamName,
        reference: Generation,
        now: Timestamp,
    ) -> Result<(), BackendError> {
        let engine = self.engine(number_of(source));
        engine
            .atomically(|engine| engine.release(reference, now))
            .map_err(|error| BackendError::new("giving back", error))
    }
}

pub(super) fn number_of(name: &StreamName) -> usize {
    let position = NAMES.iter().position(|it| *it == name.as_str());
    position.unwrap()
}

/// Polls a future that never waits.
pub(super) fn poll_ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing waits"),
    }
}
