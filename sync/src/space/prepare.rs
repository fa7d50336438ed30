//! The object that a commit writes before it commits: the twins of its new nodes.
//!
//! ```text
//! index object = [pack object] twin* part-table* footer
//! footer       = 8 bytes LE where the index begins, magic "PMXX", version 1
//! ```
//!
//! The pack of a small publish lies in the same object, in front, so that such a publish is one
//! write. Where each twin and table lies is known from what points to it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::have::Held;
use super::ledger::{Ledger, NodeState};
use super::survey::{Fresh, Survey};
use crate::code::Code;
use crate::id::{BlobId, NodeId, ObjectId};
use crate::index::Twin;
use crate::location::{Extent, Location};
use crate::manifest::{NewNode, Node};
use crate::sql::Sql;
use crate::wire::Problem;

const MAGIC: &[u8; 4] = b"PMXX";
const VERSION: u8 = 1;

/// Everything that a turn has to write so that a root is settled.
pub(crate) struct Prepared {
    /// The bytes of the index object; nothing if no object has to be written.
    pub(crate) object: Option<Bytes>,
    /// New nodes, children before parents, and where their twins will lie.
    pub(crate) nodes: Vec<(NewNode, Extent)>,
    /// Big blobs whose table is in the object.
    pub(crate) assembled: BTreeMap<BlobId, Held>,
}

/// Lays the index object out.
pub(crate) fn prepare<S: Sql>(
    ledger: &Ledger<'_, S>,
    fresh: &Fresh,
    survey: &Survey,
    object: ObjectId,
    pack: Option<&Bytes>,
) -> Result<Prepared, Problem> {
    let mut out = pack.map_or_else(Vec::new, |pack| pack.to_vec());
    let start = out.len() as u64;
    let mut assembled = BTreeMap::new();
    for big in &survey.assembled {
        let offset = out.len() as u64;
        big.table.encode(&mut out);
        let extent = Extent {
            object,
            offset,
            len: out.len() as u64 - offset,
        };
        let location = Location {
            extent,
            codec: big.table.codec(),
        };
        assembled.insert(
            big.blob,
            Held {
                raw: big.size,
                location,
            },
        );
    }
    let mut twins: BTreeMap<NodeId, Extent> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(survey.pending.len());
    for pending in &survey.pending {
        let twin = twin(ledger, survey, &assembled, &twins, &pending.node)?.encode();
        let extent = Extent {
            object,
            offset: out.len() as u64,
            len: twin.len() as u64,
        };
        out.extend_from_slice(&twin);
        twins.insert(pending.id, extent);
        let bytes = match fresh.nodes.bytes(&pending.id) {
            Some(bytes) => bytes.clone(),
            None => pending.node.encode().into(),
        };
        nodes.push((
            NewNode {
                id: pending.id,
                bytes,
            },
            extent,
        ));
    }
    if nodes.is_empty() {
        return Ok(Prepared {
            object: None,
            nodes,
            assembled,
        });
    }
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    Ok(Prepared {
        object: Some(out.into()),
        nodes,
        assembled,
    })
}

fn twin<S: Sql>(
    ledger: &Ledger<'_, S>,
    survey: &Survey,
    assembled: &BTreeMap<BlobId, Held>,
    twins: &BTreeMap<NodeId, Extent>,
    node: &Node,
) -> Result<Twin, Problem> {
    Ok(match node {
        Node::Leaf(rows) => {
            let placed = rows.iter().map(|row| {
                let blob = &row.entry.blob;
                let held = assembled.get(blob).or_else(|| survey.located.get(blob));
                let held = held.ok_or_else(|| {
                    let detail = format!("blob {blob} of {:?} is missing", row.path);
                    Problem::new(Code::MissingObjects, detail)
                })?;
                Ok((row.clone(), held.location))
            });
            Twin::Leaf(placed.collect::<Result<_, Problem>>()?)
        }
        Node::Interior { level, children } => {
            let placed = children.iter().map(|child| {
                let extent = match twins.get(&child.id) {
                    Some(extent) => *extent,
                    None => settled(ledger, &child.id)?,
                };
                Ok((child.clone(), extent))
            });
            Twin::Interior {
                level: *level,
                children: placed.collect::<Result<_, Problem>>()?,
            }
        }
    })
}

/// Where the twin of a settled node lies.
pub(crate) fn settled<S: Sql>(ledger: &Ledger<'_, S>, id: &NodeId) -> Result<Extent, Problem> {
    match ledger.node_state(id)? {
        NodeState::Settled(extent) => Ok(extent),
        NodeState::Absent | NodeState::Pending { .. } => Err(Problem::new(
            Code::MissingObjects,
            format!("manifest node {id} is missing"),
        )),
    }
}
