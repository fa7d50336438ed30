//! Memory budget for request bodies, taken as bytes arrive.
//!
//! A body takes the bytes that its client has sent, not those that it announces: an announcement
//! costs a client nothing. When the budget is used up, the slowest body releases its bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// Bytes that all bodies share.
pub(crate) struct Budget {
    bytes_max: usize,
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Default)]
struct Table {
    used: usize,
    next: u64,
    arriving: BTreeMap<u64, Arriving>,
}

/// A body that is still being received.
struct Arriving {
    since: Instant,
    bytes: usize,
    given_up: Arc<Notify>,
}

impl Arriving {
    /// Bytes per second of a body that had time to show its rate.
    fn rate(&self) -> u64 {
        let millis = self.since.elapsed().as_millis().max(1) as u64;
        self.bytes as u64 * 1_000 / millis
    }
}

/// The bytes of one body, which its drop releases.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    id: u64,
    bytes: usize,
    given_up: Arc<Notify>,
}

/// The budget is used up, and this body is the slowest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GivenUp;

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            table: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// The share of a body that has no bytes yet.
    pub(crate) fn share(self: &Arc<Self>) -> Reservation {
        let given_up: Arc<Notify> = Arc::default();
        let mut table = self.table();
        table.next += 1;
        let id = table.next;
        let arriving = Arriving {
            since: Instant::now(),
            bytes: 0,
            given_up: Arc::clone(&given_up),
        };
        table.arriving.insert(id, arriving);
        drop(table);
        Reservation {
            budget: Arc::clone(self),
            id,
            bytes: 0,
            given_up,
        }
    }

    fn take(&self, id: u64, bytes: usize) -> bool {
        let mut table = self.table();
        if table.used + bytes > self.bytes_max {
            return false;
        }
        table.used += bytes;
        if let Some(arriving) = table.arriving.get_mut(&id) {
            arriving.bytes += bytes;
        }
        true
    }

    /// Makes the slowest body that holds bytes give up.
    fn give_up_slowest(&self) {
        let table = self.table();
        let holding = table
            .arriving
            .values()
            .filter(|arriving| arriving.bytes > 0);
        if let Some(slowest) = holding.min_by_key(|arriving| arriving.rate()) {
            slowest.given_up.notify_one();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Takes bytes from the budget after they arrived.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), GivenUp> {
        loop {
            let freed = self.budget.freed.notified();
            if self.budget.take(self.id, bytes) {
                self.bytes += bytes;
                return Ok(());
            }
            tokio::select! {
                () = self.given_up.notified() => return Err(GivenUp),
                waited = timeout(PATIENCE, freed) => {
                    if waited.is_err() {
                        self.budget.give_up_slowest();
                    }
                }
            }
        }
    }

    /// Waits until the body has to give up.
    pub(crate) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Records that the whole body has arrived: the client can no longer delay it.
    pub(crate) fn settle(&self) {
        self.budget.table().arriving.remove(&self.id);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut table = self.budget.table();
        table.arriving.remove(&self.id);
        table.used -= self.bytes;
        drop(table);
        self.budget.freed.notify_waiters();
    }
}

/// How long a body waits for the budget before the slowest body gives up.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn budget_is_not_taken_by_announced_bytes() {
        let budget = Budget::new(10);
        let _idle: Vec<Reservation> = (0..1_000).map(|_| budget.share()).collect();
        assert_eq!(budget.share().grow(10).await, Ok(()));
    }

    #[tokio::test]
    async fn budget_takes_bytes_back_from_the_slowest_body() {
        let budget = Budget::new(10);
        let mut slow = budget.share();
        slow.grow(1).await.unwrap();
        for arriving in budget.table().arriving.values_mut() {
            arriving.since -= Duration::from_millis(50);
        }
        let mut fast = budget.share();
        fast.grow(9).await.unwrap();
        let mut more = budget.share();
        let (slow_ends, grown) = tokio::join!(
            async {
                slow.given_up().await;
                drop(slow);
            },
            more.grow(1),
        );
        assert_eq!((slow_ends, grown), ((), Ok(())));
    }

    #[tokio::test]
    async fn budget_waits_for_whole_bodies() {
        let budget = Budget::new(10);
        let mut whole = budget.share();
        whole.grow(10).await.unwrap();
        whole.settle();
        let mut next = budget.share();
        let waits = timeout(2 * PATIENCE, next.grow(1)).await;
        assert!(waits.is_err());
        drop(whole);
        assert_eq!(next.grow(1).await, Ok(()));
    }
}
