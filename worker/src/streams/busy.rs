//! Doing something once at a time.

use std::cell::Cell;
use std::time::Duration;

use pmx_core::time::Timestamp;

use super::bell::Bell;

/// Something that only one may do at a time.
#[derive(Debug, Default)]
pub(super) struct Busy {
    since: Cell<Option<Timestamp>>,
    over: Bell,
}

/// Whoever does it. Others may when this is gone.
#[derive(Debug)]
pub(super) struct Doing<'a> {
    busy: &'a Busy,
    since: Timestamp,
}

/// After so long somebody is given up for lost: the request that they did it for may be gone.
pub(super) const LOST: Duration = Duration::from_secs(20);

impl Busy {
    /// Begins, unless somebody is at it.
    pub(super) fn begin(&self, now: Timestamp) -> Option<Doing<'_>> {
        let is_at_it = |since: Timestamp| now < since.after(LOST);
        if self.since.get().is_some_and(is_at_it) {
            return None;
        }
        self.since.set(Some(now));
        Some(Doing {
            busy: self,
            since: now,
        })
    }

    /// Rings when somebody has done it.
    pub(super) const fn over(&self) -> &Bell {
        &self.over
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        if self.busy.since.get() == Some(self.since) {
            self.busy.since.set(None);
        }
        self.busy.over.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_unless_they_are_lost() {
        let at = Timestamp::from_millis;
        let busy = Busy::default();
        let doing = busy.begin(at(1)).unwrap();
        assert!(busy.begin(at(2)).is_none());
        drop(doing);
        assert_eq!(busy.over().rung(), 1);
        let lost = busy.begin(at(2)).unwrap();
        let next = busy.begin(at(2).after(LOST)).unwrap();
        drop(lost);
        assert!(busy.begin(at(3).after(LOST)).is_none(), "the next is at it");
        drop(next);
        assert!(busy.begin(at(3).after(LOST)).is_some());
    }
}
