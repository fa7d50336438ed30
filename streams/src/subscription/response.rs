//! Subscription responses: the results of subscription requests, and their refusals.

use pmx_core::sql::SqlError;
use thiserror::Error;

use super::secret::KeySet;
use super::ssrf::RejectedUrl;
use super::view::{Claimed, SubscriptionView};
use crate::StreamName;

/// The result of a [`SubscriptionRequest`](super::SubscriptionRequest).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionResponse {
    /// A new subscription.
    Created(SubscriptionView),
    /// An existing subscription.
    Shown(SubscriptionView),
    /// The request succeeded and returns nothing.
    Done,
    /// Work for the worker that claimed it.
    Claimed(Claimed),
    /// The engine applied the worker's report.
    Acked {
        /// Whether work is left, for which the server wakes a worker again.
        next_wake: bool,
    },
    /// The public keys.
    Keys(KeySet),
}

/// Why a subscription request fails. A failed request has changed nothing.
#[derive(Debug, Error)]
pub enum SubscriptionRefusal {
    /// 400.
    #[error("{0}")]
    Invalid(String),
    /// 413.
    #[error("the request has {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Size of the request.
        bytes: usize,
        /// Largest size that the server accepts.
        limit: usize,
    },
    /// 404.
    #[error("there is no such subscription")]
    Unknown,
    /// 404: an address under the reserved segment that names no resource.
    #[error("there is nothing at this address")]
    Nowhere,
    /// 405.
    #[error("this address takes {0}")]
    Method(&'static str),
    /// 409: fan-outs would copy messages in a cycle.
    #[error("{0} would come back into it: fan-outs may not form a circle")]
    Cycle(StreamName),
    /// 409: the subscription was created with another configuration.
    #[error("the subscription exists with another configuration")]
    Exists,
    /// 400: the SSRF policy rejects the webhook's URL.
    #[error(transparent)]
    Url(#[from] RejectedUrl),
    /// 401: no token, or one that this server did not issue.
    #[error("the request carries no valid token")]
    Token,
    /// 401.
    #[error("the token is too old")]
    TokenExpired,
    /// 403: the worker's token does not name a stream of the subscription.
    #[error("the token does not name {0}, which is a stream of the subscription")]
    Scope(StreamName),
    /// 409: a later wake replaced this one.
    #[error("the wake is over: its lease ended, or its work is done")]
    Fenced,
    /// 409: another worker holds the lease.
    #[error("{holder} holds the lease")]
    Taken {
        /// Name of that worker.
        holder: String,
        /// Generation of its wake.
        generation: u64,
    },
    /// 409: no work is pending.
    #[error("nothing is left to do")]
    Idle,
    /// 409: an offset that can't be acknowledged.
    #[error("{0}")]
    Offset(&'static str),
    /// 429: a limit of the server.
    #[error("the server takes {limit} {what}")]
    Full {
        /// The limit.
        limit: usize,
        /// What it counts.
        what: &'static str,
    },
    /// 500: the storage failed.
    #[error(transparent)]
    Storage(#[from] SqlError),
}

impl SubscriptionRefusal {
    pub(super) fn invalid(why: &str) -> Self {
        Self::Invalid(why.to_owned())
    }
}
