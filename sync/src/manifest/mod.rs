//! Manifest: a Merkle tree of a site's paths, whose root names the whole site.
//!
//! A manifest is a search tree keyed by path (a "prolly tree"). Each key alone decides whether a
//! node ends, so the same set of files has the same nodes on every machine and after any history.
//! [`build`] makes a manifest from rows, [`edit`] changes one around the edits, and [`diff`]
//! compares two. A patch ([`encode_patch`], [`decode_patch`]) carries the changes to a side that
//! has the base. Walks read nodes from a [`NodeSource`]; the module does no I/O.

mod boundary;
mod build;
#[cfg(feature = "scan")]
mod build_parallel;
mod cursor;
mod diff;
mod edit;
mod error;
mod lookup;
mod node;
mod patch;
mod recent;
mod row;
mod source;

#[cfg(test)]
mod tests;

pub use build::{Built, build};
#[cfg(feature = "scan")]
pub use build_parallel::build_parallel;
pub use cursor::{Cursor, CursorItem};
pub use diff::{Change, diff};
pub use edit::{Edit, edit};
pub use error::ManifestError;
pub(crate) use lookup::Clashes;
pub use lookup::{check_clashes, lookup, range};
pub(crate) use node::{KeyWriter, MediaReader, MediaTable, read_key, read_media_table};
pub use node::{LevelPosition, NewNode, Node};
pub use patch::{Origins, decode_patch, encode_patch, encode_patch_from};
pub(crate) use recent::{CachedSource, RecentNodes};
pub use row::{Child, Entry, Row, Totals};
pub use source::{Layered, NodeMap, NodeSource};
