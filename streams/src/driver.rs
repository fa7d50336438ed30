//! Driver: alternates transactions of a stream with effects on other streams and on cold storage.
//!
//! Every effect stands between two turns. The first writes down that it is about to happen, the
//! second that it did; a driver that comes after a crash finds the first and goes on. So an effect
//! may happen twice, and each is such that this does no harm.

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
use super::job::Job;
use super::name::StreamName;
use super::read::ReadResult;
use super::reply::{Created, Page, Refusal};

/// How a stream reaches other streams.
pub trait OtherStreams {
    /// Has `source` keep what `fork` needs: [`Engine::retain`] there.
    fn retain(
        &self,
        source: &StreamName,
        fork: &Fork,
        reference: Generation,
        now: Timestamp,
    ) -> impl Future<Output = Result<ForkSnapshot, Refusal>>;

    /// Has `source` let go of it: [`Engine::release`] there. A source that no longer
    /// exists is no error.
    fn release(
        &self,
        source: &StreamName,
        reference: Generation,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), BackendError>>;
}

/// What became of the chores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsOutcome {
    /// When to come again.
    pub next: Option<Timestamp>,
    /// What failed, and will be tried again.
    pub failures: Vec<BackendError>,
}

/// Makes a stream, a fork or not.
pub async fn create<S: Sql, P: OtherStreams>(
    engine: &Engine<'_, S>,
    peers: &P,
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
    let settled = match peers.retain(&fork.source, fork, generation, now).await {
        Ok(snapshot) => {
            engine.atomically(|engine| engine.complete_fork(call, generation, &snapshot, now))
        }
        Err(refusal) => Err(refusal),
    };
    if settled.is_err() {
        abandon(engine, peers, &fork.source, generation, now).await?;
    }
    settled
}

/// Gives back at once what a fork that came to nothing was lent: no one should find the source
/// still needed. If that fails, it is a job.
async fn abandon<S: Sql, P: OtherStreams>(
    engine: &Engine<'_, S>,
    peers: &P,
    source: &StreamName,
    reference: Generation,
    now: Timestamp,
) -> Result<(), Refusal> {
    engine.atomically(|engine| engine.abandon_fork(reference, now))?;
    if peers.release(source, reference, now).await.is_ok() {
        let source = source.clone();
        let job = Job::Release { source, reference };
        engine.atomically(|engine| engine.complete_job(&job, now))?;
    }
    Ok(())
}

/// Reads a page, from wherever it lies.
pub async fn read<S: Sql, C: Cold>(
    engine: &Engine<'_, S>,
    cold: &C,
    call: &Read,
    now: Timestamp,
) -> Result<Page, Refusal> {
    let reading = engine.atomically(|engine| engine.read(call, now))?;
    joined(engine, cold, reading, now).await
}

/// The same, but no one notes that it was read.
pub async fn peek<S: Sql, C: Cold>(
    engine: &Engine<'_, S>,
    cold: &C,
    call: &Read,
    now: Timestamp,
) -> Result<Page, Refusal> {
    let reading = engine.peek(call, now)?;
    joined(engine, cold, reading, now).await
}

async fn joined<S: Sql, C: Cold>(
    engine: &Engine<'_, S>,
    cold: &C,
    reading: ReadResult,
    now: Timestamp,
) -> Result<Page, Refusal> {
    let cold_read = match reading {
        ReadResult::Page(page) => return Ok(page),
        ReadResult::Cold(cold_read) => cold_read,
    };
    let generation = cold_read.view().generation.clone();
    let fetched = cold_read.fetch(cold).await;
    match (&fetched, engine.head(now)) {
        // Objects go when their stream does: then that is the answer.
        (Err(_), Err(refusal)) => Err(refusal),
        (Err(_), Ok(view)) if view.generation != generation => Err(Refusal::Unknown),
        (Err(_) | Ok(_), _) => fetched,
    }
}

/// Does what is left to do: moves old rows to segments, ends what expired, deletes what no one
/// needs, gives back what was lent. A failure of one does not hold up the others.
///
/// Old rows are in memory while they move. `room` gives room for so many bytes until it is dropped;
/// where there is none, they move later.
pub async fn run_jobs<S: Sql, C: Cold, P: OtherStreams, R>(
    engine: &Engine<'_, S>,
    cold: &C,
    peers: &P,
    room: impl Fn(u64) -> Option<R>,
    now: Timestamp,
) -> Result<JobsOutcome, SqlError> {
    let mut failures = Vec::new();
    loop {
        let moving = engine.rotating_bytes(now)?;
        let share = room(moving);
        if share.is_none() {
            engine.atomically(|engine| engine.rotate_later(now))?;
        }
        let Some(mut job) = engine.atomically(|engine| engine.next_job(now))? else {
            break;
        };
        match perform(&mut job, cold, peers, now).await {
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

/// Has the effect of a job. The bytes of a segment leave it, so that they are held by one while
/// they are written.
pub async fn perform<C: Cold, P: OtherStreams>(
    job: &mut Job,
    cold: &C,
    peers: &P,
    now: Timestamp,
) -> Result<(), BackendError> {
    match job {
        Job::WriteSegment { key, body, .. } => cold.write(key, mem::take(body)).await,
        Job::DeleteSegment { key } => cold.delete(&[*key]).await,
        Job::DeleteSegments { generation } => erase(*generation, cold).await,
        Job::Release { source, reference } => peers.release(source, *reference, now).await,
    }
}

async fn erase<C: Cold>(generation: Generation, cold: &C) -> Result<(), BackendError> {
    loop {
        let keys = cold.list(generation).await?;
        if keys.is_empty() {
            return Ok(());
        }
        cold.delete(&keys).await?;
    }
}
