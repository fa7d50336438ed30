//! Revalidation limiter: bounds requests to a space for deploy tokens that the space does not
//! confirm.
//!
//! A confirmed token costs one request, because the server caches the reply. Only valid tokens get
//! here, so an unconfirmed one names a deploy that the space has lost. The server asks about each
//! such number once per [`SPAN`], independently of other numbers.

use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::time::Timestamp;

use crate::bounded_cache::BoundedCache;

/// Deploys that a space did not confirm, and when the server asked.
pub(super) struct RevalidationLimiter(BoundedCache<(Channel, u64), Timestamp>);

const SPAN: Duration = Duration::from_secs(1);

/// Bytes of the cache: about a thousand deploys.
const CLAIMS_BYTES: usize = 256 * 1024;

impl Default for RevalidationLimiter {
    fn default() -> Self {
        Self(BoundedCache::new(CLAIMS_BYTES))
    }
}

impl RevalidationLimiter {
    /// Whether the server may ask the space for a valid token of `deploy`.
    pub(super) fn allow(&self, channel: &Channel, deploy: u64, now: Timestamp) -> bool {
        let asked = self.0.find(&(channel.clone(), deploy));
        asked.is_none_or(|asked| now >= asked.after(SPAN))
    }

    /// Records that the space did not confirm a token.
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
