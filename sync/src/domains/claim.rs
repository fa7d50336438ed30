//! Domain claim: a space's claim to a host, and how the findings in DNS change it.
//!
//! A claim is proved by a TXT record that names the server and the claim's own challenge. The
//! record is looked up again each day. A claim whose record is gone is served for [`GRACE`] more,
//! so that a slip in a DNS zone takes no site away.

use std::time::Duration;

use pmx_core::name::SpaceName;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::host::CustomHost;
use super::secrets::{Challenge, ServerId};

/// How long a host is served after its record was first found absent.
pub const GRACE: Duration = Duration::from_hours(3 * 24);

/// How long lookups may fail before a record counts as absent: a resolver that is down takes no
/// site away, and a zone that no server answers for does not keep it for ever.
const UNKNOWN_TIME: Duration = Duration::from_hours(14 * 24);

/// How long a claim waits for its first record.
const PENDING_TIME: Duration = Duration::from_hours(7 * 24);

/// How long a claim that is no longer served is kept, and found again by its record.
const STOPPED_TIME: Duration = Duration::from_hours(30 * 24);

/// Time between two checks of a record that is there.
const DAY: Duration = Duration::from_hours(24);

/// Time between two checks of a record that is absent, or whose lookup failed.
const HOUR: Duration = Duration::from_hours(1);

/// The shortest time between two checks of a claim that waits for its record.
const MINUTE: Duration = Duration::from_mins(1);

/// A space's claim to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The host.
    pub host: CustomHost,
    /// The space.
    pub space: SpaceName,
    /// The text that the record must have, beside the server's id.
    pub challenge: Challenge,
    /// When the claim was made.
    pub added: Timestamp,
    /// When its record was last looked up.
    pub checked: Option<Timestamp>,
    /// What is known of it.
    pub standing: ClaimState,
}

/// What is known of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum ClaimState {
    /// Its record was never found.
    Pending,
    /// Its record was found.
    Proved {
        /// The last time.
        at: Timestamp,
    },
    /// Its record was found once, and is absent now.
    Absent {
        /// The first time that it was absent.
        since: Timestamp,
    },
    /// The operator vouches for it: nothing is looked up.
    Trusted,
}

/// What a lookup of a record found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// The record of this claim.
    Present,
    /// Surely no record of this claim.
    Absent,
    /// Nothing: the resolver failed.
    Unknown,
}

impl Claim {
    /// The text of the TXT record that proves the claim.
    pub fn proof(&self, server: &ServerId) -> String {
        format!("pmx-domain={server}.{}", self.challenge)
    }

    /// Whether the host shows the space.
    pub fn is_served(&self, now: Timestamp) -> bool {
        match self.standing {
            ClaimState::Pending => false,
            ClaimState::Proved { .. } | ClaimState::Trusted => true,
            ClaimState::Absent { since } => now < since.after(GRACE),
        }
    }

    /// Whether another claim's record does not take the host from this one.
    pub const fn is_firm(&self) -> bool {
        matches!(
            self.standing,
            ClaimState::Proved { .. } | ClaimState::Trusted
        )
    }

    /// When the host stops, if its record stays absent.
    pub const fn ends(&self) -> Option<Timestamp> {
        match self.standing {
            ClaimState::Absent { since } => Some(since.after(GRACE)),
            ClaimState::Pending | ClaimState::Proved { .. } | ClaimState::Trusted => None,
        }
    }

    /// The claim after a lookup.
    #[must_use]
    pub fn found(self, finding: Finding, now: Timestamp) -> Self {
        let standing = match (self.standing, finding) {
            (ClaimState::Trusted, _) => ClaimState::Trusted,
            (_, Finding::Present) => ClaimState::Proved { at: now },
            (ClaimState::Proved { .. }, Finding::Absent) => ClaimState::Absent { since: now },
            (ClaimState::Proved { at }, Finding::Unknown) if now >= at.after(UNKNOWN_TIME) => {
                ClaimState::Absent { since: now }
            }
            (standing, Finding::Absent | Finding::Unknown) => standing,
        };
        Self {
            checked: Some(now),
            standing,
            ..self
        }
    }

    /// When its record is to be looked up next, or the claim is to be dropped. `None` is never.
    pub fn due(&self) -> Option<Timestamp> {
        let checked = self.checked.unwrap_or(self.added);
        let next = match self.standing {
            ClaimState::Trusted => return None,
            // A claim waits twice as long each time.
            ClaimState::Pending => {
                let waited = checked.as_millis().saturating_sub(self.added.as_millis());
                checked.after(Duration::from_millis(waited).clamp(MINUTE, DAY))
            }
            ClaimState::Proved { at } if at == checked => checked.after(DAY),
            ClaimState::Proved { .. } => checked.after(HOUR),
            ClaimState::Absent { since } if checked < since.after(GRACE) => {
                // The check at the end of the grace announces that the host stopped.
                checked.after(HOUR).min(since.after(GRACE))
            }
            ClaimState::Absent { .. } => checked.after(DAY),
        };
        Some(self.dropped().map_or(next, |dropped| next.min(dropped)))
    }

    /// Whether the claim is over: nothing proved it for too long.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.dropped().is_some_and(|at| at <= now)
    }

    fn dropped(&self) -> Option<Timestamp> {
        match self.standing {
            ClaimState::Pending => Some(self.added.after(PENDING_TIME)),
            ClaimState::Absent { since } => Some(since.after(STOPPED_TIME)),
            ClaimState::Proved { .. } | ClaimState::Trusted => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: u64 = 1_000_000;

    fn hours(hours: u64) -> Timestamp {
        Timestamp::from_millis(T0 + hours * 3_600_000)
    }

    fn claim(standing: ClaimState) -> Claim {
        Claim {
            host: CustomHost::parse("docs.example.com").unwrap(),
            space: SpaceName::parse("docs").unwrap(),
            challenge: Challenge::from_bytes([1; 16]),
            added: hours(0),
            checked: None,
            standing,
        }
    }

    #[test]
    fn found_changes_a_claim() {
        use Finding::{Absent, Present, Unknown};
        let proved = |at| ClaimState::Proved { at: hours(at) };
        let absent = |since| ClaimState::Absent {
            since: hours(since),
        };
        for (before, finding, at, after) in [
            (ClaimState::Pending, Absent, 1, ClaimState::Pending),
            (ClaimState::Pending, Unknown, 1, ClaimState::Pending),
            (ClaimState::Pending, Present, 1, proved(1)),
            (proved(1), Present, 25, proved(25)),
            (proved(1), Absent, 25, absent(25)),
            (proved(1), Unknown, 25, proved(1)),
            (proved(1), Unknown, 1 + 14 * 24, absent(1 + 14 * 24)),
            (absent(1), Absent, 2, absent(1)),
            (absent(1), Unknown, 99, absent(1)),
            (absent(1), Present, 2, proved(2)),
            // A record that comes back after the grace proves the claim again.
            (absent(1), Present, 500, proved(500)),
            (ClaimState::Trusted, Absent, 1, ClaimState::Trusted),
        ] {
            let found = claim(before).found(finding, hours(at));
            assert_eq!(found.standing, after, "{before:?} {finding:?} {at}");
        }
    }

    #[test]
    fn host_stops_three_days_after_its_record_and_without_a_check() {
        let gone = claim(ClaimState::Absent { since: hours(10) });
        assert_eq!(gone.ends(), Some(hours(82)));
        for (at, expected) in [(10, true), (81, true), (82, false), (9_999, false)] {
            assert_eq!(gone.is_served(hours(at)), expected, "{at}");
        }
        assert!(!claim(ClaimState::Pending).is_served(hours(0)));
        assert!(claim(ClaimState::Trusted).is_served(hours(99_999)));
    }

    #[test]
    fn due_is_daily_hourly_or_grows() {
        let checked = |standing, at| Claim {
            checked: Some(hours(at)),
            ..claim(standing)
        };
        let minutes = |at: Option<Timestamp>| at.map(|at| (at.as_millis() - T0) / 60_000);
        for (claim, expected) in [
            (claim(ClaimState::Pending), Some(1)),
            (checked(ClaimState::Pending, 1), Some(120)),
            (checked(ClaimState::Pending, 100), Some(124 * 60)),
            (checked(ClaimState::Pending, 167), Some(168 * 60)),
            (
                checked(ClaimState::Proved { at: hours(5) }, 5),
                Some(29 * 60),
            ),
            (
                checked(ClaimState::Proved { at: hours(5) }, 29),
                Some(30 * 60),
            ),
            (
                checked(ClaimState::Absent { since: hours(5) }, 5),
                Some(6 * 60),
            ),
            (
                checked(ClaimState::Absent { since: hours(5) }, 76),
                Some(77 * 60),
            ),
            // Once the host has stopped, its record is looked for each day.
            (
                checked(ClaimState::Absent { since: hours(5) }, 77),
                Some(101 * 60),
            ),
            (checked(ClaimState::Trusted, 5), None),
        ] {
            assert_eq!(minutes(claim.due()), expected, "{claim:?}");
        }
    }

    #[test]
    fn claim_without_a_proof_is_over() {
        for (standing, at, expected) in [
            (ClaimState::Pending, 167, false),
            (ClaimState::Pending, 168, true),
            (ClaimState::Absent { since: hours(0) }, 719, false),
            (ClaimState::Absent { since: hours(0) }, 720, true),
            (ClaimState::Proved { at: hours(0) }, 9_999, false),
        ] {
            assert_eq!(
                claim(standing).is_over(hours(at)),
                expected,
                "{standing:?} {at}"
            );
        }
    }
}
