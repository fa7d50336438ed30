//! The manifest: a Merkle tree of a site's paths.

mod row;

pub use row::{Child, Entry, Row, Totals};
