//! End of a schedule: without faults, the workers process everything.

use pmx_streams::subscription::{
    EffectOutcome, PlatformAction, SubscriptionRequest, SubscriptionResponse, TailOffsets,
    WebhookCapacity, WorkerReport,
};

use super::World;
use super::setup::{CONFIGS, ack, answered, id, reported};

/// Capacity for one webhook at a time.
const ONE: WebhookCapacity = WebhookCapacity {
    webhooks: 1,
    retries: 1,
};

impl World {
    /// Runs without faults until the workers have processed everything.
    pub(super) fn settle(&mut self) {
        self.in_flight.clear();
        for _ in 0..400 {
            let effects = self.transaction(|it, now| it.work(now, ONE).unwrap());
            for effect in effects {
                let subscription = self.deliver(&effect);
                let outcome = match &effect.action {
                    PlatformAction::Webhook { .. } => answered(200, r#"{"done":true}"#),
                    PlatformAction::Append { .. } | PlatformAction::Copy(_) => {
                        EffectOutcome::Appended
                    }
                };
                self.record_outcome(subscription, &effect.lease, &outcome);
            }
            // A worker that reads the wake stream claims the work and processes it.
            for (subscription, _) in std::mem::take(&mut self.announced) {
                if self.claim(subscription) {
                    let at = self.leases.len() - 1;
                    self.finish(at);
                }
            }
            match self.transaction(|it, now| it.due(now, ONE).unwrap()) {
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
            self.transaction(|it, now| it.due(now, ONE).unwrap()),
            None,
            "it never becomes idle"
        );
    }

    fn finish(&mut self, at: usize) {
        let lease = self.leases[at].clone();
        let tails = lease.tails.iter();
        let report = WorkerReport {
            acks: tails
                .map(|(path, tail)| ack(path, tail.position()))
                .collect(),
            done: true,
            ..reported(&lease)
        };
        let call = SubscriptionRequest::Ack(id(lease.subscription), report);
        let outcome = self.call(&call, &TailOffsets::new());
        assert!(
            matches!(outcome, Ok(SubscriptionResponse::Acked { .. })),
            "{outcome:?}"
        );
        self.leases[at].over = true;
        for (path, tail) in lease.tails {
            self.acked(lease.subscription, &path, tail);
        }
    }
}
