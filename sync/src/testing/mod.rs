//! In-memory platforms for tests, with fault injection.
//!
//! [`MemoryBlobs`], [`MemoryPointers`] and [`MemorySpaces`] survive a crash. A
//! [`Server`](crate::serve::Server) over them, with its caches, does not. [`Faulty`] puts a
//! [`Hook`] around any port: the hook may delay an effect, fail it before or after it takes place,
//! or never return. [`host::Host`] is such a server, ready to use, and [`client::Client`] publishes
//! to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod client;
mod faulty;
mod fixtures;
pub mod host;
mod memory;

pub use faulty::{Faulty, Hook, ServerEffect};
pub use fixtures::{pointer, ready, settings};
pub use memory::{MemoryBlobs, MemoryPointers, MemorySpaces, NoDomains, Platform, Single};
