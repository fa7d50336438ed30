//! Recent nodes: a small cache of decoded nodes in front of a source.
//!
//! Walks follow path order, so consecutive paths share most of their nodes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use pmx_core::id::NodeId;

use super::error::ManifestError;
use super::node::Node;
use super::source::NodeSource;

/// Decoded nodes in the cache: two paths down a tree of the greatest depth, and some more.
const NODES_MAX: usize = 64;

/// The most recently used nodes.
#[derive(Default)]
pub(crate) struct RecentNodes(RefCell<VecDeque<(NodeId, Arc<Node>)>>);

impl RecentNodes {
    /// The node from the cache, or from the source.
    pub(crate) fn find_or(
        &self,
        id: &NodeId,
        read: impl FnOnce() -> Result<Arc<Node>, ManifestError>,
    ) -> Result<Arc<Node>, ManifestError> {
        let mut nodes = self.0.borrow_mut();
        let known = nodes.iter().rposition(|(known, _)| known == id);
        if let Some(found) = known.and_then(|at| nodes.remove(at)) {
            let node = Arc::clone(&found.1);
            nodes.push_back(found);
            return Ok(node);
        }
        drop(nodes);
        let node = read()?;
        let mut nodes = self.0.borrow_mut();
        if nodes.len() >= NODES_MAX {
            nodes.pop_front();
        }
        nodes.push_back((*id, Arc::clone(&node)));
        Ok(node)
    }
}

/// A source with a cache of recent nodes.
pub(crate) struct CachedSource<'a, S> {
    source: &'a S,
    nodes: RecentNodes,
}

impl<'a, S> CachedSource<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        let nodes = RecentNodes::default();
        Self { source, nodes }
    }
}

impl<S: NodeSource> NodeSource for CachedSource<'_, S> {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        self.nodes.find_or(id, || self.source.node(id))
    }
}
