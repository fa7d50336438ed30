//! Transfer progress of a connection: the bytes that its sockets took, and its waiting requests.
//!
//! The client counts a body as the sockets take its pieces. So the count runs ahead of the network
//! only by the unsent bytes in the sockets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::workers::lock;

/// Requests and bytes of a client so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, repeated ones included.
    pub requests: u64,
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of the bodies of answers.
    pub received: u64,
}

impl Traffic {
    /// The traffic after an earlier moment.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            sent: self.sent - before.sent,
            received: self.received - before.received,
        }
    }
}

/// The counts of a client.
#[derive(Debug, Default)]
pub struct Transfer {
    pub(super) requests: AtomicU64,
    retries: AtomicU64,
    pub(super) sent: AtomicU64,
    received: AtomicU64,
    /// Requests whose bodies are being sent.
    pub(super) sending: AtomicUsize,
    /// Requests without an answer whose bodies are sent.
    pub(super) waiting: AtomicUsize,
    retrying: Mutex<Option<Retry>>,
}

#[derive(Debug, Clone)]
struct Retry {
    why: String,
    until: Instant,
}

/// Activity of a client at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// No request is under way.
    Nothing,
    /// Bodies are sent.
    Sending,
    /// All requests wait for the server.
    Waiting,
    /// A failed request waits for its retry.
    Retrying {
        /// Why it failed.
        why: String,
        /// The remaining wait.
        left: Duration,
    },
}

impl Transfer {
    /// The traffic so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    /// Requests that were sent again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// The client's activity now.
    pub fn activity(&self, now: Instant) -> Activity {
        if self.sending.load(Ordering::Relaxed) > 0 {
            return Activity::Sending;
        }
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return Activity::Waiting;
        }
        match &*lock(&self.retrying) {
            Some(Retry { why, until }) => Activity::Retrying {
                why: why.clone(),
                left: until.saturating_duration_since(now),
            },
            None => Activity::Nothing,
        }
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Shows that a request waits for its retry, until the guard is dropped.
    pub(super) fn retry(&self, why: &str, wait: Duration) -> Retrying<'_> {
        self.retries.fetch_add(1, Ordering::Relaxed);
        *lock(&self.retrying) = Some(Retry {
            why: why.lines().next().unwrap_or_default().to_owned(),
            until: Instant::now() + wait,
        });
        Retrying(self)
    }
}

/// See [`Transfer::retry`].
pub(super) struct Retrying<'a>(&'a Transfer);

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        *lock(&self.0.retrying) = None;
    }
}
