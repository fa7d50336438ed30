//! Driver: alternates transactions of a stream with effects on other streams and on cold storage.
//!
//! Every effect runs between two transactions. The first records the intent, the second the result;
//! after a crash, the driver finds the intent and resumes. So an effect may happen twice, and every
//! effect is idempotent.

use std::future::Future;
use std::mem;

use pmx_core::backend::BackendError;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::call::{Create, Fork, Read};
use super::cold::Cold;
use super::create::ForkStart;
use super::engine::Engine;
use super::fork::ForkSnapshot;
use super::generation::Generation;
use super::job::StreamJob;
use super::name::StreamName;
use super::read::ReadResult;
use super::reply::{Created, Page, Refusal};

/// Port to other streams.
pub trait OtherStreams {
    /// Calls [`Engine::retain`] of `source`.
    fn retain(
        &self,
        source: &StreamName,
        fork: &Fork,
        reference: Generation,
        now: Timestamp,
    ) -> impl Future<Output = Result<ForkSnapshot, Refusal>>;

    /// Calls [`Engine::release`] of `source`. A source that no longer exists is no error.
    fn release(
        &self,
        source: &StreamName,
        reference: Generation,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), BackendError>>;
}

/// Outcome of running the jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsOutcome {
    /// When to run the jobs again.
    pub next: Option<Timestamp>,
    /// Failures of jobs, which stay queued.
    pub failures: Vec<BackendError>,
}

/// Creates a stream, which may be a fork.
pub async fn create<S: Sql, P: OtherStreams>(
    engine: &Engine<'_, S>,
    others: &P,
    call: &Create,
    now: Timestamp,
    generation: Generation,
) -> Result<Created, Refusal> {
    let Some(fork) = &call.fork else {
        return engine.atomically(|engine| engine.create(call, now, generation));
    };
    match engine.atomically(|engine| engine.begin_fork(call, generation, now))? {
        ForkStart::Existing(created) => return Ok(created),
        ForkStart::Resolve => {}
    }
    let created = match others.retain(&fork.source, fork, generation, now).await {
        Ok(snapshot) => {
            engine.atomically(|engine| engine.complete_fork(call, generation, &snapshot, now))
        }
        Err(refusal) => Err(refusal),
    };
    if created.is_err() {
        abandon(engine, others, &fork.source, generation, now).await?;
    }
    created
}

/// Releases the snapshot of a failed fork immediately, so that its source can be deleted. If that
/// fails, a job does it.
async fn abandon<S: Sql, P: OtherStreams>(
    engine: &Engine<'_, S>,
    others: &P,
    source: &StreamName,
    reference: Generation,
    now: Timestamp,
) -> Result<(), Refusal> {
    engine.atomically(|engine| engine.abandon_fork(reference, now))?;
    if others.release(source, reference, now).await.is_ok() {
        let source = source.clone();
        let job = StreamJob::Release { source, reference };
        engine.atomically(|engine| engine.complete_job(&job, now))?;
    }
    Ok(())
}

/// Reads a page from the hot log and cold storage.
pub async fn read<S: Sql, C: Cold>(
    engine: &Engine<'_, S>,
    cold: &C,
    call: &Read,
    now: Timestamp,
) -> Result<Page, Refusal> {
    let result = engine.atomically(|engine| engine.read(call, now))?;
    fetch_cold(engine, cold, result, now).await
}

/// The same, without renewing the time to live.
pub async fn peek<S: Sql, C: Cold>(
    engine: &Engine<'_, S>,
    cold: &C,
    call: &Read,
    now: Timestamp,
) -> Result<Page, Refusal> {
    let result = engine.peek(call, now)?;
    fetch_cold(engine, cold, result, now).await
}

async fn fetch_cold<S: Sql, C: Cold>(
    engine: &Engine<'_, S>,
    cold: &C,
    result: ReadResult,
    now: Timestamp,
) -> Result<Page, Refusal> {
    let cold_read = match result {
        ReadResult::Page(page) => return Ok(page),
        ReadResult::Cold(cold_read) => cold_read,
    };
    let generation = cold_read.view().generation.clone();
    let fetched = cold_read.fetch(cold).await;
    match (&fetched, engine.head(now)) {
        // The segments of a deleted stream are deleted: the refusal explains the failure.
        (Err(_), Err(refusal)) => Err(refusal),
        (Err(_), Ok(view)) if view.generation != generation => Err(Refusal::Unknown),
        (Err(_) | Ok(_), _) => fetched,
    }
}

/// Runs all due jobs: rotation, expiry, deletion of segments, and release of sources. A failed job
/// does not delay the others.
///
/// Rotation holds old rows in memory. `reserve` returns a permit for that many bytes; without one,
/// the rotation is postponed.
pub async fn run_jobs<S: Sql, C: Cold, P: OtherStreams, R>(
    engine: &Engine<'_, S>,
    cold: &C,
    others: &P,
    reserve: impl Fn(u64) -> Option<R>,
    now: Timestamp,
) -> Result<JobsOutcome, SqlError> {
    let mut failures = Vec::new();
    loop {
        let permit = reserve(engine.rotating_bytes(now)?);
        if permit.is_none() {
            engine.atomically(|engine| engine.rotate_later(now))?;
        }
        let Some(mut job) = engine.atomically(|engine| engine.next_job(now))? else {
            break;
        };
        match perform(&mut job, cold, others, now).await {
            Ok(()) => engine.atomically(|engine| engine.complete_job(&job, now))?,
            Err(failure) => {
                engine.atomically(|engine| engine.fail_job(&job, now))?;
                failures.push(failure);
            }
        }
    }
    let next = engine.due(now)?;
    Ok(JobsOutcome { next, failures })
}

/// Performs the effect of a job. It takes the bytes of a segment out of the job, so that there is
/// only one copy of them.
pub async fn perform<C: Cold, P: OtherStreams>(
    job: &mut StreamJob,
    cold: &C,
    others: &P,
    now: Timestamp,
) -> Result<(), BackendError> {
    match job {
        StreamJob::WriteSegment { key, body, .. } => cold.write(key, mem::take(body)).await,
        StreamJob::DeleteSegment { key } => cold.delete(&[*key]).await,
        StreamJob::DeleteSegments { generation } => delete_segments(*generation, cold).await,
        StreamJob::Release { source, reference } => others.release(source, *reference, now).await,
    }
}

async fn delete_segments<C: Cold>(generation: Generation, cold: &C) -> Result<(), BackendError> {
    loop {
        let keys = cold.list(generation).await?;
        if keys.is_empty() {
            return Ok(());
        }
        cold.delete(&keys).await?;
    }
}
