//! Shared base of streams and sites: hashes, ids, codecs, limits, errors and a platform's ports.
//!
//! [`hash`], [`id`] and [`name`] identify content, objects and spaces. [`encode`], [`codec`] and
//! [`crossing`] turn values into bytes and back. [`code`], [`problem`] and [`incident`] describe
//! failures to clients. [`sql`], [`schema`] and [`backend`] are the ports and rules of a platform's
//! storage. [`domain`], [`exposure`] and [`coding`] are the HTTP semantics that streams and sites
//! share. No module reads a clock, opens a socket or knows an operating system.

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
