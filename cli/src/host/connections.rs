//! Connection table: accepts every connection, and ends the least useful one when there are too
//! many.
//!
//! Silent connections end first, the longest silent one before others. If there are none, a client
//! ends that sends or takes bytes more slowly than any working link. Readers that wait for events
//! have a budget of their own, and do not count here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionPhase {
    /// No request of the client is unanswered.
    Silent,
    /// The client is sending a body.
    Receiving,
    /// The server is working on the answer.
    Working,
    /// The server is handling a request of the publish API.
    Publishing,
    /// The client is taking the answer.
    Sending,
    /// The client waits for events.
    Waiting,
}

/// All connections.
pub(crate) struct Connections {
    most: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Arc<State>>,
}

/// One connection, until it is dropped.
pub(crate) struct Connection {
    id: u64,
    all: Arc<Connections>,
    state: Arc<State>,
}

struct State {
    phase: Mutex<(ConnectionPhase, Instant)>,
    /// Bytes that moved since the phase began.
    bytes: AtomicU64,
    evicted: Notify,
}

/// The table is full, and no connection may end for a new one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Connections {
    /// A table of at most so many connections that do not wait.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            table: Mutex::default(),
        })
    }

    /// Admits a connection, if necessary in place of another.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Connection, Full> {
        let mut table = self.table();
        let open = table.open.iter();
        let counted: Vec<(u64, Judged)> = open
            .map(|(id, state)| (*id, state.judged()))
            .filter(|(_, judged)| judged.phase != ConnectionPhase::Waiting)
            .collect();
        if counted.len() >= self.most {
            let id = victim(&counted).ok_or(Full)?;
            if let Some(state) = table.open.remove(&id) {
                state.evicted.notify_one();
            }
        }
        table.next += 1;
        let id = table.next;
        let state = Arc::new(State {
            phase: Mutex::new((ConnectionPhase::Silent, Instant::now())),
            bytes: AtomicU64::new(0),
            evicted: Notify::new(),
        });
        table.open.insert(id, Arc::clone(&state));
        drop(table);
        Ok(Connection {
            id,
            all: Arc::clone(self),
            state,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Records the next phase of the connection.
    pub(crate) fn enter(&self, phase: ConnectionPhase) {
        *self.state.phase() = (phase, Instant::now());
        self.state.bytes.store(0, Ordering::Relaxed);
    }

    /// Records transferred bytes.
    pub(crate) fn moved(&self, bytes: usize) {
        self.state.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits until the connection is evicted.
    pub(crate) async fn evicted(&self) {
        self.state.evicted.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.table().open.remove(&self.id);
    }
}

impl State {
    fn phase(&self) -> MutexGuard<'_, (ConnectionPhase, Instant)> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged(&self) -> Judged {
        let (phase, since) = *self.phase();
        Judged {
            phase,
            age: since.elapsed(),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// The state of a connection at a decision.
#[derive(Debug, Clone, Copy)]
struct Judged {
    phase: ConnectionPhase,
    age: Duration,
    bytes: u64,
}

impl Judged {
    /// Bytes per second of a client that sends or takes them too slowly. `None` in phases such as
    /// `Publishing`: a busy space may keep many requests waiting.
    fn slow_rate(&self) -> Option<u64> {
        use ConnectionPhase::{Receiving, Sending, Working};
        let may_end = matches!(self.phase, Receiving | Sending | Working);
        if !may_end || self.age < SLOW_TIME {
            return None;
        }
        let rate = self.bytes * 1_000 / (self.age.as_millis() as u64).max(1);
        (rate < SLOW_BYTES).then_some(rate)
    }
}

/// The connection that ends for a new one.
fn victim(open: &[(u64, Judged)]) -> Option<u64> {
    let silent = open
        .iter()
        .filter(|(_, judged)| judged.phase == ConnectionPhase::Silent);
    let longest = silent.max_by_key(|(id, judged)| (judged.age, u64::MAX - id));
    let slow = open
        .iter()
        .filter_map(|(id, judged)| Some((judged.slow_rate()?, *id)));
    longest
        .map(|(id, _)| *id)
        .or_else(|| slow.min().map(|(_, id)| id))
}

/// How long a client has to show its rate.
const SLOW_TIME: Duration = Duration::from_secs(1);

/// Bytes per second below which a connection may end in a full table: slower than any working link.
const SLOW_BYTES: u64 = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(phase: ConnectionPhase, millis: u64, bytes: u64) -> Judged {
        Judged {
            phase,
            age: Duration::from_millis(millis),
            bytes,
        }
    }

    #[test]
    fn victim_is_silent_then_slow() {
        use ConnectionPhase::{Publishing, Receiving, Sending, Silent, Waiting, Working};
        for (open, expected) in [
            (&[][..], None),
            (&[judged(Silent, 5, 0), judged(Silent, 9, 0)][..], Some(1)),
            (
                &[judged(Receiving, 90_000, 1), judged(Silent, 0, 0)],
                Some(1),
            ),
            (
                &[judged(Receiving, 9_000, 90), judged(Sending, 9_000, 9)],
                Some(1),
            ),
            (&[judged(Receiving, 900, 0), judged(Sending, 900, 0)], None),
            (&[judged(Sending, 9_000, 9_000_000)], None),
            (
                &[judged(Publishing, 90_000, 0), judged(Waiting, 90_000, 0)],
                None,
            ),
            (
                &[judged(Publishing, 90_000, 0), judged(Working, 90_000, 0)],
                Some(1),
            ),
        ] {
            let numbered: Vec<_> = (0..).zip(open.iter().copied()).collect();
            assert_eq!(victim(&numbered), expected, "{open:?}");
        }
    }

    #[tokio::test]
    async fn admit_ends_the_silent_and_leaves_those_that_wait() {
        let all = Connections::new(2);
        let waiting: Vec<_> = (0..9).map(|_| all.admit().unwrap()).collect();
        // New connections evicted the first seven, which were silent.
        for connection in &waiting[7..] {
            connection.enter(ConnectionPhase::Waiting);
        }
        let (first, second) = (all.admit().unwrap(), all.admit().unwrap());
        second.enter(ConnectionPhase::Working);
        let third = all.admit().unwrap();
        first.evicted().await;
        third.enter(ConnectionPhase::Working);
        assert_eq!(all.admit().map(|_| ()), Err(Full));
        drop(second);
        assert!(all.admit().is_ok());
    }
}
