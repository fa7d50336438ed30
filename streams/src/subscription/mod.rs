//! Subscriptions: durable places in streams that wake workers when there is something to do
//! (Durable Streams protocol, sections 6 and 7).
//!
//! A subscription names streams, one by one or by a [`Pattern`], and remembers how far each of them
//! is done. When one of them grows, a worker is woken: a webhook is sent, or a message is put into
//! a stream that workers read, one of whom then claims the work. A worker that is awake holds a
//! lease; when it ends in silence, another worker is woken. Each wake has a generation, and reports
//! of an earlier one are fenced off. Or no one is woken, and the messages are copied into another
//! stream.
//!
//! All subscriptions of a server are in one ledger ([`Subscriptions`]). Its turns are synchronous,
//! and what has to happen outside comes back as [`Effect`]s: the platform does them and tells how
//! they went. A platform that dies in between is asked to do them again.

mod base_url;
mod call;
mod config;
mod cycle;
mod deliver;
mod engine;
mod fan_out;
pub mod http;
mod id;
mod ledger;
mod pattern;
mod patterns;
mod secret;
mod ssrf;
mod view;
mod wake;
mod worker_calls;

pub use base_url::BaseUrl;
pub use call::{
    Ack, Action, Answer, Attempt, Call, Effect, LeaseRef, Outcome, Refusal, Report, RequiredTails,
    Room, TailOffsets,
};
pub use config::{Config, Delivery};
pub use engine::Subscriptions;
pub use fan_out::{Copying, FanOutBatch};
pub use id::{InvalidId, SubscriptionId};
pub use pattern::{InvalidPattern, Pattern};
pub use patterns::PatternCache;
pub use secret::KeySet;
pub use ssrf::{Reach, RejectedUrl, WebhookPolicy, WebhookUrl, is_public};
pub use view::{Claimed, LinkView, Signing, StreamView, SubscriptionView, WebhookView};

/// The first segment of the addresses that are no streams.
pub const RESERVED: &str = "__ds";
