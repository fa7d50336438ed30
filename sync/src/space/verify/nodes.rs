//! Verification of nodes: their bytes, their children, their index nodes, and where these lead.

use pmx_core::backend::Blobs;
use pmx_core::id::{NodeId, ObjectId};
use pmx_core::location::{Extent, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlRow, Value};

use super::super::blob_index::StoredBlob;
use super::super::collect::References;
use super::super::columns::{array, blob, extent, integer};
use super::super::command::{Loss, Lost};
use super::super::ledger::NodeState;
use super::{Check, FAULTS_AT_ONCE};
use crate::index::IndexNode;
use crate::manifest::{Child, Node, Row};
use crate::wire::{Reached, VerifyCursor};

/// Nodes that a step checks: each is read at least once.
const NODES_AT_ONCE: u64 = 16;

/// What is wrong with a node.
enum Wrong {
    /// A publish of the node heals it.
    Healing(String),
    /// The ledger itself is damaged.
    Ledger(String),
}

impl<S: Sql, B: Blobs> Check<'_, S, B> {
    /// Checks the nodes behind one. Returns where the next step begins.
    pub(super) async fn nodes(
        &mut self,
        reached: Option<Reached<NodeId>>,
    ) -> Result<VerifyCursor, Problem> {
        if reached.is_none() {
            self.roots()?;
        }
        let collector = self.ledger.collector()?;
        let live = if collector.is_sweeping() {
            collector.swept
        } else {
            0
        };
        let from = reached.map_or_else(Vec::new, |reached| reached.id.as_bytes().to_vec());
        let is_whole = reached.is_some_and(|reached| reached.checks.is_none());
        let select = "SELECT id, bytes, object, at, length, refs FROM node
             WHERE id >= ? AND NOT (id = ? AND ?) AND object IS NOT NULL AND mark >= ?
             ORDER BY id LIMIT ?";
        let params = [
            from.clone().into(),
            from.into(),
            u64::from(is_whole).into(),
            live.into(),
            NODES_AT_ONCE.into(),
        ];
        let rows = self.ledger.sql().run(select, &params)?;
        let mut last = None;
        for row in &rows {
            let id = NodeId::from_bytes(array(row, 0)?);
            let done = Reached::done_of(reached.as_ref(), &id);
            let checks = self.node(id, row, done).await?;
            last = Some(Reached { id, checks });
            if checks.is_some() || self.is_over() {
                return Ok(VerifyCursor::Nodes(last));
            }
        }
        Ok(match last {
            Some(_) if rows.len() as u64 == NODES_AT_ONCE => VerifyCursor::Nodes(last),
            Some(_) | None => VerifyCursor::Objects(None),
        })
    }

    /// Each kept deploy has its root.
    fn roots(&mut self) -> Result<(), Problem> {
        let select = "SELECT deploy.number FROM deploy LEFT JOIN node ON node.id = deploy.root
             WHERE deploy.state = 0 AND node.object IS NULL ORDER BY deploy.number LIMIT ?";
        let most = (FAULTS_AT_ONCE as u64).into();
        for row in self.ledger.sql().run(select, &[most])? {
            let why = "its root is not in the ledger";
            self.fault(format!("deploy {}", integer(&row, 0)?), why);
        }
        Ok(())
    }

    /// Does the checks of a node from one on. Returns their number so far if more are left.
    async fn node(&mut self, id: NodeId, row: &SqlRow, done: u64) -> Result<Option<u64>, Problem> {
        let Some(at) = extent(row, 2)? else {
            return Ok(None);
        };
        let mut left = None;
        let mut wrong = self.wrong_in_ledger(&id, &blob(row, 1)?)?;
        if wrong.is_none()
            && let Some(index_node) = self.index_node(id, at).await?
        {
            wrong = self.wrong_references(row, &References::of(&index_node, &at))?;
            if wrong.is_none() {
                (left, wrong) = match &index_node {
                    IndexNode::Leaf(rows) => self.leaf((id, at), rows, done).await?,
                    IndexNode::Interior { children, .. } => self.children(children, done).await?,
                };
            }
        }
        if left.is_none() {
            self.reply.nodes += 1;
        }
        match wrong {
            Some(Wrong::Healing(why)) => self.lose_node((id, at), false, &why)?,
            Some(Wrong::Ledger(why)) if self.is_still_at(&id, at)? => {
                self.fault(format!("node {id}"), why);
            }
            Some(Wrong::Ledger(_)) | None => {}
        }
        Ok(left)
    }

    /// Why a node is not as its id says, or lacks a child.
    fn wrong_in_ledger(&self, id: &NodeId, bytes: &[u8]) -> Result<Option<Wrong>, Problem> {
        let node = match Node::decode(bytes) {
            Ok(node) if NodeId::of(bytes) == *id => node,
            Ok(_) => {
                let why = "its bytes in the ledger have another hash";
                return Ok(Some(Wrong::Ledger(why.into())));
            }
            Err(error) => return Ok(Some(Wrong::Ledger(format!("in the ledger: {error}")))),
        };
        let Node::Interior { children, .. } = &node else {
            return Ok(None);
        };
        for child in children {
            let state = self.ledger.node_state(&child.id)?;
            if !matches!(state, NodeState::Indexed(_) | NodeState::Damaged(_)) {
                let why = format!("the ledger does not have its child {}", child.id);
                return Ok(Some(Wrong::Healing(why)));
            }
        }
        Ok(None)
    }

    /// Why a collection would take an object that an index node leads to.
    fn wrong_references(
        &mut self,
        row: &SqlRow,
        found: &References,
    ) -> Result<Option<Wrong>, Problem> {
        if row.get(5) == Some(&Value::Null) {
            return Ok(None);
        }
        let recorded = References::decode(&blob(row, 5)?)?;
        if recorded.objects != found.objects || recorded.big != found.big {
            let why = "the ledger records other references than its index node has";
            return Ok(Some(Wrong::Healing(why.into())));
        }
        for object in &found.objects {
            if !self.is_there_to_stay(object)? {
                let why = format!("object {object} counts as garbage");
                return Ok(Some(Wrong::Healing(why)));
            }
        }
        Ok(None)
    }

    fn is_there_to_stay(&mut self, object: &ObjectId) -> Result<bool, Problem> {
        if let Some(known) = self.known.get(object) {
            return Ok(*known);
        }
        let collector = self.ledger.collector()?;
        let key = || object.as_bytes()[..].into();
        let select = "SELECT EXISTS (SELECT 1 FROM doomed WHERE object = ?),
             EXISTS (SELECT 1 FROM object WHERE id = ? AND mark >= ?)";
        let live = if collector.is_sweeping() {
            collector.swept
        } else {
            0
        };
        let rows = self
            .ledger
            .sql()
            .run(select, &[key(), key(), live.into()])?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let (is_doomed, has_row) = (integer(row, 0)? != 0, integer(row, 1)? != 0);
        // Before the first collection, objects of older versions have no rows.
        let stays = !is_doomed && (has_row || !collector.is_filled);
        self.known.insert(*object, stays);
        Ok(stays)
    }

    /// Records a fault of a node, unless another command changed the node since.
    fn lose_node(
        &mut self,
        (id, at): (NodeId, Extent),
        is_absent: bool,
        why: &str,
    ) -> Result<(), Problem> {
        if self.is_still_at(&id, at)? {
            self.fault(format!("node {id}"), why);
            self.losses.push(Loss {
                lost: Lost::Node { node: id, at },
                object: at.object,
                is_absent,
            });
        }
        Ok(())
    }

    /// Reads the index node of a node.
    async fn index_node(&mut self, id: NodeId, at: Extent) -> Result<Option<IndexNode>, Problem> {
        let read = self.read(at.object, at.offset..at.offset.saturating_add(at.len));
        let decoded = read.await?.map(|bytes| IndexNode::decode(&bytes, id));
        let (is_absent, why) = match decoded {
            Some(Ok(index_node)) => return Ok(Some(index_node)),
            Some(Err(error)) => (false, format!("its index node: {error}")),
            None => {
                let why = format!("its index node: object {} is gone or too short", at.object);
                (self.is_gone(at.object).await?, why)
            }
        };
        self.lose_node((id, at), is_absent, &why)?;
        Ok(None)
    }

    /// Compares where a leaf locates its blobs with what the ledger knows.
    async fn leaf(
        &mut self,
        node: (NodeId, Extent),
        rows: &[(Row, Location)],
        skip: u64,
    ) -> Result<(Option<u64>, Option<Wrong>), Problem> {
        for ((row, location), number) in rows.iter().zip(1..) {
            if number <= skip {
                continue;
            }
            let blob = &row.entry.blob;
            let Some(held) = self.have.find_or_lost(blob)? else {
                let why = format!("the ledger does not know its blob {blob}");
                return Ok((None, Some(Wrong::Healing(why))));
            };
            if held.raw != row.entry.size {
                let why = format!("blob {blob} has another size in the ledger");
                return Ok((None, Some(Wrong::Ledger(why))));
            }
            if held.location != *location {
                // Another upload of the same content: readers of this node read it.
                let location = *location;
                let own = StoredBlob { location, ..held };
                self.blob_elsewhere(node, blob, &own).await?;
                if self.is_over() {
                    return Ok((Some(number), None));
                }
            }
        }
        Ok((None, None))
    }

    /// Compares where an interior node locates its children with what the ledger knows.
    async fn children(
        &mut self,
        children: &[(Child, Extent)],
        skip: u64,
    ) -> Result<(Option<u64>, Option<Wrong>), Problem> {
        for ((child, at), number) in children.iter().zip(1..) {
            if number <= skip || self.ledger.node_extent(&child.id)? == Some(*at) {
                continue;
            }
            let read = self.read(at.object, at.offset..at.offset.saturating_add(at.len));
            let is_whole = read
                .await?
                .is_some_and(|bytes| IndexNode::decode(&bytes, child.id).is_ok());
            if !is_whole {
                let why = format!("the index node of its child {} is damaged", child.id);
                return Ok((None, Some(Wrong::Healing(why))));
            }
            if self.is_over() {
                return Ok((Some(number), None));
            }
        }
        Ok((None, None))
    }
}
