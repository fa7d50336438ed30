//! Subscriptions: durable offsets in streams that wake workers when messages are appended (Durable
//! Streams protocol, sections 6 and 7).
//!
//! A subscription names streams, one by one or by a [`Pattern`], and stores how far the workers
//! have processed each of them. When one of them grows, the server wakes a worker. It sends a
//! webhook, or it appends a message to a stream that workers read, and a worker claims the work.
//! The worker holds a lease; if it sends no report until the lease ends, the server wakes another
//! worker. Each wake has a generation, and reports of an earlier generation are fenced off.
//! A fan-out wakes no worker: the server copies the messages into another stream.
//!
//! One database has all subscriptions of a server ([`Subscriptions`]). Its transactions are
//! synchronous and return what has to happen outside as [`Effect`]s: the platform performs them and
//! reports their [`EffectOutcome`]s. After a crash in between, the platform gets them again.

mod base_url;
mod capacity;
mod config;
mod cycle;
mod deliver;
mod effect;
mod engine;
mod fan_out;
pub mod http;
mod id;
mod pattern;
mod pattern_cache;
mod request;
mod response;
mod secret;
mod ssrf;
mod store;
mod view;
mod wake;
mod worker_calls;

pub use base_url::BaseUrl;
pub use capacity::WebhookCapacity;
pub use config::{Delivery, SubscriptionConfig};
pub use effect::{Attempt, Effect, EffectOutcome, LeaseRef, PlatformAction};
pub use engine::Subscriptions;
pub use fan_out::{Copying, FanOutBatch};
pub use id::{InvalidSubscriptionId, SubscriptionId};
pub use pattern::{InvalidPattern, Pattern};
pub use pattern_cache::PatternCache;
pub use request::{Ack, RequiredTails, SubscriptionRequest, TailOffsets, WorkerReport};
pub use response::{SubscriptionRefusal, SubscriptionResponse};
pub use secret::KeySet;
pub use ssrf::{Reach, RejectedUrl, WebhookPolicy, WebhookUrl, is_public};
pub use view::{Claimed, LinkView, Signing, StreamView, SubscriptionView, WebhookView};

/// The reserved first segment of addresses: no stream has such a name.
pub const RESERVED: &str = "__ds";
