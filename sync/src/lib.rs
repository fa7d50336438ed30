//! Publish conversation, both halves, as pure functions.
//!
//! A site is a [`manifest`]: a Merkle tree of its paths whose root names all of it. A client
//! [`scan`]s a folder into one, [`push`]es what the server lacks as [`pack`]s, and commits; a
//! server keeps a [`space`] for each site and [`serve`]s it; open pages receive changes [`live`].
//! Nothing here reads a clock, opens a socket or knows an operating system, except [`scan`], which
//! reads files: everything else takes bytes, values and `now`, and returns values. `DESIGN.md`
//! beside this crate has every format to the byte.

#![forbid(unsafe_code)]

pub mod bounded_cache;
pub mod index;
pub mod limits;
pub mod live;
pub mod manifest;
pub mod media;
pub mod pack;
pub mod path;
pub mod pointer;
pub mod push;
#[cfg(feature = "scan")]
pub mod scan;
pub mod serve;
pub mod site;
pub mod space;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod wire;
