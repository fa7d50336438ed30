//! Durable Streams: append-only logs by name, read by offset, live or later.
//!
//! A stream is a log of bytes or of JSON messages that keeps its place: readers hold an
//! [`Offset`], and whoever comes back with one misses nothing and repeats nothing. The
//! protocol is that of the Durable Streams project (v1.0, `PROTOCOL.md`). Here is all of it that
//! decides: requests become a [`Call`](http::Call), a turn over [`Sql`](pmx_core::sql::Sql) makes a
//! reply or a [`Refusal`] of it, and those become answers. Nothing here knows of sites or of
//! publishing. `DESIGN.md` beside this crate has the formats and the reasons.

#![forbid(unsafe_code)]

mod append;
mod call;
mod chore;
mod cold;
mod create;
mod delete;
mod engine;
pub mod execute;
mod expiry;
mod fork;
mod generation;
mod hot;
pub mod http;
pub mod hub;
mod json;
mod ledger;
mod lifecycle;
pub mod limits;
mod memory;
mod name;
mod offset;
pub mod ops;
mod past;
mod producer;
mod read;
mod record;
pub mod registry;
mod reply;
mod rotate;
mod row;
mod schema;
pub mod segment;
pub mod subscription;

pub use append::Aftermath;
pub use call::{Append, Create, Expiry, Fork, From, MediaType, Producer, Read};
pub use chore::Chore;
pub use cold::{Cold, SegmentKey};
pub use create::Beginning;
pub use delete::Deleted;
pub use engine::{Engine, Shape};
pub use fork::Loan;
pub use generation::Generation;
pub use lifecycle::{
    HubAck, HubUpdate, LifecycleChange, LifecycleEvent, StreamMetadata, StreamTail,
};
pub use memory::Memory;
pub use name::{InvalidName, StreamName};
pub use offset::{InvalidOffset, Offset};
pub use read::{Reading, Stitch};
pub use reply::{Appended, Created, Page, Refusal, View};
