//! Shared base of streams and sites: hashes, ids, codecs, limits, errors and a platform's ports.
//!
//! [`hash`], [`id`] and [`name`] identify content, objects and spaces. [`encode`], [`codec`] and
//! [`crossing`] turn values into bytes and back. [`code`], [`problem`] and [`incident`] describe
//! failures to clients. [`sql`], [`schema`] and [`backend`] are the ports and rules of a platform's
//! storage. [`domain`], [`exposure`] and [`coding`] are the HTTP semantics that streams and sites
//! share. No module reads a clock, opens a socket or knows an operating system.
//!
//! A blob's id is the hash of its bytes, and has one spelling:
//!
//! ```
//! use pmx_core::codec::{Encoder, Level};
//! use pmx_core::id::BlobId;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let page = b"<h1>Hello</h1>".repeat(20);
//! let id = BlobId::of(&page);
//! assert_eq!(BlobId::from_hex(&id.to_string())?, id);
//! assert_ne!(BlobId::of(b"<h1>Bye</h1>"), id);
//!
//! let frame = Encoder::new().frame(&page, Level::WIRE);
//! assert!(frame.len() < page.len());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod backend;
pub mod channel;
pub mod code;
pub mod codec;
pub mod coding;
pub mod country;
pub mod crossing;
pub mod domain;
pub mod encode;
pub mod exposure;
pub mod hash;
pub mod id;
pub mod incident;
pub mod limits;
pub mod location;
pub mod name;
pub mod problem;
pub mod schema;
pub mod sql;
pub mod time;
