//! Serving index lookups: finds paths and ranks by ranged reads.

use std::sync::Arc;

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::id::{Root, SpaceId};
use pmx_core::location::{Extent, Location};
use thiserror::Error;

use super::node::IndexNode;
use crate::bounded_cache::BoundedCache;
use crate::manifest::{ManifestError, Row};
use crate::path::SitePath;
use crate::site::LocatedFile;
use crate::wire::Ranges;

/// Index nodes read lately, by extent.
type IndexNodeCache = BoundedCache<(SpaceId, Extent), Arc<IndexNode>>;

/// Reads serving indices through a cache of their index nodes.
pub struct Index {
    index_nodes: IndexNodeCache,
}

impl Index {
    /// An index with a cache of at most about `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            index_nodes: BoundedCache::new(bytes_max),
        }
    }

    /// The file at `path` in the site whose root index node is at `at`. Reads at most depth index
    /// nodes.
    pub async fn find<B: Blobs>(
        &self,
        blobs: &B,
        space: SpaceId,
        (root, at): (Root, Extent),
        path: &SitePath,
    ) -> Result<Option<LocatedFile>, IndexError> {
        let (mut id, mut at) = (root, at);
        loop {
            let index_node = self.index_node(blobs, space, id, at).await?;
            match &*index_node {
                IndexNode::Leaf(files) => {
                    let found = files.binary_search_by(|(row, _)| row.path.cmp(path));
                    return Ok(found.ok().map(|at| {
                        let (row, location) = &files[at];
                        LocatedFile {
                            entry: row.entry.clone(),
                            at: *location,
                        }
                    }));
                }
                IndexNode::Interior { children, .. } => {
                    let next = children.partition_point(|(child, _)| child.last < *path);
                    match children.get(next) {
                        Some((child, extent)) => (id, at) = (child.id, *extent),
                        None => return Ok(None),
                    }
                }
            }
        }
    }

    /// The rows of these ranks, in order, and the locations of their blobs; fewer if the site has
    /// fewer. Reads each index node with such a row once.
    pub async fn rows<B: Blobs>(
        &self,
        blobs: &B,
        space: SpaceId,
        (root, at): (Root, Extent),
        ranks: &Ranges,
    ) -> Result<Vec<(Row, Location)>, IndexError> {
        let mut found = Vec::new();
        let mut rest = vec![(root, at, 0)];
        while let Some((id, at, mut rank)) = rest.pop() {
            match &*self.index_node(blobs, space, id, at).await? {
                IndexNode::Leaf(files) => {
                    let ranked = (rank..).zip(files);
                    let wanted = ranked.filter(|(rank, _)| ranks.touch(*rank, 1));
                    found.extend(wanted.map(|(_, row)| row.clone()));
                }
                IndexNode::Interior { children, .. } => {
                    let before = rest.len();
                    for (child, extent) in children {
                        if ranks.touch(rank, child.totals.files) {
                            rest.push((child.id, *extent, rank));
                        }
                        rank = rank.saturating_add(child.totals.files);
                    }
                    rest[before..].reverse();
                }
            }
        }
        Ok(found)
    }

    async fn index_node<B: Blobs>(
        &self,
        blobs: &B,
        space: SpaceId,
        id: Root,
        at: Extent,
    ) -> Result<Arc<IndexNode>, IndexError> {
        if let Some(index_node) = self.index_nodes.find(&(space, at)) {
            return Ok(index_node);
        }
        let key = ObjectKey {
            space,
            object: at.object,
        };
        let range = at.offset..at.offset.saturating_add(at.len);
        let read = blobs.read_often(key, range.clone()).await?;
        let index_node = match decoded(read, key, id, at) {
            Ok(index_node) => index_node,
            // A cache may be corrupt: only a read past it proves that the store lost the node.
            Err(_) => decoded(blobs.read_again(key, range).await?, key, id, at)?,
        };
        let index_node = Arc::new(index_node);
        // Decoded rows take about three times their encoding.
        let bytes = at.len as usize * 3 + NODE_BYTES;
        self.index_nodes
            .insert((space, at), Arc::clone(&index_node), bytes);
        Ok(index_node)
    }
}

/// Bytes that the cache charges for an index node beside its rows: key, maps, allocations.
const NODE_BYTES: usize = 256;

fn decoded(
    read: Option<Bytes>,
    key: ObjectKey,
    id: Root,
    at: Extent,
) -> Result<IndexNode, IndexError> {
    let bytes = read.ok_or(IndexError::Missing { key, id, at })?;
    IndexNode::decode(&bytes, id).map_err(|source| IndexError::Rotten {
        key,
        id,
        at,
        source: Box::new(source),
    })
}

/// A serving index cannot be read.
#[derive(Debug, Error)]
pub enum IndexError {
    /// The object store failed.
    #[error("reading the serving index: {0}")]
    Backend(#[from] BackendError),
    /// An object does not exist.
    #[error("reading the serving index: {key} with node {id} is missing")]
    Missing {
        /// The object.
        key: ObjectKey,
        /// The node.
        id: Root,
        /// The expected extent of its index node.
        at: Extent,
    },
    /// The bytes are not the node's.
    #[error("reading the serving index in {key}, node {id}: {source}")]
    Rotten {
        /// The object.
        key: ObjectKey,
        /// The node.
        id: Root,
        /// The expected extent of its index node.
        at: Extent,
        /// The cause.
        source: Box<ManifestError>,
    },
}

impl IndexError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Backend(error) => error.code(),
            Self::Missing { .. } | Self::Rotten { .. } => Code::Corrupt,
        }
    }
}
