//! Recently read pointers: an isolate reads a pointer from KV once in a moment.
//!
//! The requests of one page view arrive within a second or two, mostly at one isolate. Cloudflare
//! bills each read. KV itself returns a pointer up to half a minute late, so this moment adds
//! little. The server still asks the space for data that a pointer lacks, and for a deploy that a
//! reader has seen.

use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::time::Timestamp;
use pmx_sync::bounded_cache::BoundedCache;

/// When each channel's pointer was read from KV.
pub(crate) struct ReadTimes {
    read: BoundedCache<Channel, Timestamp>,
    moment: Duration,
}

/// How long a pointer counts after it was read.
pub(crate) const MOMENT: Duration = Duration::from_secs(5);

/// Bytes of names: about a thousand channels.
const NAMES_BYTES: usize = 256 * 1024;

impl ReadTimes {
    /// Creates the record; a pointer counts for `moment`.
    pub(crate) fn new(moment: Duration) -> Self {
        Self {
            read: BoundedCache::new(NAMES_BYTES),
            moment,
        }
    }

    /// Records that the isolate read a channel's pointer.
    pub(crate) fn note(&self, channel: &Channel, now: Timestamp) {
        let bytes = channel.space.as_str().len() + 160;
        self.read.insert(channel.clone(), now, bytes);
    }

    /// Whether the isolate read a channel's pointer a moment ago. A clock that goes back ends the
    /// moment.
    pub(crate) fn counts(&self, channel: &Channel, now: Timestamp) -> bool {
        let read = self.read.find(channel);
        read.is_some_and(|read| read <= now && now < read.after(self.moment))
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::name::SpaceName;

    use super::*;

    fn channel(name: &str) -> Channel {
        Channel {
            space: SpaceName::parse(name).unwrap(),
            alias: None,
        }
    }

    #[test]
    fn pointer_counts_for_five_seconds_and_its_channel() {
        let recent = ReadTimes::new(MOMENT);
        let at = Timestamp::from_millis;
        assert!(!recent.counts(&channel("docs"), at(10_000)));
        recent.note(&channel("docs"), at(10_000));
        for (now, expected) in [
            (9_999, false),
            (10_000, true),
            (14_999, true),
            (15_000, false),
        ] {
            assert_eq!(recent.counts(&channel("docs"), at(now)), expected, "{now}");
        }
        assert!(!recent.counts(&channel("other"), at(10_000)));
    }

    #[test]
    fn names_that_strangers_make_up_are_bounded() {
        let recent = ReadTimes::new(MOMENT);
        let at = Timestamp::from_millis(1);
        for number in 0..10_000 {
            recent.note(&channel(&format!("made-up-{number}")), at);
        }
        let kept = (0..10_000).filter(|n| recent.counts(&channel(&format!("made-up-{n}")), at));
        assert!(kept.count() < 2_000);
    }
}
