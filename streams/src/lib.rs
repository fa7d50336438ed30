//! Durable Streams: append-only logs by name, read by offset, live or later.
//!
//! A stream is a log of bytes or of JSON messages that keeps its place: readers hold an
//! [`Offset`], and a client that comes back with one misses nothing and repeats nothing. The
//! protocol is that of the Durable Streams project (v1.0, `PROTOCOL.md`). Here is all of it that
//! decides: requests become a [`Call`](http::Call), a turn over [`Sql`](pmx_core::sql::Sql) makes a
//! reply or a [`Refusal`] of it, and those become answers. Nothing here knows of sites or of
//! publishing. `DESIGN.md` beside this crate has the formats and the reasons.

#![forbid(unsafe_code)]

mod append;
mod call;
mod cold;
mod create;
mod delete;
pub mod driver;
mod engine;
mod expiry;
mod fork;
mod generation;
mod hot;
pub mod http;
pub mod hub;
mod incarnation;
mod job;
mod json;
mod ledger;
mod lifecycle;
pub mod limits;
mod name;
mod offset;
pub mod policy;
mod producer;
mod read;
mod record;
pub mod registry;
mod reply;
mod rotate;
mod row;
mod row_cache;
mod schema;
pub mod segment;
pub mod subscription;

pub use append::AppendOutcome;
pub use call::{Append, Create, Expiry, Fork, From, MediaType, Producer, Read};
pub use cold::{Cold, SegmentKey};
pub use create::ForkStart;
pub use delete::Deleted;
pub use engine::{Engine, EngineConfig};
pub use fork::ForkSnapshot;
pub use generation::Generation;
pub use job::Job;
pub use lifecycle::{
    HubAck, HubUpdate, LifecycleChange, LifecycleEvent, StreamMetadata, StreamTail,
};
pub use name::{InvalidName, StreamName};
pub use offset::{InvalidOffset, Offset};
pub use read::{ColdRead, ReadResult};
pub use reply::{Appended, Created, Page, Refusal, View};
pub use row_cache::RowCache;
