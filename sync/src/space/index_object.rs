//! Index object: holds the index nodes of a commit's new nodes, and is written before the commit.
//!
//! ```text
//! index object = [pack object] index node* part-table* footer
//! footer       = 8 bytes LE where the index begins, magic "PMXX", version 1
//! ```
//!
//! The pack of a small publish is at the start of the same object, so that such a publish is one
//! write. The extent that points to an index node or table locates it.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId, ObjectId};
use pmx_core::location::{Extent, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;

use super::blob_index::StoredBlob;
use super::closure::{Closure, Incoming};
use super::collect::References;
use super::ledger::Ledger;
use super::repair::{Others, RepairedNode};
use crate::index::IndexNode;
use crate::manifest::{NewNode, Node};

const MAGIC: &[u8; 4] = b"PMXX";
const VERSION: u8 = 1;

/// The index object of a commit, and the rows that its transaction writes.
pub(crate) struct IndexObject {
    /// The bytes of the index object; `None` if the commit needs no object.
    pub(crate) bytes: Option<Bytes>,
    /// New nodes, children before parents, the extents of their index nodes, and what those refer
    /// to.
    pub(crate) nodes: Vec<(NewNode, Extent, References)>,
    /// Nodes of other deploys whose index nodes are rewritten.
    pub(crate) repaired: Vec<(RepairedNode, Extent, References)>,
    /// Big blobs whose table is in the object.
    pub(crate) assembled: BTreeMap<BlobId, StoredBlob>,
    /// Nodes beneath the new ones, and where their index nodes are for readers of those.
    pub(crate) named: Vec<(NodeId, Extent)>,
}

/// Builds the index object.
pub(crate) fn build<S: Sql>(
    ledger: &Ledger<'_, S>,
    incoming: &Incoming,
    closure: &Closure,
    object: ObjectId,
    pack: Option<&Bytes>,
) -> Result<IndexObject, Problem> {
    let mut out = pack.map_or_else(Vec::new, |pack| pack.to_vec());
    let start = out.len() as u64;
    let assembled = append_tables(closure, &mut out, object);
    let mut index_nodes: BTreeMap<NodeId, Extent> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(closure.pending.len());
    let mut named = Vec::new();
    for pending in &closure.pending {
        let place = |blob: &BlobId| {
            let held = assembled.get(blob).or_else(|| closure.located.get(blob));
            held.map(|held| held.location).ok_or_else(|| {
                let detail = format!("blob {blob} is missing");
                Problem::new(Code::MissingObjects, detail)
            })
        };
        let index_node = index_node(ledger, &index_nodes, &pending.node, place)?;
        if let IndexNode::Interior { children, .. } = &index_node {
            let children = children.iter().map(|(child, extent)| (child.id, *extent));
            named.extend(children.filter(|(id, _)| !index_nodes.contains_key(id)));
        }
        let extent = append(&mut out, object, &index_node.encode());
        index_nodes.insert(pending.id, extent);
        let bytes = match incoming.nodes.bytes(&pending.id) {
            Some(bytes) => bytes.clone(),
            None => pending.node.encode().into(),
        };
        nodes.push((
            NewNode {
                id: pending.id,
                bytes,
            },
            extent,
            References::of(&index_node, &extent),
        ));
    }
    if nodes.is_empty() {
        return Ok(IndexObject {
            bytes: None,
            nodes,
            repaired: Vec::new(),
            assembled,
            named,
        });
    }
    let mended = append_repaired(ledger, closure, &assembled, index_nodes, (&mut out, object))?;
    append_footer(&mut out, start);
    Ok(IndexObject {
        bytes: Some(out.into()),
        nodes,
        repaired: mended,
        assembled,
        named,
    })
}

/// Ends an index object whose tables and index nodes begin at `start`.
pub(super) fn append_footer(out: &mut Vec<u8>, start: u64) {
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
}

/// Appends the new index nodes of other deploys' nodes, whose content arrived again.
fn append_repaired<S: Sql>(
    ledger: &Ledger<'_, S>,
    closure: &Closure,
    assembled: &BTreeMap<BlobId, StoredBlob>,
    mut index_nodes: BTreeMap<NodeId, Extent>,
    (out, object): (&mut Vec<u8>, ObjectId),
) -> Result<Vec<(RepairedNode, Extent, References)>, Problem> {
    let others = Others::new(ledger, closure)?;
    let mut mended = Vec::new();
    for (other, node) in others.nodes()? {
        let place = |blob: &BlobId| match assembled.get(blob) {
            Some(held) => Ok(held.location),
            None => others.place(blob),
        };
        let index_node = index_node(ledger, &index_nodes, &node, place)?;
        let extent = append(out, object, &index_node.encode());
        index_nodes.insert(other.id, extent);
        let references = References::of(&index_node, &extent);
        mended.push((other, extent, references));
    }
    Ok(mended)
}

/// Appends the tables of big blobs whose parts have all arrived.
fn append_tables(
    closure: &Closure,
    out: &mut Vec<u8>,
    object: ObjectId,
) -> BTreeMap<BlobId, StoredBlob> {
    let mut assembled = BTreeMap::new();
    for big in &closure.assembled {
        let mut table = Vec::new();
        big.table.encode(&mut table);
        let location = Location {
            extent: append(out, object, &table),
            codec: big.table.codec(),
        };
        let raw = big.size;
        assembled.insert(big.blob, StoredBlob { raw, location });
    }
    assembled
}

pub(super) fn append(out: &mut Vec<u8>, object: ObjectId, index_node: &[u8]) -> Extent {
    let offset = out.len() as u64;
    out.extend_from_slice(index_node);
    Extent {
        object,
        offset,
        len: index_node.len() as u64,
    }
}

pub(super) fn index_node<S: Sql>(
    ledger: &Ledger<'_, S>,
    index_nodes: &BTreeMap<NodeId, Extent>,
    node: &Node,
    place: impl Fn(&BlobId) -> Result<Location, Problem>,
) -> Result<IndexNode, Problem> {
    Ok(match node {
        Node::Leaf(rows) => {
            let placed = rows
                .iter()
                .map(|row| Ok((row.clone(), place(&row.entry.blob)?)));
            IndexNode::Leaf(placed.collect::<Result<_, Problem>>()?)
        }
        Node::Interior { level, children } => {
            let placed = children.iter().map(|child| {
                let extent = match index_nodes.get(&child.id) {
                    Some(extent) => *extent,
                    None => indexed_at(ledger, &child.id)?,
                };
                Ok((child.clone(), extent))
            });
            IndexNode::Interior {
                level: *level,
                children: placed.collect::<Result<_, Problem>>()?,
            }
        }
    })
}

/// The extent of an indexed node's index node.
pub(crate) fn indexed_at<S: Sql>(ledger: &Ledger<'_, S>, id: &NodeId) -> Result<Extent, Problem> {
    ledger.node_extent(id)?.ok_or_else(|| {
        let detail = format!("manifest node {id} is missing");
        Problem::new(Code::MissingObjects, detail)
    })
}
