//! Closure check: finds the nodes and blobs that a root references and the space does not hold.
//!
//! A commit indexes a node only after everything beneath it is stored. So the walk stops at indexed
//! nodes, and its cost follows the new nodes, not the size of the site.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pmx_core::code::Code;
use pmx_core::encode::ByteReader;
use pmx_core::id::{BlobId, NodeId, ObjectId, PackId, Root};
use pmx_core::limits::PART_BYTES;
use pmx_core::location::{Extent, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::blob_index::{BlobIndex, StoredBlob};
use super::ledger::{Ledger, NodeState};
use super::pending::PendingBlobs;
use crate::manifest::{
    CachedSource, Child, Clashes, Entry, Layered, LevelPosition, ManifestError, Node, NodeMap,
    NodeSource, Totals,
};
use crate::pack::part::{BlobParts, ChainingValue, PartError, PartTable};
use crate::path::SitePath;
use crate::wire::{ArrivedParts, Ranges};

/// Nodes and blobs of a request that are not in the ledger yet.
#[derive(Default)]
pub(crate) struct Incoming {
    /// Nodes, by id.
    pub(crate) nodes: NodeMap,
    /// Whether the client sent the nodes as bytes, and the space did not build them itself.
    pub(crate) unverified: bool,
    /// Blobs of the inline pack, which only a commit writes.
    pub(crate) pack: BTreeMap<BlobId, StoredBlob>,
}

/// A node whose index node has to be written.
pub(crate) struct Pending {
    pub(crate) id: NodeId,
    pub(crate) node: Arc<Node>,
}

/// A big blob whose parts have all arrived.
pub(crate) struct Assembled {
    pub(crate) blob: BlobId,
    pub(crate) size: u64,
    pub(crate) table: PartTable,
}

/// The result of a closure check.
#[derive(Default)]
pub(crate) struct Closure {
    /// Nodes to be indexed, children before parents.
    pub(crate) pending: Vec<Pending>,
    /// The locations of the blobs of their rows.
    pub(crate) located: BTreeMap<BlobId, StoredBlob>,
    /// Big blobs that are complete but have no table yet.
    pub(crate) assembled: Vec<Assembled>,
    /// Blobs that no deploy has, of pending packs and of the inline pack.
    pub(crate) arrived: BTreeMap<BlobId, StoredBlob>,
    /// The pending packs among them.
    pub(crate) packs: BTreeSet<PackId>,
    /// Ranks of rows whose blobs are missing.
    pub(crate) missing: Ranges,
    /// Whether the inline pack has all missing blobs.
    pub(crate) is_closed: bool,
    /// Some of their paths, for error messages.
    pub(crate) missing_paths: Vec<String>,
    /// Arrived parts of missing big blobs.
    pub(crate) parts: Vec<ArrivedParts>,
    /// Bytes of blobs that no deploy had.
    pub(crate) new_bytes: u64,
    /// Files and bytes of the whole site.
    pub(crate) totals: Totals,
}

/// Why a walk ended early.
pub(crate) enum Unfinished {
    /// The space lacks a node, and the client must send it.
    Incomplete,
    /// The manifest is invalid, or the storage failed.
    Fault(Problem),
}

impl<E: Into<Problem>> From<E> for Unfinished {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// Walks everything beneath `root` that is not indexed.
pub(crate) fn check_closure<S: Sql>(
    ledger: &Ledger<'_, S>,
    incoming: &Incoming,
    root: &Root,
    files_max: u64,
) -> Result<Closure, Unfinished> {
    let source = Layered {
        new: &incoming.nodes,
        old: ledger,
    };
    let mut walk = Walk {
        ledger,
        incoming,
        source: CachedSource::new(&source),
        blob_index: BlobIndex::new(ledger),
        pending: PendingBlobs::new(ledger),
        clashes: Clashes::default(),
        closure: Closure {
            is_closed: true,
            ..Closure::default()
        },
    };
    if walk.state(root)? == NodeState::Absent {
        return Err(Unfinished::Incomplete);
    }
    let node = walk.node(root)?;
    walk.closure.totals = node.totals();
    if walk.closure.totals.files > files_max {
        let (value, max) = (walk.closure.totals.files, files_max);
        let error = ManifestError::TooLarge {
            what: "the site's files are",
            value,
            max,
        };
        return Err(error.into());
    }
    if !walk.is_complete(root)? {
        return Err(Unfinished::Incomplete);
    }
    if let Node::Interior { children, .. } = &*node
        && children.len() == 1
    {
        let why = "a root with a single row should be the node beneath it";
        return Err(ManifestError::Misplaced { id: *root, why }.into());
    }
    walk.visit(root, 0, None, LevelPosition::Rightmost)?;
    Ok(walk.closure)
}

struct Walk<'a, S: Sql> {
    ledger: &'a Ledger<'a, S>,
    incoming: &'a Incoming,
    source: CachedSource<'a, Layered<'a, Ledger<'a, S>>>,
    blob_index: BlobIndex<'a, S>,
    pending: PendingBlobs<'a, 'a, S>,
    clashes: Clashes,
    closure: Closure,
}

impl<S: Sql> Walk<'_, S> {
    fn state(&self, id: &NodeId) -> Result<NodeState, SqlError> {
        match self.ledger.node_state(id)? {
            // The commit writes its index node anew, so the walk checks everything beneath it
            // again.
            NodeState::Damaged(_) => Ok(NodeState::Pending { claimed: false }),
            NodeState::Absent if self.incoming.nodes.bytes(id).is_some() => {
                Ok(NodeState::Pending {
                    claimed: self.incoming.unverified,
                })
            }
            state => Ok(state),
        }
    }

    fn node(&self, id: &NodeId) -> Result<Arc<Node>, Unfinished> {
        match self.source.node(id) {
            Err(ManifestError::Missing(_)) => Err(Unfinished::Incomplete),
            other => Ok(other?),
        }
    }

    /// Whether the space has every node beneath a root. A client sends nodes in the order of their
    /// rows, so the last nodes are missing longest. The walk therefore begins with the last nodes,
    /// and checks all children of a node before it descends.
    fn is_complete(&self, root: &Root) -> Result<bool, Unfinished> {
        let mut rest = vec![*root];
        while let Some(id) = rest.pop() {
            let Node::Interior { level, children } = &*self.node(&id)? else {
                continue;
            };
            // The last child is pushed last, and is the next to be visited.
            for child in children {
                match self.state(&child.id)? {
                    NodeState::Absent => return Ok(false),
                    // A leaf has no nodes beneath it.
                    NodeState::Pending { .. } if *level > 1 => rest.push(child.id),
                    NodeState::Pending { .. } | NodeState::Indexed(_) | NodeState::Damaged(_) => {}
                }
            }
        }
        Ok(true)
    }

    /// Visits a node whose first row has `rank` and follows the path `before`.
    fn visit(
        &mut self,
        id: &NodeId,
        mut rank: u64,
        before: Option<&SitePath>,
        place: LevelPosition,
    ) -> Result<(), Unfinished> {
        let claimed = match self.state(id)? {
            NodeState::Indexed(_) | NodeState::Damaged(_) => return Ok(()),
            NodeState::Absent => return Err(Unfinished::Incomplete),
            NodeState::Pending { claimed } => claimed,
        };
        let node = self.node(id)?;
        match &*node {
            Node::Leaf(rows) => {
                for (row, rank) in rows.iter().zip(rank..) {
                    if claimed {
                        self.clashes.push(&row.path)?;
                    }
                    let is_here = self.locate(&row.entry)?;
                    if !is_here {
                        self.closure.is_closed &= self.incoming.pack.contains_key(&row.entry.blob);
                        self.closure.missing.push(rank);
                        if self.closure.missing_paths.len() < crate::limits::MISSING_LISTED_MAX {
                            self.closure.missing_paths.push(row.path.to_string());
                        }
                    }
                }
            }
            Node::Interior { level, children } => {
                let mut before = before;
                for (at, child) in children.iter().enumerate() {
                    let inner = at + 1 < children.len();
                    let place = if inner { LevelPosition::Inner } else { place };
                    if claimed {
                        self.check(child, *level, before, place)?;
                    }
                    self.visit(&child.id, rank, before, place)?;
                    rank += child.totals.files;
                    before = Some(&child.last);
                }
            }
        }
        self.closure.pending.push(Pending { id: *id, node });
        Ok(())
    }

    /// Checks the client's claim about a child.
    fn check(
        &self,
        child: &Child,
        level: u8,
        before: Option<&SitePath>,
        place: LevelPosition,
    ) -> Result<(), Unfinished> {
        let beneath = self.node(&child.id)?;
        Ok(beneath.check_place(child, level, before, place)?)
    }

    /// Locates a row's blob, and checks its size against the row. Returns false for a missing blob
    /// and for one of the inline pack, which only a commit writes.
    fn locate(&mut self, entry: &Entry) -> Result<bool, Unfinished> {
        let Entry { blob, size, .. } = entry;
        let known = self.closure.located.get(blob).copied();
        let held = match known {
            Some(held) => Some(held),
            None => self.find(blob, *size)?,
        };
        match held {
            None => Ok(false),
            Some(held) if held.raw == *size => {
                self.closure.located.insert(*blob, held);
                Ok(!self.is_inline(blob, &held))
            }
            Some(held) => {
                let detail = format!(
                    "blob {blob} has {} bytes, not {size} as a row says",
                    held.raw
                );
                Err(Problem::new(Code::ManifestMismatch, detail).into())
            }
        }
    }

    fn find(&mut self, blob: &BlobId, size: u64) -> Result<Option<StoredBlob>, Unfinished> {
        if let Some(held) = self.blob_index.find(blob)? {
            return Ok(Some(held));
        }
        if let Some(held) = self.arrived(blob)? {
            self.closure.new_bytes += held.raw;
            self.closure.arrived.insert(*blob, held);
            return Ok(Some(held));
        }
        if size > PART_BYTES {
            self.assemble(blob, size)
        } else {
            Ok(None)
        }
    }

    /// Locates a blob that no deploy has.
    fn arrived(&mut self, blob: &BlobId) -> Result<Option<StoredBlob>, Unfinished> {
        if let Some(held) = self.incoming.pack.get(blob) {
            return Ok(Some(*held));
        }
        let Some(found) = self.pending.find(blob)? else {
            return Ok(None);
        };
        if self.ledger.lost()?.contains(blob) {
            let lost = self
                .blob_index
                .find_or_lost(blob)?
                .map(|held| held.location.extent.object);
            if lost == Some(found.held.location.extent.object) {
                return Ok(None);
            }
        }
        self.closure.packs.extend(found.pack);
        Ok(Some(found.held))
    }

    /// Whether only the inline pack has a blob.
    fn is_inline(&self, blob: &BlobId, held: &StoredBlob) -> bool {
        self.incoming.pack.get(blob) == Some(held)
    }

    /// Checks that all parts of a big blob have arrived, and that they hash to its id.
    fn assemble(&mut self, blob: &BlobId, size: u64) -> Result<Option<StoredBlob>, Unfinished> {
        let parts = BlobParts::of(size)?;
        let mut values = Vec::new();
        let mut locations = Vec::new();
        let mut have = Ranges::default();
        for (number, value, location) in self.ledger.parts(blob, size)? {
            have.push(number);
            values.push(ChainingValue::kept(value));
            locations.push(Location::decode(&mut ByteReader::new(&location))?);
        }
        if values.len() as u64 != u64::from(parts.count()) {
            self.closure.parts.push(ArrivedParts { blob: *blob, have });
            return Ok(None);
        }
        if parts.merge(&values)? != *blob {
            // One part is wrong, and the space cannot know which: the client must send all of them
            // again.
            self.ledger.drop_parts(blob)?;
            let detail = format!("the parts of blob {blob} do not hash to it");
            return Err(Problem::new(Code::HashMismatch, detail).into());
        }
        let table = PartTable::new(parts, locations)?.with_values(values)?;
        self.closure.new_bytes += size;
        let extent = Extent {
            object: ObjectId::from_bytes([0; 16]),
            offset: 0,
            len: 0,
        };
        let location = Location {
            extent,
            codec: table.codec(),
        };
        self.closure.assembled.push(Assembled {
            blob: *blob,
            size,
            table,
        });
        // The location is a placeholder until the table is written: see `index_object`.
        Ok(Some(StoredBlob {
            raw: size,
            location,
        }))
    }
}

impl From<ManifestError> for Problem {
    fn from(error: ManifestError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<PartError> for Problem {
    fn from(error: PartError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
