//! Platforms in memory, and the means to make them fail: for tests only.
//!
//! [`MemoryBlobs`], [`MemoryPointers`] and [`MemorySpaces`] are what survives a crash; a
//! [`Server`](crate::serve::Server) over them, with its caches, is what does not. [`Faulty`] puts a
//! [`Hook`] around any seam: it may let an effect wait, fail it before or after it took place, or
//! never come back.

mod faulty;
mod fixtures;
mod memory;

pub use faulty::{Effect, Faulty, Hook};
pub use fixtures::{pointer, ready, settings};
pub use memory::{MemoryBlobs, MemoryPointers, MemorySpaces, Platform, Single};
