//! Forged manifest nodes of a client: the server refuses them with the reason, before it shows a
//! reader any of them.

use http::Method;
use pmx_core::codec::Encoder;
use pmx_core::id::NodeId;
use pmx_core::name::SpaceName;
use pmx_sync::manifest::{Child, Node};
use pmx_sync::path::SitePath;
use pmx_sync::wire::{BeginHead, Envelope, Section, SectionKind};

use crate::golden::fixtures::{file, of_level, rows};
use crate::golden::memory::{send, server};

/// The row of a node in its parent, by its last path.
fn row(node: &Node) -> Child {
    Child {
        last: node.last().unwrap().clone(),
        id: NodeId::of(&node.encode()),
        totals: node.totals(),
    }
}

fn leaf(paths: &[&str]) -> Node {
    let files: Vec<_> = paths.iter().map(|path| file(path, 1)).collect();
    Node::Leaf(rows(&files))
}

fn above(level: u8, nodes: &[&Node]) -> Node {
    let children = nodes.iter().map(|node| row(node)).collect();
    Node::Interior { level, children }
}

/// The server's answer to a publish of these nodes, the root first.
fn answer_to(nodes: &[&Node]) -> String {
    let mut bytes = Vec::new();
    for node in nodes {
        pmx_core::encode::write_bytes(&mut bytes, &node.encode());
    }
    let head = BeginHead {
        v: 1,
        space: SpaceName::parse("demo").unwrap(),
        alias: None,
        root: NodeId::of(&nodes[0].encode()),
        base: None,
        dry: false,
        commit: None,
    };
    let section = Section {
        kind: SectionKind::Nodes,
        bytes: bytes.into(),
    };
    let envelope = Envelope {
        head: serde_json::to_vec(&head).unwrap().into(),
        sections: vec![section],
    };
    let body = envelope.encode(&mut Encoder::new());
    send(&server(), Method::POST, "/api/publish/begin", body, 1)
}

#[test]
fn begin_refuses_paths_out_of_order_across_parents() {
    // Level 2: ends its leaf and the node above, so the next leaf has no sibling before it.
    let end = of_level(2)[0].as_str();
    assert!(SitePath::parse("zz").unwrap() > SitePath::parse(end).unwrap());
    for (first, expected) in [("za", "blobs"), ("a", "E_MANIFEST_MALFORMED")] {
        let (left, right) = (leaf(&[end]), leaf(&[first, "zz"]));
        let (over_left, over_right) = (above(1, &[&left]), above(1, &[&right]));
        let root = above(2, &[&over_left, &over_right]);
        let answer = answer_to(&[&root, &over_left, &left, &over_right, &right]);
        assert!(answer.contains(expected), "{first:?}: {answer}");
    }
}

#[test]
fn begin_refuses_nodes_that_end_elsewhere_than_at_boundaries() {
    let end = of_level(1)[0].as_str();
    let whole = leaf(&[end, "zz"]);
    assert!(
        answer_to(&[&whole]).contains("E_MANIFEST_MALFORMED"),
        "{end} ends a leaf"
    );
    let (left, right) = (leaf(&["a"]), leaf(&["b"]));
    let root = above(1, &[&left, &right]);
    let answer = answer_to(&[&root, &left, &right]);
    assert!(
        answer.contains("E_MANIFEST_MALFORMED"),
        "a leaf ends without reason: {answer}"
    );
    let alone = above(1, &[&left]);
    let answer = answer_to(&[&alone, &left]);
    assert!(
        answer.contains("E_MANIFEST_MALFORMED"),
        "a root with one child: {answer}"
    );
}
