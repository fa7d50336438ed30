//! Single flight: one caller at a time does a piece of work.

use std::cell::Cell;
use std::time::Duration;

use pmx_core::time::Timestamp;

use super::notify::Notify;

/// Work that one caller at a time may do.
#[derive(Debug, Default)]
pub(super) struct SingleFlight {
    since: Cell<Option<Timestamp>>,
    done: Notify,
}

/// Permit for the work; dropping it lets the next caller begin.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    flights: &'a SingleFlight,
    since: Timestamp,
}

/// When a flight counts as lost: its request may have been cancelled without a drop.
pub(super) const LOST: Duration = Duration::from_secs(20);

impl SingleFlight {
    /// Begins, unless another flight is under way.
    pub(super) fn try_begin(&self, now: Timestamp) -> Option<Flight<'_>> {
        let is_under_way = |since: Timestamp| now < since.after(LOST);
        if self.since.get().is_some_and(is_under_way) {
            return None;
        }
        self.since.set(Some(now));
        Some(Flight {
            flights: self,
            since: now,
        })
    }

    /// Notifies its waiters whenever a flight ends.
    pub(super) const fn done(&self) -> &Notify {
        &self.done
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.flights.since.get() == Some(self.since) {
            self.flights.since.set(None);
        }
        self.flights.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_flight_is_under_way_unless_it_is_lost() {
        let at = Timestamp::from_millis;
        let flights = SingleFlight::default();
        let flight = flights.try_begin(at(1)).unwrap();
        assert!(flights.try_begin(at(2)).is_none());
        drop(flight);
        assert_eq!(flights.done().version(), 1);
        let lost = flights.try_begin(at(2)).unwrap();
        let next = flights.try_begin(at(2).after(LOST)).unwrap();
        drop(lost);
        assert!(
            flights.try_begin(at(3).after(LOST)).is_none(),
            "the next one is under way"
        );
        drop(next);
        assert!(flights.try_begin(at(3).after(LOST)).is_some());
    }
}
