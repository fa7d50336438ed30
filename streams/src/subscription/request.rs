//! Subscription requests: the operations that clients and workers ask of the subscriptions.

use std::collections::BTreeMap;

use super::base_url::BaseUrl;
use super::config::SubscriptionConfig;
use super::id::SubscriptionId;
use super::pattern::Pattern;
use crate::{Offset, StreamName};

/// A request to the subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionRequest {
    /// Creates a subscription, or confirms that it exists with this configuration.
    Create {
        /// The id that the client chose.
        id: SubscriptionId,
        /// The configuration.
        config: Box<SubscriptionConfig>,
        /// The URL at which the client reached the server, which webhooks call back.
        base_url: BaseUrl,
    },
    /// Shows a subscription.
    Show(SubscriptionId),
    /// Deletes a subscription.
    Delete(SubscriptionId),
    /// Adds streams.
    Link(SubscriptionId, Vec<StreamName>),
    /// Removes a stream.
    Unlink(SubscriptionId, StreamName),
    /// Claims the pending work.
    Claim {
        /// The subscription whose work the worker claims.
        id: SubscriptionId,
        /// The worker's name.
        worker: String,
        /// The streams that the worker's token names, if it sends one.
        within: Option<Pattern>,
    },
    /// Reports progress of the work that a webhook delivered.
    Callback(SubscriptionId, WorkerReport),
    /// Reports progress of claimed work.
    Ack(SubscriptionId, WorkerReport),
    /// Returns claimed work.
    Release(SubscriptionId, WorkerReport),
    /// Shows the public keys.
    Keys,
}

/// A worker's report of its wake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReport {
    /// The token that the server issued with the wake.
    pub token: String,
    /// The wake that the worker reports on.
    pub wake_id: Option<String>,
    /// The generation that the worker reports on.
    pub generation: Option<u64>,
    /// The offsets that the worker acknowledges.
    pub acks: Vec<Ack>,
    /// Whether the worker ends its wake with this report.
    pub done: bool,
}

/// Acknowledgement of everything before an offset. Both fields are unparsed text: the engine looks
/// up what they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The stream.
    pub stream: String,
    /// The offset after the last processed message.
    pub offset: String,
}

/// The current tails of streams, as the platform reports them.
pub type TailOffsets = BTreeMap<StreamName, Offset>;

/// Streams whose tails the platform has to report before a request can be answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequiredTails {
    /// These, if they exist.
    pub streams: Vec<StreamName>,
    /// And all that match.
    pub pattern: Option<Pattern>,
}

impl RequiredTails {
    /// Whether a stream is one of them.
    pub fn names(&self, stream: &StreamName) -> bool {
        let matches = |pattern: &Pattern| pattern.matches(stream);
        self.streams.contains(stream) || self.pattern.as_ref().is_some_and(matches)
    }
}
