//! Remote manifest nodes: those of a deploy that this machine did not publish. With them, the
//! client can name the changed paths.
//!
//! The walk starts at the root and requests unknown nodes. It never requests subtrees that both
//! sides share.

use std::sync::Arc;

use pmx_core::code::Code;
use pmx_core::id::{NodeId, Root};
use pmx_core::name::SpaceName;
use pmx_sync::limits::NODES_ASKED_MAX;
use pmx_sync::manifest::{ManifestError, NewNode, Node, NodeMap, NodeSource};
use pmx_sync::wire::DeployView;

use super::http::Client;
use crate::error::Failure;

/// Most nodes to request: the manifest of a million files.
const NODES_MAX: usize = 20_000;

/// Fetches the whole manifest of a deploy, without the nodes in `known`.
pub fn manifest(
    client: &Client,
    space: &SpaceName,
    known: &impl NodeSource,
    deploy: &DeployView,
) -> Result<NodeMap, Failure> {
    let nodes = fetch(client, space, known, deploy.root)?;
    nodes.ok_or_else(|| {
        let number = deploy.number;
        let message = format!("the manifest of deploy {number} is larger than pmx fetches");
        Failure::new(Code::Local, message)
    })
}

/// Fetches the nodes of a root that `known` lacks. `None` if they are too many.
pub fn fetch(
    client: &Client,
    space: &SpaceName,
    known: &impl NodeSource,
    root: Root,
) -> Result<Option<NodeMap>, Failure> {
    let mut fetched = NodeMap::default();
    let mut wanted = vec![root];
    while !wanted.is_empty() {
        if fetched.len() >= NODES_MAX {
            return Ok(None);
        }
        let asked: Vec<_> = wanted.iter().take(NODES_ASKED_MAX).copied().collect();
        let nodes = client.nodes(space, &asked)?;
        if nodes.is_empty() {
            let message = "the server has no nodes of the active deploy";
            return Err(Failure::new(Code::Protocol, message));
        }
        for (id, bytes) in asked.iter().zip(&nodes) {
            let node = verified(*id, bytes)?;
            fetched.extend([NewNode {
                id: *id,
                bytes: Arc::from(bytes.as_slice()),
            }]);
            wanted.extend(unknown(&node, known)?);
        }
        wanted.drain(..nodes.len().min(asked.len()));
    }
    Ok(Some(fetched))
}

/// Decodes a node, and verifies its hash against the requested id.
pub(super) fn verified(id: NodeId, bytes: &[u8]) -> Result<Node, Failure> {
    let actual = NodeId::of(bytes);
    if actual != id {
        let message = format!("the server sent manifest node {actual} for {id}");
        return Err(Failure::new(Code::HashMismatch, message));
    }
    Ok(Node::decode(bytes)?)
}

/// The children of a node that `known` lacks.
fn unknown(node: &Node, known: &impl NodeSource) -> Result<Vec<NodeId>, Failure> {
    let Node::Interior { children, .. } = node else {
        return Ok(Vec::new());
    };
    let mut unknown = Vec::new();
    for child in children {
        match known.node(&child.id) {
            Ok(_) => {}
            Err(ManifestError::Missing(_)) => unknown.push(child.id),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unknown)
}
