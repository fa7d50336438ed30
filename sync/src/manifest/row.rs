//! Manifest rows: the entry of a path, and the child of a subtree.

use pmx_core::id::{BlobId, NodeId};

use crate::media::Media;
use crate::path::SitePath;

/// Entry of a path: its blob, its size and its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The blob's id.
    pub blob: BlobId,
    /// The blob's size in bytes.
    pub size: u64,
    /// The media type it is served with.
    pub media: Media,
}

/// A leaf row: one file of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The file's path.
    pub path: SitePath,
    /// The entry at the path.
    pub entry: Entry,
}

/// An interior row: one subtree of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The last path beneath the child.
    pub last: SitePath,
    /// The child node.
    pub id: NodeId,
    /// Files and bytes beneath the child.
    pub totals: Totals,
}

/// Totals of a subtree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Bytes of the files, uncompressed; duplicates count each time.
    pub bytes: u64,
}

impl Totals {
    /// The totals of one file.
    pub const fn of_file(size: u64) -> Self {
        Self {
            files: 1,
            bytes: size,
        }
    }

    /// The totals of two disjoint subtrees together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            files: self.files.saturating_add(other.files),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}
