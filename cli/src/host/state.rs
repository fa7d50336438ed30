//! Application state of the host: all that answering a request takes.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pmx_core::problem::Problem;
use pmx_sync::serve::{Piece, Server};
use tokio::sync::Semaphore;

use super::blobs::Folder;
use super::budget::Budget;
use super::compress::Compressor;
use super::front::Front;
use super::journal::Log;
use super::live::Live;
use super::local::Local;
use super::outbound::Backing;
use super::ready::block_on;
use super::streams::Streams;

/// All that answering a request takes.
pub(crate) struct Counter {
    pub(crate) server: Server<Local>,
    pub(crate) front: Front,
    pub(crate) log: Log,
    pub(crate) live: Live,
    pub(super) streams: Option<Arc<Streams>>,
    pub(super) compressor: Compressor,
    /// Memory for bodies of the publish API.
    pub(super) room: Arc<Budget>,
    /// Requests of the publish API at work.
    pub(super) turns: Arc<Semaphore>,
}

impl Counter {
    pub(crate) fn new(
        front: Front,
        server: Server<Local>,
        streams: Option<Arc<Streams>>,
        live: Live,
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
            room: Budget::new(ROOM_BYTES),
            turns: Arc::new(Semaphore::new((cores + 1).min(TURNS_MAX))),
        }
    }
}

impl Backing for Counter {
    fn blobs(&self) -> &Folder {
        &self.server.backend().blobs
    }

    fn verify(&self, piece: &Piece) -> Result<(), Problem> {
        let mut verifying = pin!(self.server.verify(piece, super::now()));
        let mut context = Context::from_waker(Waker::noop());
        // Mostly it is known, or read at once. It waits where a space has to note a loss.
        let verified = match verifying.as_mut().poll(&mut context) {
            Poll::Ready(verified) => verified,
            Poll::Pending => tokio::task::block_in_place(|| block_on(verifying)),
        };
        if let Err(problem) = &verified {
            // The head of the answer may be sent already, so no status says why the body ends.
            self.log.fault("reading the body of an answer", problem);
        }
        verified
    }
}

/// Bytes of request bodies in memory at once: three of the largest.
const ROOM_BYTES: usize = 36 * 1024 * 1024;

/// Requests of the publish API at work at once. Each may hold a pack raw and as frames, beside its
/// body and the server's caches, and the host is to stay under 256 MiB.
const TURNS_MAX: usize = 3;
