//! Alarm of an object: when the platform wakes it.

use std::cell::Cell;
use std::time::Duration;

use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use worker::Storage;

use crate::js_error;

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

/// Sets the alarm of an object, unless it comes early enough.
pub(super) async fn schedule(
    alarm: &Cell<Alarm>,
    storage: &Storage,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Problem> {
    let Some(wanted) = alarm.get().moved_to(due) else {
        return Ok(());
    };
    alarm.set(wanted);
    let Alarm::Known(Some(at)) = wanted else {
        return Ok(());
    };
    let wait = at.as_millis().saturating_sub(now.as_millis());
    let set = storage.set_alarm(Duration::from_millis(wait));
    set.await.map_err(js_error::problem("setting an alarm"))
}

/// How long to wait where the object can't even be opened.
pub(crate) const LATE: Duration = Duration::from_mins(5);

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
