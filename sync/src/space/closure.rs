//! Closure check: finds the nodes and blobs that a root references and the space does not hold.
//!
//! An indexed node was closed when its commit indexed it: everything beneath it is here. So the
//! walk stops there, and its cost follows the new nodes, not the size of the site.

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
    Child, Clashes, Entry, Layered, LevelPosition, ManifestError, Node, NodeMap, NodeSource,
    Recent, Totals,
};
use crate::pack::part::{ChainingValue, PartError, PartTable, Parts};
use crate::path::SitePath;
use crate::wire::{Offered, Ranges};

/// Nodes and blobs that came with a request and are not in the ledger yet.
#[derive(Default)]
pub(crate) struct Incoming {
    /// Nodes, by id.
    pub(crate) nodes: NodeMap,
    /// Whether the nodes came from the client as they are, instead of being made here.
    pub(crate) unverified: bool,
    /// Blobs of the pack that came along, which a commit alone writes.
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
    /// Where the blobs of their rows lie.
    pub(crate) located: BTreeMap<BlobId, StoredBlob>,
    /// Big blobs that are complete but have no table yet.
    pub(crate) assembled: Vec<Assembled>,
    /// Blobs that no deploy has: of pending packs, and of the one that came along.
    pub(crate) arrived: BTreeMap<BlobId, StoredBlob>,
    /// The pending packs among them.
    pub(crate) packs: BTreeSet<PackId>,
    /// Ranks of rows whose blobs are missing.
    pub(crate) missing: Ranges,
    /// Whether the pack that came along has all that is missing.
    pub(crate) is_closed: bool,
    /// Some of their paths, for people.
    pub(crate) missing_paths: Vec<String>,
    /// Parts of missing big blobs that are here.
    pub(crate) parts: Vec<Offered>,
    /// Bytes of blobs that no deploy had.
    pub(crate) new_bytes: u64,
    /// Files and bytes of the whole site.
    pub(crate) totals: Totals,
}

/// Why a walk ended early.
pub(crate) enum Unfinished {
    /// A node is not here: the client has to send it.
    Incomplete,
    /// The manifest or the storage is at fault.
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
        source: Recent::new(&source),
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
    source: Recent<'a, Layered<'a, Ledger<'a, S>>>,
    blob_index: BlobIndex<'a, S>,
    pending: PendingBlobs<'a, 'a, S>,
    clashes: Clashes,
    closure: Closure,
}

impl<S: Sql> Walk<'_, S> {
    fn state(&self, id: &NodeId) -> Result<NodeState, SqlError> {
        match self.ledger.node_state(id)? {
            // Its index node is written anew, so all beneath it is looked for again.
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

    /// Whether every node beneath a root is here. A client sends nodes in the order of their rows,
    /// so the last ones are missing longest: the walk begins with them, and looks at all children
    /// of a node before it goes down.
    fn is_complete(&self, root: &Root) -> Result<bool, Unfinished> {
        let mut rest = vec![*root];
        while let Some(id) = rest.pop() {
            let Node::Interior { level, children } = &*self.node(&id)? else {
                continue;
            };
            // The last child is pushed last, and is the next.
            for child in children {
                match self.state(&child.id)? {
                    NodeState::Absent => return Ok(false),
                    // A leaf that is here has nothing beneath it.
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

    /// Checks what a client claimed about a child.
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

    /// Finds where a row's blob lies, and whether it is as long as the row says. A blob of the pack
    /// that came along is located, but not here: only a commit writes it.
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

    /// Where a blob lies that no deploy has.
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

    /// Whether a blob came along and is nowhere else.
    fn is_inline(&self, blob: &BlobId, held: &StoredBlob) -> bool {
        self.incoming.pack.get(blob) == Some(held)
    }

    /// Looks whether the parts of a big blob are all here, and are really its parts.
    fn assemble(&mut self, blob: &BlobId, size: u64) -> Result<Option<StoredBlob>, Unfinished> {
        let parts = Parts::of(size)?;
        let mut values = Vec::new();
        let mut locations = Vec::new();
        let mut have = Ranges::default();
        for (number, value, location) in self.ledger.parts(blob, size)? {
            have.push(number);
            values.push(ChainingValue::kept(value));
            locations.push(Location::decode(&mut ByteReader::new(&location))?);
        }
        if values.len() as u64 != u64::from(parts.count()) {
            self.closure.parts.push(Offered { blob: *blob, have });
            return Ok(None);
        }
        if parts.merge(&values)? != *blob {
            // One of them is wrong, and the space cannot know which: all have to be sent again.
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
        // The place is a stand-in until the table is written: see `prepare`.
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
