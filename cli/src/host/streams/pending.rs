//! Pending deliveries of a transaction: subscription work that follows its commit.

use std::cell::Cell;

use pmx_core::sql::SqlError;
use pmx_core::time::Timestamp;
use pmx_streams::StreamName;
use pmx_streams::subscription::Effect;

/// State of a transaction about subscriptions.
#[derive(Debug, Default)]
pub(super) struct PendingWakes {
    /// Whether there are subscriptions, once that was looked up.
    pub(super) followed: Cell<Option<bool>>,
    /// Whether deliveries may be due.
    pub(super) due: Cell<bool>,
}

/// Deliveries after the commit.
#[derive(Debug, Default)]
pub(super) struct PendingDeliveries {
    /// Webhooks to send, and messages to copy.
    pub(super) effects: Vec<Effect>,
    /// Wake streams that got a message.
    pub(super) announced: Vec<StreamName>,
    /// When the next delivery is due.
    pub(super) next: Option<Timestamp>,
    /// The error that prevented deliveries, if there is one.
    pub(super) fault: Option<SqlError>,
}
