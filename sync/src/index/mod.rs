//! Serving index: a copy of the manifest whose rows also locate the stored bytes (copy-on-write).
//!
//! A commit appends the index nodes of its new nodes to one object; the pointer of a deploy names
//! the index node of its root. So the read path needs the pointer and the object store, never the
//! space, and a lookup reads at most depth index nodes, all immutable.

mod node;
mod walk;

pub use node::IndexNode;
pub use walk::{Index, IndexError};
