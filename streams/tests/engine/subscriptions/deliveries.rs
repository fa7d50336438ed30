//! Deliveries in a schedule: the platform performs effects, loses some, and reports outcomes.

use std::collections::BTreeMap;

use pmx_core::time::Timestamp;
use pmx_streams::Offset;
use pmx_streams::subscription::{Effect, EffectOutcome, LeaseRef, PlatformAction, WebhookCapacity};
use serde_json::Value;

use super::World;
use super::setup::{LEASE, Lease, answered, is_webhook};

impl World {
    pub(super) fn work(&mut self) {
        let capacity = WebhookCapacity {
            webhooks: self.rng.below(3),
            retries: self.rng.below(3),
        };
        let (effects, due) = self.transaction(|it, now| {
            let effects = it.work(now, capacity).unwrap();
            let due = it.due(now, capacity.without(&effects)).unwrap();
            (effects, due.map(Timestamp::as_millis))
        });
        let is_webhook = |effect: &&Effect| matches!(effect.action, PlatformAction::Webhook { .. });
        let webhooks = effects.iter().filter(is_webhook).count();
        assert!(webhooks <= capacity.webhooks, "{webhooks} {capacity:?}");
        // A platform without capacity must not be called in a busy loop.
        assert!(due.is_none_or(|due| due > self.now), "{capacity:?} {due:?}");
        for effect in effects {
            if self.rng.once_in(8) {
                self.log(|| format!("lost: {:?}", effect.lease));
                self.counts.lost += 1;
                continue;
            }
            let subscription = self.deliver(&effect);
            self.in_flight.push((subscription, effect));
        }
    }

    /// Delivers an effect, before its outcome is known. Returns its subscription.
    pub(super) fn deliver(&mut self, effect: &Effect) -> usize {
        match &effect.action {
            PlatformAction::Webhook { body, timeout, .. } => {
                assert!(*timeout <= LEASE);
                let body: Value = serde_json::from_slice(body).unwrap();
                let id = body["subscription_id"].as_str().unwrap();
                let subscription: usize = id.parse().unwrap();
                let streams = &body["streams"];
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let offset = |value: &Value| Offset::parse(value.as_str().unwrap()).unwrap();
                let mut tails = BTreeMap::new();
                for stream in streams.as_array().unwrap() {
                    let path = text(&stream["path"]);
                    let (acked, tail) = (&stream["acked_offset"], &stream["tail_offset"]);
                    let pending = stream["has_pending"].as_bool().unwrap();
                    self.check_handed_out(
                        subscription,
                        &path,
                        offset(acked),
                        offset(tail),
                        pending,
                    );
                    tails.insert(path, offset(tail));
                }
                let lease = Lease {
                    subscription,
                    generation: body["generation"].as_u64().unwrap(),
                    wake_id: text(&body["wake_id"]),
                    token: text(&body["callback_token"]),
                    until: self.now + LEASE.as_millis() as u64,
                    over: false,
                    tails,
                };
                self.counts.webhooks += 1;
                self.add_lease(lease);
                subscription
            }
            PlatformAction::Append { stream, message } => {
                assert_eq!(stream.as_str(), "wake");
                let message: Value = serde_json::from_slice(message).unwrap();
                assert_eq!(message["type"], "wake");
                message["subscription_id"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            }
            PlatformAction::Copy(_) => panic!("nothing is copied here"),
        }
    }

    /// Ends a delivery with a random outcome, or loses the outcome.
    pub(super) fn finish_delivery(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        let at = self.rng.below(self.in_flight.len());
        let (subscription, effect) = self.in_flight.swap_remove(at);
        let outcome = match (&effect.action, self.rng.below(5)) {
            (PlatformAction::Webhook { .. }, 0) => answered(503, ""),
            (PlatformAction::Webhook { .. }, 1) | (PlatformAction::Append { .. }, 0 | 1) => {
                EffectOutcome::Failed
            }
            (PlatformAction::Webhook { .. }, 2) => answered(200, r#"{"done":true}"#),
            (PlatformAction::Webhook { .. }, _) => answered(202, "ok"),
            (PlatformAction::Append { .. } | PlatformAction::Copy(_), _) => EffectOutcome::Appended,
        };
        if self.rng.once_in(10) {
            self.counts.lost += 1;
            return;
        }
        self.record_outcome(subscription, &effect.lease, &outcome);
    }

    pub(super) fn record_outcome(
        &mut self,
        subscription: usize,
        of: &LeaseRef,
        outcome: &EffectOutcome,
    ) {
        self.log(|| format!("result for {subscription}: {of:?} {outcome:?}"));
        self.transaction(|it, now| it.on_delivery_result(of, outcome, now).unwrap());
        let now = self.now;
        let mine = |lease: &&mut Lease| {
            (lease.subscription, lease.generation) == (subscription, of.generation)
        };
        match outcome {
            EffectOutcome::Answered { status: 200, .. } => {
                let lease = self.leases.iter_mut().rev().find(mine);
                if let Some(lease) = lease.filter(|lease| !lease.over && lease.until > now) {
                    lease.over = true;
                    for (path, tail) in lease.tails.clone() {
                        self.acked(subscription, &path, tail);
                    }
                }
            }
            // The engine retries the same wake or begins the next one.
            EffectOutcome::Answered { status: 503, .. } | EffectOutcome::Failed => {
                self.counts.failed += 1;
                let lease = self.leases.iter_mut().rev().find(mine);
                if let Some(lease) = lease.filter(|_| is_webhook(subscription)) {
                    lease.over = true;
                }
            }
            EffectOutcome::Answered { .. } | EffectOutcome::Copied(_) => {}
            EffectOutcome::Appended => {
                self.announced.insert((subscription, of.generation));
            }
        }
    }
}
