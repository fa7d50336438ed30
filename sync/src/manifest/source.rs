//! Node source: the port from which walks read nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use pmx_core::id::NodeId;

use super::error::ManifestError;
use super::node::{NewNode, Node};

/// A store of nodes: a ledger, a file, memory.
pub trait NodeSource {
    /// Reads one node; [`ManifestError::Missing`] if the source lacks it.
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError>;
}

impl<S: NodeSource + ?Sized> NodeSource for &S {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        (**self).node(id)
    }
}

/// Nodes in memory, by id.
#[derive(Debug, Clone, Default)]
pub struct NodeMap {
    nodes: BTreeMap<NodeId, Arc<[u8]>>,
}

impl NodeMap {
    /// Adds nodes.
    pub fn extend(&mut self, nodes: impl IntoIterator<Item = NewNode>) {
        self.nodes
            .extend(nodes.into_iter().map(|node| (node.id, node.bytes)));
    }

    /// The bytes of a node.
    pub fn bytes(&self, id: &NodeId) -> Option<&Arc<[u8]>> {
        self.nodes.get(id)
    }

    /// The nodes, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = NewNode> {
        self.nodes.iter().map(|(id, bytes)| NewNode {
            id: *id,
            bytes: Arc::clone(bytes),
        })
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the map has no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl NodeSource for NodeMap {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        let bytes = self.nodes.get(id).ok_or(ManifestError::Missing(*id))?;
        Node::decode(bytes).map(Arc::new)
    }
}

/// New nodes in front of a source with the older ones.
pub struct Layered<'a, S> {
    /// The new nodes.
    pub new: &'a NodeMap,
    /// The source of the older ones.
    pub old: &'a S,
}

impl<S: NodeSource> NodeSource for Layered<'_, S> {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        if self.new.bytes(id).is_some() {
            self.new.node(id)
        } else {
            self.old.node(id)
        }
    }
}
