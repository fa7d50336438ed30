//! Manifest outline: every node of a manifest in preorder.

use pmx_core::id::Root;

use crate::manifest::{ManifestError, NewNode, Node, NodeSource};

/// Collects the nodes beneath `root`, in preorder.
pub(super) fn nodes(source: &impl NodeSource, root: Root) -> Result<Vec<NewNode>, ManifestError> {
    let mut nodes = Vec::new();
    let mut rest = vec![root];
    while let Some(id) = rest.pop() {
        let node = source.node(&id)?;
        if let Node::Interior { children, .. } = &*node {
            rest.extend(children.iter().rev().map(|child| child.id));
        }
        nodes.push(NewNode {
            id,
            bytes: node.encode().into(),
        });
    }
    Ok(nodes)
}
