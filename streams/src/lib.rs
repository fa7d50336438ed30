//! Durable Streams: append-only logs by name, read by offset, live or later.
//!
//! A stream is a log of bytes or of JSON messages. A reader resumes from an [`Offset`], so that it
//! misses and repeats no message. The protocol is that of the Durable Streams project (v1.0,
//! `PROTOCOL.md`). This crate does no I/O. It parses a request into a
//! [`StreamRequest`](http::StreamRequest) and runs a transaction over [`Sql`](pmx_core::sql::Sql).
//! It renders the transaction's reply or [`Refusal`] as a response. It does not depend on sites or
//! on publishing. `DESIGN.md` in this crate describes the formats and gives the reasons.
//!
//! A stream in memory:
//!
//! ```
//! use pmx_core::time::Timestamp;
//! use pmx_streams::{
//!     Append, Create, Engine, EngineConfig, From, Generation, MediaType, Read, ReadResult,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (sql, config) = (pmx_tests::sql::Sqlite::new(), EngineConfig::default());
//! Engine::install(&sql)?;
//! let (stream, now) = (Engine::new(&sql, 1, &config), Timestamp::from_millis(0));
//! let media_type = Some(MediaType::new("text/plain"));
//! let create = Create {
//!     media_type: media_type.clone(),
//!     expiry: None,
//!     expiry_text: None,
//!     closed: false,
//!     body: "Hello".into(),
//!     fork: None,
//! };
//! stream.create(&create, now, Generation::from_random([7; 16]))?;
//! let body = ", world".into();
//! let append = Append { media_type, body, seq: None, producer: None, close: false };
//! stream.append(&append, now)?;
//! let ReadResult::Page(page) = stream.read(&Read { from: From::Start }, now)? else {
//!     return Err("the stream has no segments yet".into());
//! };
//! assert_eq!(page.body, "Hello, world");
//! # Ok(())
//! # }
//! ```

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
mod tables;

pub use append::AppendOutcome;
pub use call::{Append, Create, Expiry, Fork, From, MediaType, Producer, Read};
pub use cold::{Cold, SegmentKey};
pub use create::ForkStart;
pub use delete::Deleted;
pub use engine::{Engine, EngineConfig};
pub use fork::ForkSnapshot;
pub use generation::Generation;
pub use job::StreamJob;
pub use lifecycle::{
    HubAck, HubUpdate, LifecycleChange, LifecycleEvent, StreamMetadata, StreamTail,
};
pub use name::{InvalidStreamName, StreamName};
pub use offset::{InvalidOffset, Offset};
pub use read::{ColdRead, ReadResult};
pub use reply::{Appended, Created, Page, Refusal, StreamProperties};
pub use row_cache::RowCache;
