//! Workers in a schedule: they claim work, report on it, and release it.

use std::collections::BTreeMap;

use pmx_streams::Offset;
use pmx_streams::subscription::{
    StreamView, SubscriptionRefusal, SubscriptionRequest, SubscriptionResponse, TailOffsets,
    WorkerReport,
};

use super::World;
use super::setup::{CONFIGS, LEASE, Lease, ack, id, is_webhook, reported};

impl World {
    pub(super) fn claim_some(&mut self) {
        let subscription = self.rng.below(CONFIGS);
        self.claim(subscription);
    }

    pub(super) fn claim(&mut self, subscription: usize) -> bool {
        let now = self.now;
        let holder = self.leases.iter().rposition(|lease| {
            lease.subscription == subscription && !lease.over && lease.until > now
        });
        let call = SubscriptionRequest::Claim {
            id: id(subscription),
            worker: format!("worker-{}", self.rng.below(3)),
            within: None,
        };
        match self.call(&call, &TailOffsets::new()) {
            Ok(SubscriptionResponse::Claimed(claimed)) => {
                self.log(|| format!("claimed {subscription}.{}", claimed.generation));
                assert_eq!(holder, None, "two workers hold {subscription}");
                assert!(claimed.streams.iter().any(|stream| stream.has_pending));
                for stream in &claimed.streams {
                    self.check_view(subscription, stream);
                }
                let tails = claimed.streams.iter();
                let tails = tails.map(|it| (it.path.to_string(), it.tail_offset));
                let lease = Lease {
                    subscription,
                    generation: claimed.generation,
                    wake_id: claimed.wake_id,
                    token: claimed.token,
                    until: now + claimed.lease_ttl_ms,
                    over: false,
                    tails: tails.collect(),
                };
                self.counts.claims += 1;
                self.add_lease(lease);
                true
            }
            Err(SubscriptionRefusal::Taken { generation, .. }) => {
                let holder = holder.map(|at| self.leases[at].generation);
                assert_eq!(holder, Some(generation), "no worker holds {subscription}");
                false
            }
            Err(SubscriptionRefusal::Idle) => {
                assert_eq!(holder, None);
                assert!(!self.has_work(subscription), "work is kept back");
                false
            }
            Err(SubscriptionRefusal::Invalid(_)) => {
                assert!(is_webhook(subscription));
                false
            }
            other => panic!("a claim returned {other:?}"),
        }
    }

    pub(super) fn report(&mut self) {
        let Some(at) = self.some_lease() else {
            return;
        };
        let lease = self.leases[at].clone();
        let mut acks = BTreeMap::new();
        for (path, tail) in &lease.tails {
            let done = self.processed(lease.subscription, path);
            if self.rng.once_in(2) && tail.position() >= done {
                let more = tail.position() - done + 1;
                acks.insert(path.clone(), done + self.rng.next() % more);
            }
        }
        let report = WorkerReport {
            acks: acks.iter().map(|(path, at)| ack(path, *at)).collect(),
            done: self.rng.once_in(2),
            ..reported(&lease)
        };
        let call = if is_webhook(lease.subscription) {
            SubscriptionRequest::Callback(id(lease.subscription), report.clone())
        } else {
            SubscriptionRequest::Ack(id(lease.subscription), report.clone())
        };
        let outcome = self.call(&call, &TailOffsets::new());
        self.log(|| format!("{lease:?} reported {acks:?}: {outcome:?}"));
        match outcome {
            Ok(SubscriptionResponse::Acked { next_wake }) => {
                self.assert_current(at);
                for (path, at) in acks {
                    self.acked(lease.subscription, &path, Offset::at(at));
                }
                self.leases[at].over = report.done;
                self.leases[at].until = self.now + LEASE.as_millis() as u64;
                let left = self.has_work(lease.subscription);
                assert_eq!(next_wake, report.done && left);
            }
            Err(SubscriptionRefusal::Fenced) => {
                self.counts.fenced += 1;
                self.assert_ended(at);
            }
            // A stream that has ended can't be acknowledged, and the whole report is refused.
            Err(SubscriptionRefusal::Offset(_)) => self.assert_current(at),
            other => panic!("a report returned {other:?}"),
        }
    }

    pub(super) fn release(&mut self) {
        let Some(at) = self.some_lease() else {
            return;
        };
        let lease = self.leases[at].clone();
        let call = SubscriptionRequest::Release(id(lease.subscription), reported(&lease));
        match self.call(&call, &TailOffsets::new()) {
            Ok(SubscriptionResponse::Done) => {
                self.assert_current(at);
                self.leases[at].over = true;
            }
            Err(SubscriptionRefusal::Fenced) => {
                self.counts.fenced += 1;
                self.assert_ended(at);
            }
            Err(SubscriptionRefusal::Invalid(_)) => assert!(is_webhook(lease.subscription)),
            other => panic!("a release returned {other:?}"),
        }
    }

    /// A worker whose report is accepted has the last generation.
    fn assert_current(&self, at: usize) {
        let lease = &self.leases[at];
        let last = self.leases.iter().rev();
        let last = last.filter(|other| other.subscription == lease.subscription);
        let last = last.map(|other| other.generation).max();
        assert_eq!(last, Some(lease.generation), "an old wake is accepted");
        // The worker of a failed webhook may have begun, and reports.
        assert!(!lease.over || is_webhook(lease.subscription), "{lease:?}");
    }

    /// A worker that is fenced has lost its lease.
    fn assert_ended(&self, at: usize) {
        let lease = &self.leases[at];
        assert!(
            lease.over || lease.until <= self.now,
            "{lease:?} was fenced"
        );
    }

    pub(super) fn add_lease(&mut self, lease: Lease) {
        for other in &self.leases {
            if other.subscription == lease.subscription {
                assert!(other.generation <= lease.generation, "generations go back");
                let is_over = other.over || other.until <= self.now;
                assert!(is_over, "{other:?} and {lease:?} are held at once");
            }
        }
        // Two deliveries of one wake count as one worker.
        self.leases.retain(|other| {
            (other.subscription, other.generation) != (lease.subscription, lease.generation)
        });
        self.leases.push(lease);
    }

    pub(super) fn acked(&mut self, subscription: usize, path: &str, at: Offset) {
        if self
            .links(subscription)
            .iter()
            .any(|link| link.path.as_str() == path)
        {
            let done = self
                .done
                .entry((subscription, path.to_owned()))
                .or_default();
            *done = at.position().max(*done);
        }
    }

    fn check_view(&self, subscription: usize, stream: &StreamView) {
        let path = stream.path.as_str();
        let (acked, tail) = (stream.acked_offset, stream.tail_offset);
        self.check_handed_out(subscription, path, acked, tail, stream.has_pending);
    }
}
