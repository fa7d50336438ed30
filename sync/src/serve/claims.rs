//! How far readers are believed who say that they know of a newer deploy.
//!
//! A true claim costs one question: its answer is noted, and whoever comes next finds it. A false
//! one would cost a question each time, so only so many of a space are looked into in a second.

use std::time::Duration;

use crate::index::Cache;
use crate::name::SpaceName;
use crate::time::Timestamp;

/// Questions about a space that led to nothing, in this second.
pub(super) struct Claims(Cache<SpaceName, Vain>);

#[derive(Debug, Clone, Copy)]
struct Vain {
    since: Timestamp,
    questions: u32,
}

/// Questions in vain about a space within [`SPAN`], for each process or isolate. A reader may say
/// what is true a moment before a space says so; nobody needs more than that.
const VAIN_MAX: u32 = 8;

const SPAN: Duration = Duration::from_secs(1);

/// Bytes of what is kept: some thousand spaces.
const CLAIMS_BYTES: usize = 256 * 1024;

impl Default for Claims {
    fn default() -> Self {
        Self(Cache::new(CLAIMS_BYTES))
    }
}

impl Claims {
    /// Whether a space may be asked because of a claim.
    pub(super) fn may_ask(&self, space: &SpaceName, now: Timestamp) -> bool {
        self.vain(space, now).questions < VAIN_MAX
    }

    /// Notes that a claim was not true.
    pub(super) fn in_vain(&self, space: &SpaceName, now: Timestamp) {
        let mut vain = self.vain(space, now);
        vain.questions = vain.questions.saturating_add(1);
        self.0
            .insert(space.clone(), vain, space.as_str().len() + 64);
    }

    fn vain(&self, space: &SpaceName, now: Timestamp) -> Vain {
        let known = self.0.find(space);
        let fresh = known.filter(|vain| now < vain.since.after(SPAN));
        fresh.unwrap_or(Vain {
            since: now,
            questions: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn false_claims_about_one_space_are_looked_into_a_few_times_a_second() {
        let claims = Claims::default();
        let [one, two] = ["one", "two"].map(|name| SpaceName::parse(name).unwrap());
        let at = |millis: u64| Timestamp::from_millis(1_000_000 + millis);
        let asked = |space, millis: u64| {
            let may = claims.may_ask(space, at(millis));
            if may {
                claims.in_vain(space, at(millis));
            }
            may
        };
        let times = (0..100).filter(|millis| asked(&one, *millis)).count();
        assert_eq!(times, 8);
        assert!(asked(&two, 100), "another space is another affair");
        assert!(!asked(&one, 999));
        assert!(asked(&one, 1_000));
    }
}
