//! Upload workers: a few threads build bodies, the others perform network I/O.
//!
//! Building takes memory, so only a few threads build. Each of the others holds one finished body.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::codec::{Encoder, Level};
use pmx_sync::pack::wire::PackBuilder;

use crate::args::Compression;
use crate::error::Failure;

/// Threads that build: each holds a pack's bytes, raw and compressed, and zstd's window.
const BUILDERS_MAX: usize = 2;

/// Threads that send: each holds a finished body.
const SENDERS_MAX: usize = 4;

/// A line slower than this, in bytes a second for each builder, is worth a higher compression level
/// (see
/// [`Level::WIRE_SMALL`]).
const SLOW_BYTES_PER_SECOND: u128 = 15_000_000 / 8;

/// Below this size, the time of a body measures the server and not the line.
const MEASURED_BYTES_MIN: usize = 256 * 1024;

/// Runs every job on a pool of threads. Jobs begin in order. The first failure stops the pool.
pub(super) fn for_each<J: Sync>(
    jobs: &[J],
    work: impl Fn(&J) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let one = || {
        while lock(&failed).is_none() {
            let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            // A panic ends the upload as an error: other threads may be waiting for this one.
            let done = catch_unwind(AssertUnwindSafe(|| work(job)));
            if let Err(failure) = done.unwrap_or_else(|panic| Err(panicked(&*panic))) {
                lock(&failed).get_or_insert(failure);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.len().min(SENDERS_MAX) {
            scope.spawn(one);
        }
        one();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let why = text.unwrap_or("it gives no reason");
    Failure::new(
        Code::Local,
        format!("a thread of the upload panicked: {why}"),
    )
    .with_hint("This is a fault of pmx: report it. What was uploaded stays.")
}

/// Compression level that adapts to the speed of the line and the number of cores.
#[derive(Debug)]
pub(super) struct AdaptiveLevel {
    compression: Compression,
    is_slow: AtomicBool,
}

impl AdaptiveLevel {
    /// Starts with the level that the user chose.
    pub(super) const fn new(compression: Compression) -> Self {
        let is_slow = AtomicBool::new(false);
        Self {
            compression,
            is_slow,
        }
    }

    /// The level of the next body.
    pub(super) fn level(&self) -> Level {
        match self.compression {
            Compression::Level(level) => level,
            Compression::Auto if self.is_slow.load(Ordering::Relaxed) => Level::WIRE_SMALL,
            Compression::Auto => Level::WIRE,
        }
    }

    /// The level of the next body with a base.
    pub(super) fn level_behind(&self) -> Level {
        match self.compression {
            Compression::Level(level) => level,
            Compression::Auto if self.is_slow.load(Ordering::Relaxed) => Level::WIRE,
            Compression::Auto => Level::WIRE_WITH_PREFIX,
        }
    }

    /// Records the time that a body took to send.
    pub(super) fn note(&self, bytes: usize, took: Duration) {
        if bytes < MEASURED_BYTES_MIN {
            return;
        }
        // The senders share the line.
        let rate = bytes as u128 * SENDERS_MAX as u128 * 1000 / took.as_millis().max(1);
        let is_slow = rate < SLOW_BYTES_PER_SECOND * builders() as u128;
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }
}

/// Threads that build: limited by the cores, and by the memory.
fn builders() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cores.min(BUILDERS_MAX)
}

/// Buffers of a builder. A builder reuses them, because allocators free large blocks slowly.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) encoder: Encoder,
    pub(super) builder: PackBuilder,
    /// Buffer for the blobs that a pack refers to.
    pub(super) prefix: Vec<u8>,
}

/// Pool of scratch buffers: one for each thread that may build.
pub(super) struct ScratchPool {
    free: Mutex<Vec<Scratch>>,
    returned: Condvar,
}

impl ScratchPool {
    /// Creates a scratch for each builder.
    pub(super) fn new() -> Self {
        Self {
            free: Mutex::new((0..builders()).map(|_| Scratch::default()).collect()),
            returned: Condvar::new(),
        }
    }

    /// Runs `work` with a scratch, as soon as one is free.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let free = self
            .returned
            .wait_while(lock(&self.free), |free| free.is_empty());
        let taken = free.unwrap_or_else(PoisonError::into_inner).pop();
        let mut guard = ScratchGuard {
            pool: self,
            scratch: taken.unwrap_or_default(),
        };
        work(&mut guard.scratch)
    }
}

/// A scratch in use. It returns to the pool when the work ends, also by a panic.
struct ScratchGuard<'a> {
    pool: &'a ScratchPool,
    scratch: Scratch,
}

impl Drop for ScratchGuard<'_> {
    fn drop(&mut self) {
        let scratch = std::mem::take(&mut self.scratch);
        // A scratch may be inconsistent after a panic, so it is not reused.
        let is_sound = !std::thread::panicking();
        let scratch = if is_sound {
            scratch
        } else {
            Scratch::default()
        };
        lock(&self.pool.free).push(scratch);
        self.pool.returned.notify_one();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_in_a_job_is_an_error_and_never_a_hang() {
        let scratch_pool = ScratchPool::new();
        // More panics than scratches: a lost scratch would block the other jobs.
        let jobs: Vec<u32> = (0..50).collect();
        for _ in 0..4 {
            let failure = for_each(&jobs, |job| {
                scratch_pool.with(|_| assert!(job % 2 == 1, "job {job} is even"));
                Ok(())
            });
            let failure = failure.unwrap_err();
            assert_eq!(failure.code, Code::Local);
            assert!(failure.message.contains("is even"), "{failure}");
        }
        assert_eq!(lock(&scratch_pool.free).len(), builders());
        for_each(&jobs, |_| scratch_pool.with(|_| Ok(()))).unwrap();
    }

    #[test]
    fn adaptive_level_ignores_small_bodies() {
        let after = |compression, bytes, millis| {
            let adaptive = AdaptiveLevel::new(compression);
            adaptive.note(bytes, Duration::from_millis(millis));
            (adaptive.level().number(), adaptive.level_behind().number())
        };
        let kibibyte = 1024;
        for (bytes, millis, levels) in [
            // The server takes its time for a small body.
            (70 * kibibyte, 90, (3, 2)),
            (700 * kibibyte, 90, (3, 2)),
            (700 * kibibyte, 9_000, (5, 3)),
            (4_000 * kibibyte, 0, (3, 2)),
        ] {
            let found = after(Compression::Auto, bytes, millis);
            assert_eq!(found, levels, "{bytes} B in {millis} ms");
            let asked = Level::new(7).unwrap();
            assert_eq!(after(Compression::Level(asked), bytes, millis), (7, 7));
        }
    }
}
