//! When an object is woken.

use std::time::Duration;

use pmx_sync::time::Timestamp;

/// When the platform will wake the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// An object that was just made does not know what an earlier one has set.
    Unknown,
    /// Then, or not at all.
    Known(Option<Timestamp>),
}

impl Alarm {
    /// What it has to become, if it does not come early enough.
    pub(super) fn moved_to(self, due: Option<Timestamp>) -> Option<Self> {
        let is_early = match (self, due) {
            (Self::Unknown, _) => false,
            (Self::Known(_), None) => true,
            (Self::Known(set), Some(due)) => set.is_some_and(|set| set <= due),
        };
        (!is_early).then_some(Self::Known(due))
    }
}

/// How long to wait after a failure of the platform.
pub(super) const RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_only_moves_to_an_earlier_time() {
        let at = |millis| Some(Timestamp::from_millis(millis));
        for (alarm, due, expected) in [
            (Alarm::Unknown, None, Some(Alarm::Known(None))),
            (Alarm::Unknown, at(5), Some(Alarm::Known(at(5)))),
            (Alarm::Known(None), None, None),
            (Alarm::Known(None), at(5), Some(Alarm::Known(at(5)))),
            (Alarm::Known(at(5)), None, None),
            (Alarm::Known(at(5)), at(7), None),
            (Alarm::Known(at(5)), at(5), None),
            (Alarm::Known(at(5)), at(3), Some(Alarm::Known(at(3)))),
        ] {
            assert_eq!(alarm.moved_to(due), expected, "{alarm:?} {due:?}");
        }
    }
}
