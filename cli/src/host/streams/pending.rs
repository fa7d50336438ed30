//! Pending work of a transaction: subscribers to be woken once it holds.

use std::cell::Cell;

use pmx_core::sql::SqlError;
use pmx_core::time::Timestamp;
use pmx_streams::StreamName;
use pmx_streams::subscription::Effect;

/// What the turns of a transaction leave to do for subscriptions.
#[derive(Debug, Default)]
pub(super) struct PendingWakes {
    /// Whether there are subscriptions at all, once that was looked up.
    pub(super) followed: Cell<Option<bool>>,
    /// Whether a worker may have to be woken.
    pub(super) due: Cell<bool>,
}

/// Who is to be woken, once the transaction holds.
#[derive(Debug, Default)]
pub(super) struct PendingDeliveries {
    /// By a request; or what is to be copied instead.
    pub(super) carried: Vec<Effect>,
    /// By a message in these streams.
    pub(super) announced: Vec<StreamName>,
    /// When to look again.
    pub(super) next: Option<Timestamp>,
    /// Why no subscriber was woken, if that failed.
    pub(super) fault: Option<SqlError>,
}
