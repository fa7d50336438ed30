//! Repair of lost content: marks become missing blobs, which the next publish sends again.
//!
//! A reader's mark is one row of the table `loss`. The next publish takes the marks in. It finds
//! the lost blobs (`lost_blob`), and the nodes whose index nodes are lost or lead to a lost blob
//! (`damaged`). A damaged root is not `current`, a damaged node is checked like a new one, and a
//! lost blob is missing. The commit rewrites the index nodes, also those of other deploys with the
//! same content. Content that only an older deploy has stays lost.

use std::collections::{BTreeMap, BTreeSet};

use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::encode::ByteReader;
use pmx_core::id::{BlobId, NodeId, ObjectId, Root, SpaceId};
use pmx_core::location::{Extent, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::blob_index::{self, BlobIndex, StoredBlob};
use super::closure::Closure;
use super::collect::References;
use super::columns::{array, blob, integer, text};
use super::command::{Loss, Lost};
use super::ledger::{Ledger, NodeState};
use crate::limits::{LOSSES_MAX, PROBES_MAX, REPAIRED_NODES_MAX};
use crate::manifest::{ManifestError, Node, NodeSource};

/// Nodes that a walk over the whole ledger reads at a time.
const NODES_PAGE: u64 = 256;

/// Records a reader's mark, unless the ledger has it already.
pub(crate) fn note<S: Sql>(ledger: &Ledger<'_, S>, loss: &Loss) -> Result<(), Problem> {
    let is_known = match loss.lost {
        Lost::Blob { blob, .. } => ledger.lost()?.contains(&blob),
        Lost::Node { node, .. } => matches!(ledger.node_state(&node)?, NodeState::Damaged(_)),
    };
    if is_known || ledger.last_loss()? >= LOSSES_MAX {
        return Ok(());
    }
    let text = serde_json::to_string(loss).map_err(|error| SqlError(error.to_string()))?;
    let insert = "INSERT OR IGNORE INTO loss (loss) VALUES (?)";
    Ok(ledger.sql().run(insert, &[text.into()]).map(drop)?)
}

/// Takes in the marks that readers left since the last publish. If an object is gone, the space
/// also probes the objects of `roots`: the published root, its base, and the root that it replaces.
pub(crate) async fn take_in<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    roots: Vec<Root>,
) -> Result<(), Problem> {
    let last = ledger.last_loss()?;
    if last == 0 {
        return Ok(());
    }
    let mut losses = Losses::of(ledger)?;
    if !losses.objects.is_empty() {
        let objects = objects_of(ledger, roots)?;
        losses.probe(blobs, space, objects).await?;
    }
    ledger.atomically(|turn| {
        turn.check_same(space)?;
        losses.record(turn, last)
    })
}

/// The marks of a ledger, by content.
#[derive(Default)]
struct Losses {
    /// Objects that do not exist.
    objects: BTreeSet<ObjectId>,
    /// Blobs whose content is lost, and the object that had it.
    blobs: BTreeMap<BlobId, ObjectId>,
    /// Blobs whose location in the ledger differs from the serving index.
    strayed: BTreeSet<BlobId>,
    /// Nodes whose index nodes are lost.
    nodes: BTreeSet<NodeId>,
}

impl Losses {
    fn of<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Self, Problem> {
        let mut losses = Self::default();
        let have = BlobIndex::new(ledger);
        for row in ledger.sql().run("SELECT loss FROM loss", &[])? {
            let loss = serde_json::from_str(&text(&row, 0)?);
            let loss: Loss = loss.map_err(|error| SqlError(error.to_string()))?;
            let is_here = match loss.lost {
                Lost::Node { node, at } => {
                    losses.nodes.insert(node);
                    ledger.node_extent(&node)? == Some(at)
                }
                Lost::Blob { blob, at } => match have.find_or_lost(&blob)? {
                    Some(held) if held.location == at => {
                        losses.blobs.insert(blob, at.extent.object);
                        at.extent.object == loss.object
                    }
                    Some(_) => {
                        losses.strayed.insert(blob);
                        false
                    }
                    None => false,
                },
            };
            if is_here && loss.is_absent {
                losses.objects.insert(loss.object);
            }
        }
        Ok(losses)
    }

    /// Objects are rarely lost alone, so the space checks others too.
    async fn probe<B: Blobs>(
        &mut self,
        blobs: &B,
        space: SpaceId,
        objects: BTreeSet<ObjectId>,
    ) -> Result<(), BackendError> {
        for object in objects.into_iter().take(PROBES_MAX) {
            let key = ObjectKey { space, object };
            if !self.objects.contains(&object) && blobs.read_again(key, 0..1).await?.is_none() {
                self.objects.insert(object);
            }
        }
        Ok(())
    }

    /// Records all blobs and nodes that the marks concern, and deletes the marks.
    fn record<S: Sql>(mut self, ledger: &Ledger<'_, S>, last: u64) -> Result<(), Problem> {
        if !self.objects.is_empty() {
            blob_index::each(ledger, |blob, held| {
                let object = held.location.extent.object;
                if self.objects.contains(&object) {
                    self.blobs.insert(blob, object);
                }
            })?;
        }
        let damaged = self.damaged(ledger)?;
        ledger.forget_objects(self.objects.iter().chain(self.blobs.values()))?;
        ledger.lose(self.blobs.keys(), &damaged)?;
        let delete = "DELETE FROM loss WHERE number <= ?";
        Ok(ledger.sql().run(delete, &[last.into()]).map(drop)?)
    }

    /// The indexed nodes whose index nodes lead to lost content, and all their ancestors.
    fn damaged<S: Sql>(&self, ledger: &Ledger<'_, S>) -> Result<BTreeSet<NodeId>, Problem> {
        let mut damaged = BTreeSet::new();
        let mut interior: BTreeMap<u8, Vec<(NodeId, Vec<NodeId>)>> = BTreeMap::new();
        each_settled(ledger, |id, object, node| {
            let is_lost = self.nodes.contains(&id) || self.objects.contains(&object);
            match node {
                Node::Leaf(rows) => {
                    let is_lost_blob =
                        |blob| self.blobs.contains_key(blob) || self.strayed.contains(blob);
                    if is_lost || rows.iter().any(|row| is_lost_blob(&row.entry.blob)) {
                        damaged.insert(id);
                    }
                }
                Node::Interior { level, children } => {
                    if is_lost {
                        damaged.insert(id);
                    }
                    let children = children.iter().map(|child| child.id).collect();
                    interior.entry(level).or_default().push((id, children));
                }
            }
        })?;
        // Levels ascend, so the loop has decided a node's children before the node.
        for (id, children) in interior.into_values().flatten() {
            if children.iter().any(|child| damaged.contains(child)) {
                damaged.insert(id);
            }
        }
        Ok(damaged)
    }
}

fn each_settled<S: Sql>(
    ledger: &Ledger<'_, S>,
    mut visit: impl FnMut(NodeId, ObjectId, Node),
) -> Result<(), Problem> {
    let select = "SELECT id, bytes, object FROM node
         WHERE id > ? AND object IS NOT NULL ORDER BY id LIMIT ?";
    let mut after = Vec::new();
    loop {
        let params = [after.into(), NODES_PAGE.into()];
        let rows = ledger.sql().run(select, &params)?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = blob(last, 0)?;
        for row in &rows {
            let node = Node::decode(&blob(row, 1)?)?;
            let (id, object) = (array(row, 0)?, array(row, 2)?);
            visit(NodeId::from_bytes(id), ObjectId::from_bytes(object), node);
        }
    }
}

/// The objects with the index nodes and blobs of roots, as far as the ledger has them.
fn objects_of<S: Sql>(
    ledger: &Ledger<'_, S>,
    roots: Vec<Root>,
) -> Result<BTreeSet<ObjectId>, Problem> {
    let have = BlobIndex::new(ledger);
    let mut objects = BTreeSet::new();
    let (mut rest, mut seen) = (roots, BTreeSet::new());
    while let Some(id) = rest.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = match ledger.node(&id) {
            Err(ManifestError::Missing(_)) => continue,
            node => node?,
        };
        objects.extend(ledger.node_extent(&id)?.map(|extent| extent.object));
        match &*node {
            Node::Leaf(rows) => {
                for row in rows {
                    let held = have.find_or_lost(&row.entry.blob)?;
                    objects.extend(held.map(|held| held.location.extent.object));
                }
            }
            Node::Interior { children, .. } => rest.extend(children.iter().map(|child| child.id)),
        }
    }
    Ok(objects)
}

/// Repairs of a commit beside its own root: index nodes of other deploys with the same content.
pub(crate) struct Others<'a, 'l, S> {
    ledger: &'a Ledger<'l, S>,
    /// Nodes that the commit indexes anyway.
    own: BTreeSet<NodeId>,
    /// Lost blobs that arrived again.
    back: BTreeMap<BlobId, StoredBlob>,
    have: BlobIndex<'a, S>,
}

/// A node of another deploy whose index node the commit rewrites.
pub(crate) struct RepairedNode {
    pub(crate) id: NodeId,
    /// Whether nothing beneath the node is lost any more.
    pub(crate) is_whole: bool,
}

impl<'a, 'l, S: Sql> Others<'a, 'l, S> {
    pub(crate) fn new(ledger: &'a Ledger<'l, S>, closure: &Closure) -> Result<Self, SqlError> {
        let mut back = BTreeMap::new();
        for blob in ledger.lost()? {
            back.extend(closure.located.get(blob).map(|held| (*blob, *held)));
        }
        Ok(Self {
            ledger,
            own: closure.pending.iter().map(|pending| pending.id).collect(),
            back,
            have: BlobIndex::new(ledger),
        })
    }

    /// The nodes to rewrite, children before parents.
    pub(crate) fn nodes(&self) -> Result<Vec<(RepairedNode, std::sync::Arc<Node>)>, Problem> {
        let damaged = self.ledger.damaged()?;
        let is_repair = self.own.iter().any(|id| damaged.contains(id));
        if self.back.is_empty() && !is_repair {
            return Ok(Vec::new());
        }
        let mut levels: BTreeMap<u8, Vec<(NodeId, std::sync::Arc<Node>)>> = BTreeMap::new();
        let others = damaged.iter().filter(|id| !self.own.contains(*id));
        for id in others.take(REPAIRED_NODES_MAX) {
            let node = self.ledger.node(id)?;
            let level = match &*node {
                Node::Leaf(_) => 0,
                Node::Interior { level, .. } => *level,
            };
            levels.entry(level).or_default().push((*id, node));
        }
        let mut mended: BTreeMap<NodeId, bool> = BTreeMap::new();
        let mut nodes = Vec::new();
        for (id, node) in levels.into_values().flatten() {
            let is_whole = self.is_whole(&node, damaged, &mended)?;
            if is_whole || self.is_better(&node, &mended) {
                mended.insert(id, is_whole);
                nodes.push((RepairedNode { id, is_whole }, node));
            }
        }
        Ok(nodes)
    }

    fn is_whole(
        &self,
        node: &Node,
        damaged: &BTreeSet<NodeId>,
        mended: &BTreeMap<NodeId, bool>,
    ) -> Result<bool, SqlError> {
        let lost = self.ledger.lost()?;
        Ok(match node {
            Node::Leaf(rows) => rows.iter().all(|row| {
                let blob = &row.entry.blob;
                !lost.contains(blob) || self.back.contains_key(blob)
            }),
            Node::Interior { children, .. } => children.iter().all(|child| {
                let id = &child.id;
                !damaged.contains(id)
                    || self.own.contains(id)
                    || mended.get(id).copied().unwrap_or(false)
            }),
        })
    }

    /// Whether some lost content beneath a node has arrived again.
    fn is_better(&self, node: &Node, mended: &BTreeMap<NodeId, bool>) -> bool {
        match node {
            Node::Leaf(rows) => rows
                .iter()
                .any(|row| self.back.contains_key(&row.entry.blob)),
            Node::Interior { children, .. } => children
                .iter()
                .any(|child| mended.contains_key(&child.id) || self.own.contains(&child.id)),
        }
    }

    /// The location of a row's blob: the new one, or the one where it was lost.
    pub(crate) fn place(&self, blob: &BlobId) -> Result<Location, Problem> {
        let held = match self.back.get(blob) {
            Some(held) => Some(*held),
            None => self.have.find_or_lost(blob)?,
        };
        held.map(|held| held.location).ok_or_else(|| {
            let detail = format!("the ledger does not know where blob {blob} lies");
            Problem::new(Code::Corrupt, detail)
        })
    }
}

impl<S: Sql> Ledger<'_, S> {
    /// Whether the ledger has marks to take in, or lost content to request.
    pub(crate) fn has_losses(&self) -> Result<bool, SqlError> {
        let select = "SELECT EXISTS (SELECT 1 FROM loss) OR EXISTS (SELECT 1 FROM damaged)";
        let rows = self.sql().run(select, &[])?;
        rows.first()
            .map_or(Ok(false), |row| Ok(integer(row, 0)? != 0))
    }

    /// The number of the last mark; 0 if there is none.
    fn last_loss(&self) -> Result<u64, SqlError> {
        let select = "SELECT coalesce(max(number), 0) FROM loss";
        let rows = self.sql().run(select, &[])?;
        rows.first().map_or(Ok(0), |row| integer(row, 0))
    }

    /// The extent of a node's index node, whether or not it is damaged.
    pub(crate) fn node_extent(&self, id: &NodeId) -> Result<Option<Extent>, SqlError> {
        Ok(match self.node_state(id)? {
            NodeState::Indexed(extent) | NodeState::Damaged(extent) => Some(extent),
            NodeState::Absent | NodeState::Pending { .. } => None,
        })
    }

    /// Deletes packs and parts whose objects are gone, so that new uploads of them are recorded.
    fn forget_objects<'o>(
        &self,
        objects: impl Iterator<Item = &'o ObjectId>,
    ) -> Result<(), Problem> {
        let objects: BTreeSet<&ObjectId> = objects.collect();
        for object in &objects {
            let delete = "DELETE FROM pack WHERE object = ?";
            self.sql().run(delete, &[object.as_bytes()[..].into()])?;
        }
        let select = "SELECT blob, number, location FROM part";
        for row in self.sql().run(select, &[])? {
            let location = blob(&row, 2)?;
            let location = Location::decode(&mut ByteReader::new(&location))?;
            if objects.contains(&location.extent.object) {
                let delete = "DELETE FROM part WHERE blob = ? AND number = ?";
                let params = [blob(&row, 0)?.into(), integer(&row, 1)?.into()];
                self.sql().run(delete, &params)?;
            }
        }
        Ok(())
    }

    fn lose<'b>(
        &self,
        blobs: impl Iterator<Item = &'b BlobId>,
        damaged: &BTreeSet<NodeId>,
    ) -> Result<(), SqlError> {
        for blob in blobs {
            let insert = "INSERT OR IGNORE INTO lost_blob (blob) VALUES (?)";
            self.sql().run(insert, &[blob.as_bytes()[..].into()])?;
        }
        for node in damaged {
            let insert = "INSERT OR IGNORE INTO damaged (node) VALUES (?)";
            self.sql().run(insert, &[node.as_bytes()[..].into()])?;
        }
        Ok(())
    }

    /// Records that a lost blob arrived again.
    pub(super) fn found(&self, id: &BlobId) -> Result<(), SqlError> {
        let delete = "DELETE FROM lost_blob WHERE blob = ?";
        self.sql()
            .run(delete, &[id.as_bytes()[..].into()])
            .map(drop)
    }

    /// Records the extent of a damaged node's new index node.
    pub(crate) fn record_repaired_node(
        &self,
        node: &RepairedNode,
        index_node: &Extent,
        references: &References,
    ) -> Result<(), SqlError> {
        let id = || node.id.as_bytes()[..].into();
        let update = "UPDATE node SET object = ?, at = ?, length = ?, refs = ? WHERE id = ?";
        let object = index_node.object.as_bytes()[..].into();
        let params = [
            object,
            index_node.offset.into(),
            index_node.len.into(),
            references.encode().into(),
            id(),
        ];
        self.sql().run(update, &params)?;
        self.references_changed(&node.id)?;
        if node.is_whole {
            self.sql()
                .run("DELETE FROM damaged WHERE node = ?", &[id()])?;
        }
        Ok(())
    }
}
