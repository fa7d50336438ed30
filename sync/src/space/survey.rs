//! What a root still needs: a walk over the nodes whose twins are not written yet.
//!
//! A settled node was closed when it was settled: everything beneath it is here. So the walk stops
//! there, and costs what is new, not what the site holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::have::{Have, Held};
use super::ledger::{Ledger, NodeState};
use crate::code::Code;
use crate::encode::{Malformed, Reader};
use crate::id::{BlobId, NodeId, ObjectId, PackId, Root};
use crate::limits::{FILES_MAX, PART_BYTES};
use crate::location::{Extent, Location};
use crate::manifest::{
    Child, Clashes, Entry, Layered, ManifestError, Node, NodeMap, NodeSource, Place, Totals,
};
use crate::pack::part::{ChainingValue, PartError, PartTable, Parts};
use crate::pack::rest::Toc;
use crate::sql::{Sql, SqlError};
use crate::wire::{Offered, Problem, Ranges};

/// Nodes and blobs that came with a request and are not in the ledger yet.
#[derive(Default, Clone)]
pub(crate) struct Fresh {
    /// Nodes, by id.
    pub(crate) nodes: NodeMap,
    /// Whether the nodes came from the client as they are, instead of being made here.
    pub(crate) claimed: bool,
    /// Blobs of packs that are not in their buckets yet.
    pub(crate) blobs: BTreeMap<BlobId, Held>,
    /// Those packs.
    pub(crate) packs: Vec<PackId>,
}

impl Fresh {
    /// Starts with the packs that arrived since the last commit.
    pub(crate) fn pending<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Self, SqlError> {
        let mut fresh = Self::default();
        for (pack, object, toc) in ledger.pending_packs()? {
            let toc = Toc::decode(&toc).map_err(|e| SqlError(format!("pack {pack}: {e}")))?;
            fresh.add_toc(object, &toc);
            fresh.packs.push(pack);
        }
        Ok(fresh)
    }

    /// Adds the blobs of an object.
    pub(crate) fn add_toc(&mut self, object: ObjectId, toc: &Toc) {
        for entry in toc.entries() {
            let extent = Extent {
                object,
                offset: entry.offset,
                len: entry.stored,
            };
            let location = Location {
                extent,
                codec: entry.codec,
            };
            self.blobs.entry(entry.blob).or_insert(Held {
                raw: entry.raw,
                location,
            });
        }
    }
}

/// A node whose twin has to be written.
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

/// What the walk found.
#[derive(Default)]
pub(crate) struct Survey {
    /// Nodes to be settled, children before parents.
    pub(crate) pending: Vec<Pending>,
    /// Where the blobs of their rows lie.
    pub(crate) located: BTreeMap<BlobId, Held>,
    /// Big blobs that are complete but have no table yet.
    pub(crate) assembled: Vec<Assembled>,
    /// Ranks of rows whose blobs are missing.
    pub(crate) missing: Ranges,
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

/// Walks everything beneath `root` that is not settled.
pub(crate) fn survey<S: Sql>(
    ledger: &Ledger<'_, S>,
    fresh: &Fresh,
    root: &Root,
) -> Result<Survey, Unfinished> {
    let source = Layered {
        new: &fresh.nodes,
        old: ledger,
    };
    let have = Have::new(ledger);
    let clashes = Clashes::default();
    let mut walk = Walk {
        ledger,
        fresh,
        source,
        have,
        clashes,
        survey: Survey::default(),
    };
    if walk.state(root)? == NodeState::Absent {
        return Err(Unfinished::Incomplete);
    }
    let node = walk.node(root)?;
    walk.survey.totals = node.totals();
    if walk.survey.totals.files > FILES_MAX {
        let (value, max) = (walk.survey.totals.files, FILES_MAX);
        let error = ManifestError::TooLarge {
            what: "the site's files are",
            value,
            max,
        };
        return Err(error.into());
    }
    if let Node::Interior { children, .. } = &*node
        && children.len() == 1
    {
        let why = "a root with a single row should be the node beneath it";
        return Err(ManifestError::Misplaced { id: *root, why }.into());
    }
    walk.visit(root, 0, Place::Rightmost)?;
    Ok(walk.survey)
}

struct Walk<'a, S: Sql> {
    ledger: &'a Ledger<'a, S>,
    fresh: &'a Fresh,
    source: Layered<'a, Ledger<'a, S>>,
    have: Have<'a, S>,
    clashes: Clashes,
    survey: Survey,
}

impl<S: Sql> Walk<'_, S> {
    fn state(&self, id: &NodeId) -> Result<NodeState, SqlError> {
        match self.ledger.node_state(id)? {
            NodeState::Absent if self.fresh.nodes.bytes(id).is_some() => Ok(NodeState::Pending {
                claimed: self.fresh.claimed,
            }),
            state => Ok(state),
        }
    }

    fn node(&self, id: &NodeId) -> Result<Arc<Node>, Unfinished> {
        match self.source.node(id) {
            Err(ManifestError::Missing(_)) => Err(Unfinished::Incomplete),
            other => Ok(other?),
        }
    }

    fn visit(&mut self, id: &NodeId, mut rank: u64, place: Place) -> Result<(), Unfinished> {
        let claimed = match self.state(id)? {
            NodeState::Settled(_) => return Ok(()),
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
                    if !self.locate(&row.entry)? {
                        self.survey.missing.push(rank);
                        if self.survey.missing_paths.len() < crate::limits::MISSING_LISTED_MAX {
                            self.survey.missing_paths.push(row.path.to_string());
                        }
                    }
                }
            }
            Node::Interior { level, children } => {
                for (at, child) in children.iter().enumerate() {
                    let inner = at + 1 < children.len();
                    let place = if inner { Place::Inner } else { place };
                    if claimed {
                        self.check(
                            child,
                            *level,
                            at.checked_sub(1).map(|at| &children[at]),
                            place,
                        )?;
                    }
                    self.visit(&child.id, rank, place)?;
                    rank += child.totals.files;
                }
            }
        }
        self.survey.pending.push(Pending { id: *id, node });
        Ok(())
    }

    /// Checks what a client claimed about a child.
    fn check(
        &self,
        child: &Child,
        level: u8,
        before: Option<&Child>,
        place: Place,
    ) -> Result<(), Unfinished> {
        let beneath = self.node(&child.id)?;
        Ok(beneath.check_place(child, level, before.map(|child| &child.last), place)?)
    }

    /// Finds where a row's blob lies, and whether it is as long as the row says.
    fn locate(&mut self, entry: &Entry) -> Result<bool, Unfinished> {
        let Entry { blob, size, .. } = entry;
        let known = self.survey.located.get(blob).copied();
        let held = match known {
            Some(held) => Some(held),
            None => self.find(blob, *size)?,
        };
        match held {
            None => Ok(false),
            Some(held) if held.raw == *size => {
                self.survey.located.insert(*blob, held);
                Ok(true)
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

    fn find(&mut self, blob: &BlobId, size: u64) -> Result<Option<Held>, Unfinished> {
        if let Some(held) = self.have.find(blob)? {
            return Ok(Some(held));
        }
        if let Some(held) = self.fresh.blobs.get(blob) {
            self.survey.new_bytes += held.raw;
            return Ok(Some(*held));
        }
        if size > PART_BYTES {
            self.assemble(blob, size)
        } else {
            Ok(None)
        }
    }

    /// Looks whether the parts of a big blob are all here, and are really its parts.
    fn assemble(&mut self, blob: &BlobId, size: u64) -> Result<Option<Held>, Unfinished> {
        let parts = Parts::of(size)?;
        let mut values = Vec::new();
        let mut locations = Vec::new();
        let mut have = Ranges::default();
        for (number, value, location) in self.ledger.parts(blob, size)? {
            have.push(number);
            values.push(ChainingValue::kept(value));
            locations.push(Location::decode(&mut Reader::new(&location))?);
        }
        if values.len() as u64 != u64::from(parts.count()) {
            self.survey.parts.push(Offered { blob: *blob, have });
            return Ok(None);
        }
        if parts.merge(&values)? != *blob {
            // One of them is false, and nobody knows which: all have to come again.
            self.ledger.drop_parts(blob)?;
            let detail = format!("the parts of blob {blob} do not hash to it");
            return Err(Problem::new(Code::HashMismatch, detail).into());
        }
        let table = PartTable::new(parts, locations)?;
        self.survey.new_bytes += size;
        let extent = Extent {
            object: ObjectId::from_bytes([0; 16]),
            offset: 0,
            len: 0,
        };
        let location = Location {
            extent,
            codec: table.codec(),
        };
        self.survey.assembled.push(Assembled {
            blob: *blob,
            size,
            table,
        });
        // The place is a stand-in until the table is written: see `prepare`.
        Ok(Some(Held {
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

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Self {
        Self::new(Code::Storage, error.to_string())
    }
}

impl From<Malformed> for Problem {
    fn from(error: Malformed) -> Self {
        Self::new(Code::Corrupt, format!("reading the ledger: {error}"))
    }
}

impl From<PartError> for Problem {
    fn from(error: PartError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
