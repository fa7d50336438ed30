//! Object alarm: the time at which the platform wakes the object.

use std::cell::Cell;
use std::time::Duration;

use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use worker::Storage;

use crate::js_error;

/// The alarm, as an object knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnownAlarm {
    /// A new instance does not know what an earlier one has set.
    Unknown,
    /// The alarm's time, or `None` if it is not set.
    Known(Option<Timestamp>),
}

impl KnownAlarm {
    /// The new alarm, if the current one is too late for `due`.
    pub(super) fn moved_to(self, due: Option<Timestamp>) -> Option<Self> {
        let is_early = match (self, due) {
            (Self::Unknown, _) => false,
            (Self::Known(_), None) => true,
            (Self::Known(set), Some(due)) => set.is_some_and(|set| set <= due),
        };
        (!is_early).then_some(Self::Known(due))
    }
}

/// Sets the alarm of an object, unless it is early enough.
pub(super) async fn schedule(
    alarm: &Cell<KnownAlarm>,
    storage: &Storage,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Problem> {
    let Some(wanted) = alarm.get().moved_to(due) else {
        return Ok(());
    };
    alarm.set(wanted);
    let KnownAlarm::Known(Some(at)) = wanted else {
        return Ok(());
    };
    let wait = at.as_millis().saturating_sub(now.as_millis());
    let set = storage.set_alarm(Duration::from_millis(wait));
    set.await.map_err(js_error::problem("setting an alarm"))
}

/// Delay when the object can't be opened.
pub(crate) const LATE: Duration = Duration::from_mins(5);

/// Delay after a failure of the platform.
pub(super) const RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_to_sets_the_alarm_to_earlier_times_only() {
        let at = |millis| Some(Timestamp::from_millis(millis));
        for (alarm, due, expected) in [
            (KnownAlarm::Unknown, None, Some(KnownAlarm::Known(None))),
            (KnownAlarm::Unknown, at(5), Some(KnownAlarm::Known(at(5)))),
            (KnownAlarm::Known(None), None, None),
            (
                KnownAlarm::Known(None),
                at(5),
                Some(KnownAlarm::Known(at(5))),
            ),
            (KnownAlarm::Known(at(5)), None, None),
            (KnownAlarm::Known(at(5)), at(7), None),
            (KnownAlarm::Known(at(5)), at(5), None),
            (
                KnownAlarm::Known(at(5)),
                at(3),
                Some(KnownAlarm::Known(at(3))),
            ),
        ] {
            assert_eq!(alarm.moved_to(due), expected, "{alarm:?} {due:?}");
        }
    }
}
