//! Subscription configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::pattern::Pattern;
use super::ssrf::WebhookUrl;
use crate::StreamName;

/// The configuration of a subscription, normalised: configurations with the same meaning are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriptionConfig {
    /// Matches the names of streams.
    pub pattern: Option<Pattern>,
    /// Streams named one by one.
    pub streams: BTreeSet<StreamName>,
    /// How the server delivers pending work.
    pub delivery: Delivery,
    /// How long a worker may send no report before the server wakes another.
    pub lease: Duration,
    /// Text for people.
    pub description: Option<String>,
}

/// How the server delivers pending work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Delivery {
    /// It sends a request to a worker.
    Webhook(WebhookUrl),
    /// It appends a message to a stream that workers read, one of which claims the work.
    PullWake(StreamName),
    /// It copies the messages into a stream.
    FanOut(StreamName),
}

impl SubscriptionConfig {
    /// Hash by which the store compares two configurations.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(HASH);
        // Fields and sets are ordered, so equal configurations have equal text.
        let text = serde_json::to_vec(self).unwrap_or_default();
        hasher.update(&text);
        *hasher.finalize().as_bytes()
    }
}

impl Delivery {
    /// The kind's name in the protocol.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::PullWake(_) => "pull-wake",
            Self::FanOut(_) => "fan-out",
        }
    }

    /// The URL or the stream that the server delivers to.
    pub fn target(&self) -> &str {
        match self {
            Self::Webhook(url) => url.as_str(),
            Self::PullWake(stream) | Self::FanOut(stream) => stream.as_str(),
        }
    }

    /// The stream that the subscription writes to. It must not follow that stream: each message
    /// would cause the next.
    pub fn own_stream(&self) -> Option<&StreamName> {
        match self {
            Self::Webhook(_) => None,
            Self::PullWake(stream) | Self::FanOut(stream) => Some(stream),
        }
    }
}

const HASH: &str = "pmx-sync 2026-11 stream subscriptions: configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hashes_are_equal_configurations() {
        let name = |text: &str| StreamName::parse(text).unwrap();
        let config = SubscriptionConfig {
            pattern: Some(Pattern::parse("events/*").unwrap()),
            streams: [name("a"), name("b")].into(),
            delivery: Delivery::PullWake(name("wake")),
            lease: Duration::from_secs(30),
            description: None,
        };
        let same = SubscriptionConfig {
            streams: [name("b"), name("a"), name("b")].into(),
            ..config.clone()
        };
        assert_eq!(config.hash(), same.hash());
        let others = [
            SubscriptionConfig {
                pattern: None,
                ..config.clone()
            },
            SubscriptionConfig {
                streams: [name("a")].into(),
                ..config.clone()
            },
            SubscriptionConfig {
                delivery: Delivery::PullWake(name("wake2")),
                ..config.clone()
            },
            SubscriptionConfig {
                delivery: Delivery::FanOut(name("wake")),
                ..config.clone()
            },
            SubscriptionConfig {
                lease: Duration::from_millis(30_001),
                ..config.clone()
            },
            SubscriptionConfig {
                description: Some(String::new()),
                ..config.clone()
            },
        ];
        for other in others {
            assert_ne!(config.hash(), other.hash(), "{other:?}");
        }
    }
}
