//! Calls to subscriptions, their answers, and the effects that follow.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use pmx_core::sql::SqlError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::base_url::BaseUrl;
use super::config::Config;
use super::fan_out::Copying;
use super::id::SubscriptionId;
use super::pattern::Pattern;
use super::secret::KeySet;
use super::ssrf::{RejectedUrl, WebhookUrl};
use super::view::{Claimed, SubscriptionView};
use crate::{Offset, StreamName};

/// A request to the subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Makes a subscription, or confirms it.
    Create {
        /// Its id.
        id: SubscriptionId,
        /// What it is to do.
        config: Box<Config>,
        /// Where the server is reached.
        root: BaseUrl,
    },
    /// Shows a subscription.
    Show(SubscriptionId),
    /// Ends a subscription.
    Delete(SubscriptionId),
    /// Adds streams.
    Link(SubscriptionId, Vec<StreamName>),
    /// Takes a stream away.
    Unlink(SubscriptionId, StreamName),
    /// Takes the work there is.
    Claim {
        /// Of which subscription.
        id: SubscriptionId,
        /// Who takes it.
        worker: String,
        /// The streams that the worker's token names, if it sends one.
        within: Option<Pattern>,
    },
    /// Says of a webhook's work how far it is.
    Callback(SubscriptionId, Report),
    /// Says of claimed work how far it is.
    Ack(SubscriptionId, Report),
    /// Gives claimed work back.
    Release(SubscriptionId, Report),
    /// Shows the public keys.
    Keys,
}

/// What a worker says of its wake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The token it was given.
    pub token: String,
    /// The wake it means.
    pub wake_id: Option<String>,
    /// The generation it means.
    pub generation: Option<u64>,
    /// What it is done with.
    pub acks: Vec<Ack>,
    /// Whether it is done with all it will do.
    pub done: bool,
}

/// All up to here is done. Both are as they were written: what they name is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The stream.
    pub stream: String,
    /// The place after the last thing that was done.
    pub offset: String,
}

/// Where streams end now, as the platform sees it.
pub type TailOffsets = BTreeMap<StreamName, Offset>;

/// Of which streams the platform has to say where they end before a call can be answered.
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

/// What a call comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A new subscription.
    Created(SubscriptionView),
    /// A subscription that was there.
    Shown(SubscriptionView),
    /// It is so now.
    Done,
    /// Work for the worker that asked.
    Claimed(Claimed),
    /// The report counts.
    Acked {
        /// Whether there is more to do, and a worker will be woken for it.
        next_wake: bool,
    },
    /// The public keys.
    Keys(KeySet),
}

/// Why a call is not answered with what it asked for. Nothing was changed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// 400.
    #[error("{0}")]
    Invalid(String),
    /// 413.
    #[error("the request has {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Bytes that came.
        bytes: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// 404.
    #[error("there is no such subscription")]
    Unknown,
    /// 404: an address under the reserved segment that means nothing.
    #[error("there is nothing at this address")]
    Nowhere,
    /// 405.
    #[error("this address takes {0}")]
    Method(&'static str),
    /// 409: messages would be copied in a circle.
    #[error("{0} would come back into it: fan-outs may not form a circle")]
    Cycle(StreamName),
    /// 409: made before with another configuration.
    #[error("the subscription exists with another configuration")]
    Exists,
    /// 400: a webhook may not go there.
    #[error(transparent)]
    Url(#[from] RejectedUrl),
    /// 401: no token, or one that was not made here.
    #[error("the request carries no valid token")]
    Token,
    /// 401.
    #[error("the token is too old")]
    TokenExpired,
    /// 403: the worker's token does not name a stream of the subscription.
    #[error("the token does not name {0}, which is a stream of the subscription")]
    Scope(StreamName),
    /// 409: another wake took the place of this one.
    #[error("the wake is over: its lease ended, or its work is done")]
    Fenced,
    /// 409: another worker holds the lease.
    #[error("{holder} holds the lease")]
    Taken {
        /// Who.
        holder: String,
        /// In which generation.
        generation: u64,
    },
    /// 409.
    #[error("nothing is left to do")]
    Idle,
    /// 409: an offset that can't be acknowledged.
    #[error("{0}")]
    Offset(&'static str),
    /// 429: a limit of the server.
    #[error("the server takes {limit} {what}")]
    Full {
        /// How many.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// 500: the storage failed.
    #[error(transparent)]
    Storage(#[from] SqlError),
}

/// Something the platform has to do. It tells how that went, whatever came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// For which wake.
    pub lease: LeaseRef,
    /// What.
    pub action: Action,
}

/// How many more webhooks a platform can have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub webhooks: usize,
    /// That were [tried](Attempt) before: hosts that hang must not take all the room.
    pub again: usize,
}

impl Room {
    /// Of a platform that takes all there are.
    pub const ENDLESS: Self = Self {
        webhooks: usize::MAX,
        again: usize::MAX,
    };

    /// Whether there is any for such a webhook.
    pub const fn takes(self, tried: Attempt) -> bool {
        match tried {
            Attempt::First => self.webhooks > 0,
            Attempt::Retry => self.webhooks > 0 && self.again > 0,
        }
    }

    /// What is left of it beside effects.
    #[must_use]
    pub fn beside(self, effects: &[Effect]) -> Self {
        effects
            .iter()
            .fold(self, |room, effect| match effect.action {
                Action::Webhook { tried, .. } => room.beside_one(tried),
                Action::Append { .. } | Action::Copy(_) => room,
            })
    }

    /// What is left of it beside one webhook.
    #[must_use]
    pub const fn beside_one(self, tried: Attempt) -> Self {
        let again = match tried {
            Attempt::First => 0,
            Attempt::Retry => 1,
        };
        Self {
            webhooks: self.webhooks.saturating_sub(1),
            again: self.again.saturating_sub(again),
        }
    }
}

/// Whether a worker may be out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It was woken the last time.
    First,
    /// It could not be woken the last time.
    Retry,
}

/// Which wake an effect belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRef {
    /// The subscription's number.
    pub subscription: u64,
    /// Its generation.
    pub generation: u64,
}

/// What the platform has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Posts to a webhook, following no redirects.
    Webhook {
        /// Where to: resolve it, and connect to an address it admits.
        url: WebhookUrl,
        /// Whether it was tried before, which counts against the [`Room`].
        tried: Attempt,
        /// The headers.
        headers: Vec<(HeaderName, String)>,
        /// The body.
        body: Bytes,
        /// When to give up.
        timeout: Duration,
    },
    /// Appends one JSON message to a stream.
    Append {
        /// The stream; if there is none, none is made.
        stream: StreamName,
        /// The message.
        message: Bytes,
    },
    /// Copies messages of a stream into another: [`Copying::gather`], then the append.
    Copy(Box<Copying>),
}

/// What came of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A webhook answered.
    Answered {
        /// The status.
        status: u16,
        /// The body; of a long one, its beginning.
        body: Bytes,
    },
    /// The message is in the stream.
    Appended,
    /// Messages up to here are in the stream that gathers them.
    Copied(Offset),
    /// No one knows whether anything arrived, or it surely did not.
    Failed,
}
