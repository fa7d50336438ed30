//! Wake state machine of a subscription: pure, in one value.
//!
//! ```text
//!            work appears                 effect begins
//!   idle ------------------> queued ---------------------> sent
//!    ^                        ^  ^                          |
//!    |  done, nothing left    |  |  it failed: wait longer  |  it went well
//!    +------------------------|--+--------------------------+
//!    |                        |                             v
//!    |                        +---- lease over, or done ---- awake, announced
//!    +------------------------------- and nothing left ----------+
//! ```
//!
//! Every wake has a generation of its own. Whatever comes from an earlier one is fenced off: no
//! two workers can both believe that a wake is theirs and both be believed.

use std::collections::BTreeMap;
use std::time::Duration;

use pmx_core::time::Timestamp;

use crate::limits::{WAKE_RETRY_MAX, WAKE_RETRY_MIN};
use crate::{Offset, StreamName};

/// The wake of a subscription, the last one if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wake {
    /// How many there were, this one included.
    pub(super) generation: u64,
    /// Where it stands.
    pub(super) phase: Phase,
    /// How often in a row no one could be woken.
    pub(super) failures: u64,
    /// What a webhook was told: this is done when it says so at once.
    pub(super) sent: BTreeMap<StreamName, Offset>,
}

/// Where a wake stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no wake: nothing is to be done.
    Idle,
    /// A client is to be woken.
    Queued {
        /// When.
        at: Timestamp,
        /// After this moment it is another wake, of the next generation: a worker that was notified
        /// of this one may have lost its lease, or may not know that it has one.
        keep: Timestamp,
    },
    /// A worker is being woken; without an answer until then, none was.
    Sent {
        /// The end of the lease, of a webhook.
        until: Timestamp,
    },
    /// The wake stands in the wake stream; no one took it yet.
    Announced,
    /// A client is at work.
    Awake {
        /// The end of the lease.
        until: Timestamp,
        /// Who, if the wake was claimed.
        holder: Option<String>,
    },
}

/// A moment that never comes.
pub(super) const NEVER: Timestamp = Timestamp::from_millis(pmx_core::limits::EXACT_INTEGER_MAX);

/// A moment that is always over.
pub(super) const PAST: Timestamp = Timestamp::from_millis(0);

impl Wake {
    /// Before the first one.
    pub(super) fn none() -> Self {
        Self {
            generation: 0,
            phase: Phase::Idle,
            failures: 0,
            sent: BTreeMap::new(),
        }
    }

    /// Begins the next wake: a worker is to be woken at a moment.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.generation += 1;
        self.phase = Phase::Queued { at, keep: NEVER };
        self.sent.clear();
    }

    /// Ends the wake.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Idle;
        self.sent.clear();
    }

    /// Whether a worker that was notified of this generation may still speak for it.
    pub(super) fn is_current(&self) -> bool {
        match self.phase {
            Phase::Idle => false,
            Phase::Queued { .. } | Phase::Sent { .. } | Phase::Announced | Phase::Awake { .. } => {
                true
            }
        }
    }

    /// Whether the lease has ended.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        match self.phase {
            Phase::Sent { until } | Phase::Awake { until, .. } => until <= now,
            Phase::Idle | Phase::Queued { .. } | Phase::Announced => false,
        }
    }

    /// When something has to happen automatically.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Idle | Phase::Announced => None,
            Phase::Queued { at, .. } => Some(at),
            Phase::Sent { until } | Phase::Awake { until, .. } => Some(until),
        }
    }

    /// Who holds the lease.
    pub(super) fn holder(&self) -> Option<&str> {
        match &self.phase {
            Phase::Awake { holder, .. } => holder.as_deref(),
            Phase::Idle | Phase::Queued { .. } | Phase::Sent { .. } | Phase::Announced => None,
        }
    }
}

/// How long to wait after so many failures in a row: from a second to a minute, twice as long
/// each time, moved by up to a fifth of it either way.
pub(super) fn backoff(failures: u64, jitter_seed: u16) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let base = WAKE_RETRY_MIN
        .saturating_mul(2u32.saturating_pow(doublings.min(16)))
        .min(WAKE_RETRY_MAX);
    let low = base * 4 / 5;
    low + base * 2 / 5 * u32::from(jitter_seed) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_come_ever_later() {
        for (failures, seconds) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 4),
            (6, 32),
            (7, 60),
            (u64::MAX, 60),
        ] {
            let base = Duration::from_secs(seconds);
            assert_eq!(backoff(failures, 0), base * 4 / 5, "{failures}");
            assert_eq!(backoff(failures, u16::MAX), base * 6 / 5, "{failures}");
            let middle = backoff(failures, u16::MAX / 2);
            assert!(middle.abs_diff(base) < base / 100, "{failures}: {middle:?}");
        }
    }
}
