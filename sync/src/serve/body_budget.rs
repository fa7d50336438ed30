//! Body budget: bounds the memory of request bodies, and refuses instead of waiting.
//!
//! A request takes a permit for its announced bytes before it reads the body, and returns the
//! permit with the response. The server refuses a request that gets no permit, and its client
//! retries.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

/// Bytes that the bodies of all requests share.
#[derive(Debug)]
pub struct BodyBudget {
    bytes_max: u64,
    next: Cell<u64>,
    taken: RefCell<BTreeMap<u64, Taken>>,
}

/// The share of one body.
#[derive(Debug)]
struct Taken {
    bytes: u64,
    since: Timestamp,
}

/// The reserved bytes of one body. Dropping the permit returns them.
#[derive(Debug)]
pub struct BodyPermit {
    room: Rc<BodyBudget>,
    id: u64,
}

impl BodyBudget {
    /// Makes a budget of that many bytes.
    pub fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            bytes_max: bytes_max as u64,
            next: Cell::new(0),
            taken: RefCell::default(),
        })
    }

    /// Reserves bytes for a body of at most `limit` bytes. A client that announces no length
    /// reserves the whole limit.
    pub fn take(
        self: &Rc<Self>,
        announced: Option<u64>,
        limit: usize,
        now: Timestamp,
    ) -> Result<BodyPermit, Problem> {
        let limit = limit as u64;
        let bytes = announced.unwrap_or(limit).min(limit);
        let mut taken = self.taken.borrow_mut();
        // A platform may end a request silently, and then drops no permit.
        taken.retain(|_, taken| now < taken.since.after(LOST));
        let used: u64 = taken.values().map(|taken| taken.bytes).sum();
        if bytes > 0 && used + bytes > self.bytes_max {
            return Err(full(bytes, self.bytes_max - used.min(self.bytes_max)));
        }
        let id = self.next.get();
        self.next.set(id + 1);
        taken.insert(id, Taken { bytes, since: now });
        let room = Rc::clone(self);
        Ok(BodyPermit { room, id })
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.room.taken.borrow_mut().remove(&self.id);
    }
}

/// After this time a body counts as lost: no client takes longer to send one.
const LOST: Duration = Duration::from_mins(5);

fn full(bytes: u64, left: u64) -> Problem {
    let detail = format!("a body of {bytes} bytes, where there is room for {left} at the moment");
    let mut problem = Problem::new(Code::TooMany, detail);
    problem.status = 503;
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    #[test]
    fn body_budget_is_shared_and_given_back() {
        let room = BodyBudget::new(10);
        let first = room.take(Some(6), 8, NOW).unwrap();
        let refused = room.take(Some(5), 8, NOW).unwrap_err();
        assert_eq!((refused.code, refused.status), (Code::TooMany, 503));
        let second = room.take(Some(4), 8, NOW).unwrap();
        assert!(room.take(Some(0), 8, NOW).is_ok(), "no body needs no room");
        drop(first);
        assert!(room.take(Some(7), 8, NOW).is_err());
        drop(second);
        assert!(room.take(Some(8), 8, NOW).is_ok());
    }

    #[test]
    fn body_without_a_length_counts_as_the_limit() {
        let room = BodyBudget::new(10);
        let _rest = room.take(Some(3), 8, NOW).unwrap();
        assert!(room.take(None, 8, NOW).is_err());
        // A body over the limit is refused later, and reserves no more than the limit.
        assert!(room.take(Some(u64::MAX), 7, NOW).is_ok());
    }

    #[test]
    fn body_budget_is_given_back_by_a_dropped_request() {
        let room = BodyBudget::new(10);
        std::mem::forget(room.take(Some(10), 10, NOW).unwrap());
        assert!(room.take(Some(1), 10, NOW).is_err());
        assert!(room.take(Some(10), 10, NOW.after(LOST)).is_ok());
    }
}
