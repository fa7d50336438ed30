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
//! Every wake has a generation. The engine fences off reports of earlier generations, so that of
//! two workers that hold a wake, only one is accepted.

use std::collections::BTreeMap;
use std::time::Duration;

use pmx_core::time::Timestamp;

use crate::limits::{WAKE_RETRY_MAX, WAKE_RETRY_MIN};
use crate::{Offset, StreamName};

/// The current wake of a subscription, or the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubscriptionWake {
    /// The number of wakes so far, including this one.
    pub(super) generation: u64,
    pub(super) phase: WakePhase,
    /// How many deliveries failed in a row.
    pub(super) failures: u64,
    /// The tails that the delivery contained: a worker that answers `done` acknowledges them.
    pub(super) sent: BTreeMap<StreamName, Offset>,
}

/// The phase of a wake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WakePhase {
    /// There is no wake.
    Idle,
    /// The server has to wake a worker.
    Queued {
        /// When the server delivers the wake.
        at: Timestamp,
        /// From this time on the delivery begins the next generation. A worker that received this
        /// one may have lost its lease, or may not know of it.
        keep: Timestamp,
    },
    /// The delivery is in flight.
    Sent {
        /// When it counts as failed. For a webhook this is the end of the lease.
        until: Timestamp,
    },
    /// The wake stream contains the wake, and no worker has claimed it.
    Announced,
    /// A worker holds the lease.
    Awake {
        /// The end of the lease.
        until: Timestamp,
        /// The worker's name, if it claimed the wake.
        holder: Option<String>,
    },
}

/// A time that is always in the future.
pub(super) const NEVER: Timestamp = Timestamp::from_millis(pmx_core::limits::EXACT_INTEGER_MAX);

/// A time that is always in the past.
pub(super) const PAST: Timestamp = Timestamp::from_millis(0);

impl SubscriptionWake {
    /// The state before the first wake.
    pub(super) fn none() -> Self {
        Self {
            generation: 0,
            phase: WakePhase::Idle,
            failures: 0,
            sent: BTreeMap::new(),
        }
    }

    /// Begins the next wake, which the server delivers at a time.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.generation += 1;
        self.phase = WakePhase::Queued { at, keep: NEVER };
        self.sent.clear();
    }

    pub(super) fn end(&mut self) {
        self.phase = WakePhase::Idle;
        self.sent.clear();
    }

    /// Whether the engine accepts reports of this generation.
    pub(super) fn is_current(&self) -> bool {
        match self.phase {
            WakePhase::Idle => false,
            WakePhase::Queued { .. }
            | WakePhase::Sent { .. }
            | WakePhase::Announced
            | WakePhase::Awake { .. } => true,
        }
    }

    /// Whether the lease has ended.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        match self.phase {
            WakePhase::Sent { until } | WakePhase::Awake { until, .. } => until <= now,
            WakePhase::Idle | WakePhase::Queued { .. } | WakePhase::Announced => false,
        }
    }

    /// When the engine has to act without another event.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match self.phase {
            WakePhase::Idle | WakePhase::Announced => None,
            WakePhase::Queued { at, .. } => Some(at),
            WakePhase::Sent { until } | WakePhase::Awake { until, .. } => Some(until),
        }
    }

    /// The worker that holds the lease.
    pub(super) fn holder(&self) -> Option<&str> {
        match &self.phase {
            WakePhase::Awake { holder, .. } => holder.as_deref(),
            WakePhase::Idle
            | WakePhase::Queued { .. }
            | WakePhase::Sent { .. }
            | WakePhase::Announced => None,
        }
    }
}

/// Delay before the next delivery after failures in a row: doubles from a second to a minute, with
/// up to 20 % jitter either way.
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
    fn backoff_doubles_up_to_a_minute_with_jitter() {
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
