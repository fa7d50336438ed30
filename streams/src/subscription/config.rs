//! Subscription configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::pattern::Pattern;
use super::ssrf::WebhookUrl;
use crate::StreamName;

/// What a subscription is to do, in one spelling: what means the same is equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Streams by the shape of their names.
    pub pattern: Option<Pattern>,
    /// Streams by their names.
    pub streams: BTreeSet<StreamName>,
    /// How workers are woken.
    pub delivery: Delivery,
    /// How long a worker may be silent before its work is given to another.
    pub lease: Duration,
    /// What people call it.
    pub description: Option<String>,
}

/// How workers are woken, or what is done instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Delivery {
    /// By a request to them.
    Webhook(WebhookUrl),
    /// By a message in a stream that they read, whereupon they claim the work.
    PullWake(StreamName),
    /// No one is: messages are copied into a stream.
    FanOut(StreamName),
}

impl Config {
    /// What two configurations are compared by.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(HASH);
        // The fields have an order and the sets have one, so the text has one form.
        let text = serde_json::to_vec(self).unwrap_or_default();
        hasher.update(&text);
        *hasher.finalize().as_bytes()
    }
}

impl Delivery {
    /// The name of the kind, as the protocol has it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::PullWake(_) => "pull-wake",
            Self::FanOut(_) => "fan-out",
        }
    }

    /// Where a worker is woken.
    pub fn target(&self) -> &str {
        match self {
            Self::Webhook(url) => url.as_str(),
            Self::PullWake(stream) | Self::FanOut(stream) => stream.as_str(),
        }
    }

    /// The stream that it writes to. It must not follow that one: each message would cause the
    /// next.
    pub fn own(&self) -> Option<&StreamName> {
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
        let config = Config {
            pattern: Some(Pattern::parse("events/*").unwrap()),
            streams: [name("a"), name("b")].into(),
            delivery: Delivery::PullWake(name("wake")),
            lease: Duration::from_secs(30),
            description: None,
        };
        let same = Config {
            streams: [name("b"), name("a"), name("b")].into(),
            ..config.clone()
        };
        assert_eq!(config.hash(), same.hash());
        let others = [
            Config {
                pattern: None,
                ..config.clone()
            },
            Config {
                streams: [name("a")].into(),
                ..config.clone()
            },
            Config {
                delivery: Delivery::PullWake(name("wake2")),
                ..config.clone()
            },
            Config {
                delivery: Delivery::FanOut(name("wake")),
                ..config.clone()
            },
            Config {
                lease: Duration::from_millis(30_001),
                ..config.clone()
            },
            Config {
                description: Some(String::new()),
                ..config.clone()
            },
        ];
        for other in others {
            assert_ne!(config.hash(), other.hash(), "{other:?}");
        }
    }
}
