//! Manifest nodes and patches.

use std::sync::OnceLock;

use pmx_core::id::{BlobId, NodeId, Root};
use pmx_sync::manifest::{NewNode, Node, NodeMap, decode_patch, edit};

use crate::seeds;

/// A decoded node has one encoding: the bytes that it came from.
pub(crate) fn node(bytes: &[u8]) {
    if let Ok(node) = Node::decode(bytes) {
        assert!(node.encode() == bytes, "a node is not canonical");
    }
}

/// A decoded patch can be applied, and the result is a manifest.
pub(crate) fn patch(bytes: &[u8]) {
    let (base, nodes) = BASE.get_or_init(base);
    let carried = [(BlobId::of(b"new"), 3)];
    let Ok(edits) = decode_patch(bytes, nodes, *base, &carried) else {
        return;
    };
    assert!(edits.is_sorted_by(|one, next| one.path < next.path));
    if let Ok(built) = edit(nodes, *base, &edits) {
        for node in built.nodes {
            assert!(NodeId::of(&node.bytes) == node.id, "a node has another id");
        }
    }
}

static BASE: OnceLock<(Root, NodeMap)> = OnceLock::new();

/// The manifest of 65 files to which the golden patch applies.
fn base() -> (Root, NodeMap) {
    let mut nodes = NodeMap::default();
    let bytes = seeds::exact("manifest/65-files/node/0");
    let id = NodeId::of(&bytes);
    nodes.extend([NewNode {
        id,
        bytes: bytes.into(),
    }]);
    (id, nodes)
}
