//! The serving index: a copy-on-write twin of the manifest whose rows say where bytes lie.
//!
//! A commit appends the twins of its new nodes to one object; the pointer of a deploy names the
//! twin of its root. So the read path needs the pointer and the object store, never the space, and
//! a lookup reads at most depth twins, all immutable.

mod cache;
mod node;
mod walk;

pub use cache::Cache;
pub use node::IndexNode;
pub use walk::{Index, IndexError};
