//! Valid claims that a space does not confirm: the server remembers them for a moment.
//!
//! A true claim costs one question: the answer is noted, and the next claim finds it. Only a claim
//! with a valid token gets here, so an unconfirmed one names a deploy that the space has lost. Each
//! such number is asked about once in [`SPAN`]; claims of other numbers are not held up by it.

use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::time::Timestamp;

use crate::index::Cache;

/// Claims that a space did not confirm, and when it was asked.
pub(super) struct RevalidationLimiter(Cache<(Channel, u64), Timestamp>);

const SPAN: Duration = Duration::from_secs(1);

/// Bytes of claims that are kept: about a thousand.
const CLAIMS_BYTES: usize = 256 * 1024;

impl Default for RevalidationLimiter {
    fn default() -> Self {
        Self(Cache::new(CLAIMS_BYTES))
    }
}

impl RevalidationLimiter {
    /// Whether the space may be asked because of a valid claim of `deploy`.
    pub(super) fn allow(&self, channel: &Channel, deploy: u64, now: Timestamp) -> bool {
        let asked = self.0.find(&(channel.clone(), deploy));
        asked.is_none_or(|asked| now >= asked.after(SPAN))
    }

    /// Notes that the space did not confirm a claim.
    pub(super) fn record_miss(&self, channel: &Channel, deploy: u64, now: Timestamp) {
        let bytes = channel.space.as_str().len() + 160;
        self.0.insert((channel.clone(), deploy), now, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unconfirmed_claim_is_asked_once_a_second_and_holds_up_no_other() {
        let claims = RevalidationLimiter::default();
        let [one, two] = ["one", "two"].map(|name| Channel::of_label(name).unwrap());
        let at = |millis: u64| Timestamp::from_millis(1_000_000 + millis);
        let asked = |channel, deploy, millis: u64| {
            let may = claims.allow(channel, deploy, at(millis));
            if may {
                claims.record_miss(channel, deploy, at(millis));
            }
            may
        };
        let times = (0..1_000).filter(|millis| asked(&one, 9, *millis)).count();
        assert_eq!(times, 1);
        assert!(asked(&one, 8, 500), "another claim is not held up");
        assert!(asked(&two, 9, 500), "another channel is not held up");
        assert!(asked(&one, 9, 1_000));
    }
}
