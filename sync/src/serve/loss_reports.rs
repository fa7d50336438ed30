//! Loss reports, rate limited: the server reports to a space which content its store lost.
//!
//! Readers are anonymous, so few of their requests may reach the ledger. The server reports a loss
//! once per [`SPAN`], and few losses of a space. A later read reports a loss that it dropped.

use std::time::Duration;

use pmx_core::id::SpaceId;
use pmx_core::time::Timestamp;

use crate::bounded_cache::BoundedCache;
use crate::space::Loss;

/// Losses reported lately, and their number for each space.
pub(super) struct LossReports {
    reported: BoundedCache<(SpaceId, Loss), Timestamp>,
    counts: BoundedCache<SpaceId, (Timestamp, u32)>,
}

/// Losses of a space that a process or isolate reports within [`SPAN`].
const MARKS_MAX: u32 = 16;

const SPAN: Duration = Duration::from_secs(10);

/// Bytes of each of the two caches: about a thousand entries.
const MARKS_BYTES: usize = 256 * 1024;

/// Bytes that the cache charges for an entry: a loss as key and value, and the maps around it.
const ENTRY_BYTES: usize = 256;

impl Default for LossReports {
    fn default() -> Self {
        Self {
            reported: BoundedCache::new(MARKS_BYTES),
            counts: BoundedCache::new(MARKS_BYTES),
        }
    }
}

impl LossReports {
    /// Whether the server may report a loss now; if so, the loss counts as reported.
    pub(super) fn admit(&self, space: SpaceId, loss: Loss, now: Timestamp) -> bool {
        let is_recent = |at: Timestamp| now < at.after(SPAN);
        if self.reported.find(&(space, loss)).is_some_and(is_recent) {
            return false;
        }
        let counted = self.counts.find(&space);
        let (since, count) = counted.filter(|(at, _)| is_recent(*at)).unwrap_or((now, 0));
        if count >= MARKS_MAX {
            return false;
        }
        self.counts.insert(space, (since, count + 1), ENTRY_BYTES);
        self.reported.insert((space, loss), now, ENTRY_BYTES);
        true
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::id::{NodeId, ObjectId};
    use pmx_core::location::Extent;

    use super::*;
    use crate::space::Lost;

    fn loss(number: u64) -> Loss {
        let object = ObjectId::from_bytes([1; 16]);
        let at = Extent {
            object,
            offset: number,
            len: 1,
        };
        Loss {
            lost: Lost::Node {
                node: NodeId::of(b"node"),
                at,
            },
            object,
            is_absent: false,
        }
    }

    #[test]
    fn loss_reports_are_few_and_each_loss_is_reported_once_in_a_while() {
        let marks = LossReports::default();
        let [one, two] = [1, 2].map(|byte| SpaceId::from_bytes([byte; 16]));
        let at = |millis: u64| Timestamp::from_millis(1_000_000 + millis);
        assert!(marks.admit(one, loss(0), at(0)));
        assert!(!marks.admit(one, loss(0), at(9_999)), "reported already");
        assert!(
            marks.admit(one, loss(0), at(10_000)),
            "it may be lost again"
        );
        let admitted = (0..100)
            .filter(|n| marks.admit(two, loss(*n), at(0)))
            .count();
        assert_eq!(admitted, 16);
        assert!(marks.admit(two, loss(99), at(10_000)));
    }
}
