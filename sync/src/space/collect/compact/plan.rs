//! Plan of a copy: the live content of an object, and the nodes whose index nodes lead to it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use pmx_core::codec::Decoder;
use pmx_core::id::{BlobId, NodeId, ObjectId};
use pmx_core::limits::PACK_RAW_BYTES_MAX;
use pmx_core::location::Extent;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError, Value};

use super::super::super::blob_index::{BlobIndex, StoredBlob};
use super::super::super::columns::{array, blob, extent};
use super::super::super::ledger::Ledger;
use super::super::super::stored_bytes::{hashed, open_table};
use super::super::references::is_table;
use crate::limits::PACK_BLOBS_MAX;
use crate::manifest::Node;

/// Index nodes that one copy writes: an object with more stays as it is.
const NODES_MAX: usize = 512;

/// Interior nodes that a step has in memory, some 12 MB: a space with more is not compacted.
const INTERIOR_MAX: usize = 2_048;

/// An indexed node, and where its index node is.
pub(super) struct LiveNode {
    pub(super) id: NodeId,
    pub(super) at: Extent,
    pub(super) node: Node,
}

/// What a copy of an object consists of.
pub(super) struct Plan {
    pub(super) object: ObjectId,
    /// The blobs in the object that live nodes need, in the order of their offsets.
    pub(super) copied: Vec<(BlobId, StoredBlob)>,
    /// Where the ledger has each blob of the nodes.
    pub(super) located: BTreeMap<BlobId, StoredBlob>,
    /// The nodes that name the object and all above them, children before parents.
    pub(super) nodes: Vec<LiveNode>,
}

/// The ledger as plans look at it.
pub(super) struct View<'a, S> {
    pub(super) ledger: &'a Ledger<'a, S>,
    have: BlobIndex<'a, S>,
    interior: OnceCell<Vec<LiveNode>>,
}

impl<'a, S: Sql> View<'a, S> {
    pub(super) fn new(ledger: &'a Ledger<'a, S>) -> Self {
        Self {
            ledger,
            have: BlobIndex::new(ledger),
            interior: OnceCell::new(),
        }
    }

    /// Plans a copy of an object; `None` if no node names it, or if it has to stay as it is.
    pub(super) fn plan(&self, object: ObjectId) -> Result<Option<Plan>, Problem> {
        let naming = "refs IS NULL OR instr(refs, ?) > 0";
        let mut nodes = self.live(naming, &[object.as_bytes()[..].into()])?;
        if nodes.is_empty() || nodes.len() > NODES_MAX {
            return Ok(None);
        }
        let mut located = BTreeMap::new();
        for node in &nodes {
            let Node::Leaf(rows) = &node.node else {
                continue;
            };
            for row in rows {
                let Some(held) = self.have.find(&row.entry.blob)? else {
                    return Ok(None);
                };
                located.insert(row.entry.blob, held);
            }
        }
        if !self.add_ancestors(&mut nodes)? {
            return Ok(None);
        }
        let is_here = |held: &StoredBlob| held.location.extent.object == object;
        let copied = located.iter().filter(|(_, held)| is_here(held));
        let mut copied: Vec<_> = copied.map(|(blob, held)| (*blob, *held)).collect();
        copied.sort_by_key(|(_, held)| held.location.extent.offset);
        let plan = Plan {
            object,
            copied,
            located,
            nodes,
        };
        Ok(plan.is_within_limits().then_some(plan))
    }

    /// Replaces interior nodes by all that are above the nodes, in the order of their levels.
    /// Returns false if the space has too many.
    fn add_ancestors(&self, nodes: &mut Vec<LiveNode>) -> Result<bool, Problem> {
        if self.interior()?.len() > INTERIOR_MAX {
            return Ok(false);
        }
        let mut moved: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
        nodes.retain(|node| matches!(node.node, Node::Leaf(_)));
        for above in self.interior()? {
            let Node::Interior { children, .. } = &above.node else {
                continue;
            };
            if moved.contains(&above.id) || children.iter().any(|child| moved.contains(&child.id)) {
                moved.insert(above.id);
                nodes.push(LiveNode {
                    node: above.node.clone(),
                    ..*above
                });
            }
        }
        Ok(true)
    }

    /// The interior nodes, the lowest first; one more than a copy may need at most.
    fn interior(&self) -> Result<&[LiveNode], Problem> {
        if let Some(interior) = self.interior.get() {
            return Ok(interior);
        }
        let mut interior = self.live("substr(bytes, 2, 1) <> x'00'", &[])?;
        interior.sort_by_key(|node| match node.node {
            Node::Leaf(_) => 0,
            Node::Interior { level, .. } => level,
        });
        Ok(self.interior.get_or_init(|| interior))
    }

    /// The indexed nodes for which a condition holds; of leaves a few more than a copy may have.
    fn live(&self, condition: &str, params: &[Value]) -> Result<Vec<LiveNode>, Problem> {
        let select = format!(
            "SELECT id, bytes, object, at, length FROM node
             WHERE object IS NOT NULL AND mark >= ? AND ({condition}) LIMIT ?"
        );
        let most = match params {
            [] => INTERIOR_MAX as u64 + 1,
            _ => NODES_MAX as u64 + 1,
        };
        let mut all = vec![self.ledger.collector()?.swept.into()];
        all.extend_from_slice(params);
        all.push(most.into());
        let rows = self.ledger.sql().run(&select, &all)?;
        let mut nodes = Vec::with_capacity(rows.len());
        for row in &rows {
            let at = extent(row, 2)?;
            nodes.push(LiveNode {
                id: NodeId::from_bytes(array(row, 0)?),
                at: at.ok_or_else(|| SqlError("a node without an index node".into()))?,
                node: Node::decode(&blob(row, 1)?)?,
            });
        }
        Ok(nodes)
    }
}

impl Plan {
    /// The bytes of the object that are read, all at once.
    pub(super) fn range(&self) -> Range<u64> {
        let extents = || self.copied.iter().map(|(_, held)| held.location.extent);
        let start = extents().map(|at| at.offset).min().unwrap_or(0);
        start..extents().map(|at| at.offset + at.len).max().unwrap_or(0)
    }

    /// Whether all copied bytes are those that the ids of their blobs name. After the copy nothing
    /// leads to the old object any more, so no later read could tell.
    pub(super) fn is_whole(&self, read: &Bytes) -> bool {
        let start = self.range().start;
        let mut decoder = Decoder::new();
        self.copied.iter().all(|(blob, held)| {
            let at = held.location.extent;
            let from = (at.offset - start) as usize;
            let Some(bytes) = from
                .checked_add(at.len as usize)
                .filter(|end| *end <= read.len())
                .map(|end| read.slice(from..end))
            else {
                return false;
            };
            if is_table(&held.location) {
                open_table(&bytes, blob, held.raw).is_ok()
            } else {
                hashed(blob, held, Some(bytes), &mut decoder).is_ok()
            }
        })
    }

    /// Whether one read and one pack object can have all blobs, and one step write all nodes.
    fn is_within_limits(&self) -> bool {
        let frames = self
            .copied
            .iter()
            .filter(|(_, held)| !is_table(&held.location));
        let (count, raw) = frames.fold((0, 0), |(count, raw), (_, held)| {
            (count + 1, raw + held.raw)
        });
        let index_bytes: u64 = self.nodes.iter().map(|node| node.at.len).sum();
        let range = self.range();
        index_bytes <= PACK_RAW_BYTES_MAX
            && range.end - range.start <= PACK_RAW_BYTES_MAX
            && raw <= PACK_RAW_BYTES_MAX
            && count <= PACK_BLOBS_MAX
            && self.nodes.len() <= NODES_MAX
    }
}
