//! Effects of subscriptions: deliveries that the platform performs, and their outcomes.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::fan_out::Copying;
use super::ssrf::WebhookUrl;
use crate::{Offset, StreamName};

/// Something that the platform has to do. It reports the [`EffectOutcome`] in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The wake that the outcome belongs to.
    pub lease: LeaseRef,
    /// What the platform has to do.
    pub action: PlatformAction,
}

/// Reference to the wake that an effect belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRef {
    /// The subscription's number.
    pub subscription: u64,
    /// The wake's generation.
    pub generation: u64,
}

/// An action of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlatformAction {
    /// Posts to a webhook, following no redirects.
    Webhook {
        /// The target: the platform resolves its host and connects to an address that it admits.
        url: WebhookUrl,
        /// Whether the last delivery failed, which counts against
        /// [`WebhookCapacity::retries`](super::WebhookCapacity::retries).
        attempt: Attempt,
        /// The headers.
        headers: Vec<(HeaderName, String)>,
        /// The body.
        body: Bytes,
        /// The time limit for the whole exchange.
        timeout: Duration,
    },
    /// Appends one JSON message to a stream.
    Append {
        /// The stream; the platform does not create it.
        stream: StreamName,
        /// The message.
        message: Bytes,
    },
    /// Copies messages of a stream into another: [`Copying::gather`], then the append.
    Copy(Box<Copying>),
}

/// Whether the last delivery to a worker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It succeeded, or there was none.
    First,
    /// It failed: the worker may be out of reach.
    Retry,
}

/// Outcome of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectOutcome {
    /// A webhook answered.
    Answered {
        /// The status.
        status: u16,
        /// The body; of a long one, its beginning.
        body: Bytes,
    },
    /// The message is in the stream.
    Appended,
    /// Messages before this offset are in the target stream.
    Copied(Offset),
    /// The delivery failed, or its result is unknown.
    Failed,
}
