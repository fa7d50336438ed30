//! Application state of the host, shared by all requests.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use pmx_core::backend::{BackendError, ObjectKey};
use pmx_core::problem::Problem;
use pmx_sync::serve::{BodyRange, Server};
use tokio::sync::Semaphore;

use super::access_log::Log;
use super::admission::Front;
use super::blocking::block_on;
use super::budget::Budget;
use super::compress::Compressor;
use super::live::LiveState;
use super::local_backend::LocalBackend;
use super::response_body::Backing;
use super::streams::Streams;

/// Everything that a handler needs.
pub(crate) struct AppState {
    pub(crate) server: Server<LocalBackend>,
    pub(crate) front: Front,
    pub(crate) log: Log,
    pub(crate) live: LiveState,
    pub(super) streams: Option<Arc<Streams>>,
    pub(super) compressor: Compressor,
    /// Memory for bodies of the publish API.
    pub(super) body_budget: Arc<Budget>,
    /// Requests of the publish API in progress.
    pub(super) permits: Arc<Semaphore>,
    /// Turns of reads from an object store.
    far_turns: Arc<Semaphore>,
}

impl AppState {
    pub(crate) fn new(
        front: Front,
        server: Server<LocalBackend>,
        streams: Option<Arc<Streams>>,
        live: LiveState,
        log: Log,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            compressor: Compressor::new(),
            front,
            server,
            log,
            live,
            streams,
            body_budget: Budget::new(BODY_BUDGET_BYTES),
            permits: Arc::new(Semaphore::new((cores + 1).min(PERMITS_MAX))),
            far_turns: Arc::new(Semaphore::new(FAR_READS_MAX)),
        }
    }
}

impl Backing for AppState {
    fn is_near(&self) -> bool {
        self.server.backend().blobs.is_near()
    }

    fn far_turns(&self) -> Option<&Arc<Semaphore>> {
        (!self.is_near()).then_some(&self.far_turns)
    }

    fn read(&self, key: ObjectKey, range: &Range<u64>) -> Result<Option<Bytes>, BackendError> {
        self.server.backend().blobs.read_now(key, range)
    }

    fn verify(&self, piece: &BodyRange) -> Result<(), Problem> {
        let mut verifying = pin!(self.server.verify(piece, super::now()));
        let mut context = Context::from_waker(Waker::noop());
        // Usually the result is cached, or one read away. It waits if a space has to record a loss.
        let verified = match verifying.as_mut().poll(&mut context) {
            Poll::Ready(verified) => verified,
            Poll::Pending => tokio::task::block_in_place(|| block_on(verifying)),
        };
        if let Err(problem) = &verified {
            // The head of the answer may be sent already, so no status can report the failure.
            self.log.fault("reading the body of an answer", problem);
        }
        verified
    }
}

/// Bytes of request bodies in memory at once: three of the largest.
const BODY_BUDGET_BYTES: usize = 36 * 1024 * 1024;

/// Reads of bodies from an object store at once. Each holds a blocking thread, and a store that
/// never answers is to leave the others to publishes, ledgers and the alarm.
const FAR_READS_MAX: usize = 12;

/// Requests of the publish API in progress at once. Each may hold a pack raw and as frames, beside
/// its body and the server's caches. The host is to stay under 256 MiB.
const PERMITS_MAX: usize = 3;
