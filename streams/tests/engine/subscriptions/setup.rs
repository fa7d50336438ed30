//! Setup of a schedule: the configurations, and constructors of reports and outcomes.

use std::collections::BTreeMap;
use std::time::Duration;

use pmx_streams::subscription::{
    Ack, Delivery, EffectOutcome, Pattern, SubscriptionConfig, SubscriptionId, WebhookPolicy,
    WebhookUrl, WorkerReport,
};
use pmx_streams::{Offset, StreamName};

/// Lease of all subscriptions.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// A wake as its worker knows it.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) subscription: usize,
    pub(super) generation: u64,
    pub(super) wake_id: String,
    pub(super) token: String,
    pub(super) until: u64,
    pub(super) over: bool,
    pub(super) tails: BTreeMap<String, Offset>,
}

/// Number of subscriptions: the even ones are webhooks.
pub(super) const CONFIGS: usize = 4;

pub(super) fn is_webhook(subscription: usize) -> bool {
    subscription.is_multiple_of(2)
}

pub(super) fn config(subscription: usize) -> SubscriptionConfig {
    let url = "https://worker.dev/hook";
    let patterns = ["events/*", "events/**", "**"];
    let pattern = patterns
        .get(subscription)
        .map(|it| Pattern::parse(it).unwrap());
    SubscriptionConfig {
        streams: match pattern {
            Some(_) => [name("events/a")].into(),
            None => [name("events/b"), name("other")].into(),
        },
        pattern,
        delivery: if is_webhook(subscription) {
            Delivery::Webhook(WebhookUrl::parse(url, WebhookPolicy::Public).unwrap())
        } else {
            Delivery::PullWake(name("wake"))
        },
        lease: LEASE,
        description: None,
    }
}

pub(super) fn answered(status: u16, body: &str) -> EffectOutcome {
    let body = body.to_owned().into();
    EffectOutcome::Answered { status, body }
}

pub(super) fn reported(lease: &Lease) -> WorkerReport {
    WorkerReport {
        token: lease.token.clone(),
        wake_id: Some(lease.wake_id.clone()),
        generation: Some(lease.generation),
        acks: Vec::new(),
        done: false,
    }
}

pub(super) fn ack(path: &str, at: u64) -> Ack {
    Ack {
        stream: path.to_owned(),
        offset: Offset::at(at).to_string(),
    }
}

pub(super) fn id(subscription: usize) -> SubscriptionId {
    SubscriptionId::parse(&subscription.to_string()).unwrap()
}

pub(super) fn name(text: &str) -> StreamName {
    StreamName::parse(text).unwrap()
}
