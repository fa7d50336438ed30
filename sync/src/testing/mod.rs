//! Platforms in memory, and the means to make them fail: for tests only.
//!
//! [`MemoryBlobs`], [`MemoryPointers`] and [`MemorySpaces`] are what survives a crash; a
//! [`Server`](crate::serve::Server) over them, with its caches, is what does not. [`Faulty`] puts a
//! [`Hook`] around any seam: it may let an effect wait, fail it before or after it took place, or
//! never come back. [`host::Host`] is such a server ready to use, and [`client::Client`] publishes
//! to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod client;
mod faulty;
mod fixtures;
pub mod host;
mod memory;

pub use faulty::{Effect, Faulty, Hook};
pub use fixtures::{pointer, ready, settings};
pub use memory::{MemoryBlobs, MemoryPointers, MemorySpaces, Platform, Single};
