//! End of a schedule: no more faults.

use pmx_streams::subscription::{Action, Answer, Call, Outcome, Report, Room, TailOffsets};

use super::World;
use super::setup::{CONFIGS, ack, answered, id, reported};

/// Room for one webhook at a time.
const ONE: Room = Room {
    webhooks: 1,
    again: 1,
};

impl World {
    /// No one disturbs any more: all work is done in the end.
    pub(super) fn settle(&mut self) {
        self.errands.clear();
        for _ in 0..400 {
            let effects = self.turn(|it, now| it.work(now, ONE).unwrap());
            for effect in effects {
                let subscription = self.sent(&effect);
                let outcome = match &effect.action {
                    Action::Webhook { .. } => answered(200, r#"{"done":true}"#),
                    Action::Append { .. } | Action::Copy(_) => Outcome::Appended,
                };
                self.tell(subscription, &effect.lease, &outcome);
            }
            // A worker that reads the wake stream claims, and does all.
            for (subscription, _) in std::mem::take(&mut self.announced) {
                if self.claim(subscription) {
                    let at = self.leases.len() - 1;
                    self.finish(at);
                }
            }
            match self.turn(|it, now| it.due(now, ONE).unwrap()) {
                Some(due) => self.now = self.now.max(due.as_millis()),
                None => break,
            }
            for lease in &mut self.leases {
                lease.over |= lease.until <= self.now;
            }
        }
        self.check();
        for subscription in 0..CONFIGS {
            assert!(
                !self.has_work(subscription),
                "work is left in {subscription}"
            );
        }
        assert_eq!(
            self.turn(|it, now| it.due(now, ONE).unwrap()),
            None,
            "it never rests"
        );
    }

    fn finish(&mut self, at: usize) {
        let lease = self.leases[at].clone();
        let tails = lease.tails.iter();
        let report = Report {
            acks: tails
                .map(|(path, tail)| ack(path, tail.position()))
                .collect(),
            done: true,
            ..reported(&lease)
        };
        let call = Call::Ack(id(lease.subscription), report);
        let outcome = self.call(&call, &TailOffsets::new());
        assert!(matches!(outcome, Ok(Answer::Acked { .. })), "{outcome:?}");
        self.leases[at].over = true;
        for (path, tail) in lease.tails {
            self.acked(lease.subscription, &path, tail);
        }
    }
}
