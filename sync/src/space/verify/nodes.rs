//! Verification of nodes: their bytes, their children, their index nodes, and where these lead.

use pmx_core::backend::Blobs;
use pmx_core::id::NodeId;
use pmx_core::location::{Extent, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlRow};

use super::super::blob_index::{BlobIndex, StoredBlob};
use super::super::columns::{array, blob, extent, integer};
use super::super::command::{Loss, Lost};
use super::super::ledger::{Ledger, NodeState};
use super::Check;
use crate::index::IndexNode;
use crate::manifest::{Child, Node, Row};
use crate::wire::VerifyCursor;

/// Nodes that a step checks: each is read at least once.
const NODES_AT_ONCE: u64 = 16;

impl<S: Sql, B: Blobs> Check<'_, '_, S, B> {
    /// Checks the nodes behind one. Returns where the next step begins.
    pub(super) async fn nodes(
        &mut self,
        after: Option<NodeId>,
    ) -> Result<Option<VerifyCursor>, Problem> {
        if after.is_none() {
            self.roots()?;
        }
        let collector = self.ledger.collector()?;
        let live = if collector.is_sweeping() {
            collector.swept
        } else {
            0
        };
        let select = "SELECT id, bytes, object, at, length FROM node
             WHERE id > ? AND object IS NOT NULL AND mark >= ? ORDER BY id LIMIT ?";
        let from = after.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
        let params = [from.into(), live.into(), NODES_AT_ONCE.into()];
        let rows = self.ledger.sql().run(select, &params)?;
        let mut last = None;
        for row in &rows {
            let id = NodeId::from_bytes(array(row, 0)?);
            self.node(id, row).await?;
            last = Some(id);
            if self.is_over() {
                return Ok(Some(VerifyCursor::Nodes(last)));
            }
        }
        Ok(Some(match last {
            Some(_) if rows.len() as u64 == NODES_AT_ONCE => VerifyCursor::Nodes(last),
            Some(_) | None => VerifyCursor::Objects(None, 0),
        }))
    }

    /// Each kept deploy has its root.
    fn roots(&mut self) -> Result<(), Problem> {
        let select = "SELECT deploy.number FROM deploy LEFT JOIN node ON node.id = deploy.root
             WHERE deploy.state = 0 AND node.object IS NULL ORDER BY deploy.number";
        for row in self.ledger.sql().run(select, &[])? {
            let why = "its root is not in the ledger";
            self.fault(format!("deploy {}", integer(&row, 0)?), why);
        }
        Ok(())
    }

    async fn node(&mut self, id: NodeId, row: &SqlRow) -> Result<(), Problem> {
        self.reply.nodes += 1;
        let Some(at) = extent(row, 2)? else {
            return Ok(());
        };
        let mut why = self.fault_in_ledger(&id, &blob(row, 1)?)?;
        if why.is_none()
            && let Some(index_node) = self.index_node(id, at).await?
        {
            why = match &index_node {
                IndexNode::Leaf(rows) => self.leaf(rows).await?,
                IndexNode::Interior { children, .. } => self.children(children).await?,
            };
        }
        if let Some(why) = why {
            // A publish of the node checks it like a new one, and writes its index node again.
            self.lose_node(id, at, false, &why);
        }
        Ok(())
    }

    /// Why a node is not as its id says, or lacks a child.
    fn fault_in_ledger(&self, id: &NodeId, bytes: &[u8]) -> Result<Option<String>, Problem> {
        let node = match Node::decode(bytes) {
            Ok(node) if NodeId::of(bytes) == *id => node,
            Ok(_) => return Ok(Some("its bytes in the ledger have another hash".into())),
            Err(error) => return Ok(Some(format!("in the ledger: {error}"))),
        };
        let Node::Interior { children, .. } = &node else {
            return Ok(None);
        };
        for child in children {
            let state = self.ledger.node_state(&child.id)?;
            if !matches!(state, NodeState::Indexed(_) | NodeState::Damaged(_)) {
                let why = format!("the ledger does not have its child {}", child.id);
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    fn lose_node(&mut self, id: NodeId, at: Extent, is_absent: bool, why: &str) {
        self.fault(format!("node {id}"), why);
        self.losses.push(Loss {
            lost: Lost::Node { node: id, at },
            object: at.object,
            is_absent,
        });
    }

    /// Reads an index node. One that was replaced or collected since is not missed.
    async fn index_node(&mut self, id: NodeId, at: Extent) -> Result<Option<IndexNode>, Problem> {
        let read = self.read(at.object, at.offset..at.offset.saturating_add(at.len));
        let read = read.await?;
        let is_absent = read.is_none();
        let decoded = read.map(|bytes| IndexNode::decode(&bytes, id));
        let why = match decoded {
            Some(Ok(index_node)) => return Ok(Some(index_node)),
            Some(Err(error)) => format!("its index node: {error}"),
            None => format!("its index node: object {} is gone or too short", at.object),
        };
        let fresh = Ledger::new(self.ledger.sql()).at(self.ledger.now());
        if fresh.node_extent(&id)? == Some(at) {
            self.lose_node(id, at, is_absent, &why);
        }
        Ok(None)
    }

    /// Compares where a leaf locates its blobs with what the ledger knows.
    async fn leaf(&mut self, rows: &[(Row, Location)]) -> Result<Option<String>, Problem> {
        let ledger = self.ledger;
        let have = BlobIndex::new(ledger);
        for (row, location) in rows {
            let blob = &row.entry.blob;
            let Some(held) = have.find_or_lost(blob)? else {
                return Ok(Some(format!("the ledger does not know its blob {blob}")));
            };
            if held.raw != row.entry.size {
                return Ok(Some(format!("blob {blob} has another size in the ledger")));
            }
            if held.location != *location {
                // Another upload of the same content: readers of this node read it.
                let location = *location;
                let own = StoredBlob { location, ..held };
                self.blob_elsewhere(blob, &own).await?;
            }
        }
        Ok(None)
    }

    /// Compares where an interior node locates its children with what the ledger knows.
    async fn children(&mut self, children: &[(Child, Extent)]) -> Result<Option<String>, Problem> {
        for (child, at) in children {
            if self.ledger.node_extent(&child.id)? == Some(*at) {
                continue;
            }
            let read = self.read(at.object, at.offset..at.offset.saturating_add(at.len));
            let is_whole = read
                .await?
                .is_some_and(|bytes| IndexNode::decode(&bytes, child.id).is_ok());
            if !is_whole {
                let why = format!("the index node of its child {} is damaged", child.id);
                return Ok(Some(why));
            }
        }
        Ok(None)
    }
}
