//! Manifest properties against the simplest possible model: a map from path to entry.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use pmx_core::id::{BlobId, NodeId, Root};
use proptest::prelude::*;

use super::*;
use crate::media::Media;
use crate::path::SitePath;

type Model = BTreeMap<SitePath, Entry>;

fn entry(content: u32) -> Entry {
    let media = [
        "text/html; charset=utf-8",
        "text/css; charset=utf-8",
        "image/png",
    ];
    Entry {
        blob: BlobId::of(&content.to_le_bytes()),
        size: u64::from(content) * 7,
        media: Media::parse(media[content as usize % 3]).unwrap(),
    }
}

fn path(number: u32) -> SitePath {
    SitePath::parse(&format!(
        "d{}/e{}/page-{number}.html",
        number % 7,
        number % 3
    ))
    .unwrap()
}

fn rows(model: &Model) -> Vec<Row> {
    model
        .iter()
        .map(|(path, entry)| Row {
            path: path.clone(),
            entry: entry.clone(),
        })
        .collect()
}

fn built(model: &Model) -> (Built, NodeMap) {
    let built = build(rows(model)).unwrap();
    let mut map = NodeMap::default();
    map.extend(built.nodes.clone());
    (built, map)
}

fn all_rows(source: &impl NodeSource, root: Root) -> Vec<Row> {
    let mut cursor = Cursor::new(source, root).unwrap();
    std::iter::from_fn(|| cursor.next_row().unwrap()).collect()
}

/// Counts the nodes that a walk reads.
struct Counted<'a> {
    inner: &'a NodeMap,
    reads: Cell<usize>,
}

impl<'a> Counted<'a> {
    fn new(inner: &'a NodeMap) -> Self {
        Self {
            inner,
            reads: Cell::new(0),
        }
    }
}

impl NodeSource for Counted<'_> {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        self.reads.set(self.reads.get() + 1);
        self.inner.node(id)
    }
}

/// A site of up to `files` paths, and a history of changes to it.
fn sites(files: u32) -> impl Strategy<Value = (Model, Model)> {
    let base = prop::collection::btree_map(0..files * 2, 0u32..50, 0..files as usize);
    let edits = prop::collection::vec((0..files * 2, prop::option::of(0u32..50)), 0..60);
    (base, edits).prop_map(|(base, edits)| {
        let before: Model = base.into_iter().map(|(p, c)| (path(p), entry(c))).collect();
        let mut after = before.clone();
        for (number, content) in edits {
            match content {
                Some(content) => after.insert(path(number), entry(content)),
                None => after.remove(&path(number)),
            };
        }
        (before, after)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn manifest_holds_its_rows((model, _) in sites(1500)) {
        let (built, map) = built(&model);
        prop_assert_eq!(all_rows(&map, built.root), rows(&model));
        prop_assert_eq!(built.totals.files, model.len() as u64);
        for (number, (path, entry)) in model.iter().enumerate() {
            if number % 37 == 0 {
                prop_assert_eq!(lookup(&map, built.root, path).unwrap(), Some(entry.clone()));
            }
        }
        let absent = SitePath::parse("no/such").unwrap();
        prop_assert_eq!(lookup(&map, built.root, &absent).unwrap(), None);
    }

    #[cfg(feature = "scan")]
    #[test]
    fn build_by_all_cores_equals_build_by_one((model, _) in sites(1500)) {
        prop_assert_eq!(build_parallel(rows(&model)).unwrap(), built(&model).0);
    }

    #[cfg(feature = "scan")]
    #[test]
    fn build_by_all_cores_refuses_disorder(
        (model, _) in sites(300),
        at in any::<prop::sample::Index>(),
    ) {
        let mut rows = rows(&model);
        if rows.len() < 2 {
            return Ok(());
        }
        let at = at.index(rows.len() - 1);
        rows.swap(at, at + 1);
        let refused = build_parallel(rows.clone());
        prop_assert!(matches!(refused, Err(ManifestError::Disordered(_))), "{refused:?}");
        rows[at + 1] = rows[at].clone();
        prop_assert!(build_parallel(rows).is_err());
    }

    #[test]
    fn diff_then_edit_or_patch_arrives_at_the_new_root((before, after) in sites(1500)) {
        let (old, old_map) = built(&before);
        let (new, new_map) = built(&after);
        let changes = diff(&old_map, old.root, &new_map, new.root).unwrap();
        let mut expected: Vec<SitePath> = before.keys().chain(after.keys())
            .filter(|p| before.get(*p) != after.get(*p)).cloned().collect();
        expected.sort();
        expected.dedup();
        prop_assert_eq!(changes.iter().map(|c| c.path.clone()).collect::<Vec<_>>(), expected);
        for change in &changes {
            prop_assert_eq!(change.before.as_ref(), before.get(&change.path));
            prop_assert_eq!(change.after.as_ref(), after.get(&change.path));
            prop_assert_eq!(change.rank, before.range(..change.path.clone()).count() as u64);
        }
        let edits: Vec<Edit> = changes.iter().map(Change::edit).collect();
        let patch = encode_patch(&changes);
        prop_assert_eq!(&decode_patch(&patch, &old_map, old.root, &[]).unwrap(), &edits);
        let (origins, carried) = origins(&before, &changes);
        let short = encode_patch_from(&changes, &origins);
        prop_assert_eq!(&decode_patch(&short, &old_map, old.root, &carried).unwrap(), &edits);
        if let Some(less) = carried.len().checked_sub(1) {
            prop_assert!(decode_patch(&short, &old_map, old.root, &carried[..less]).is_err());
        }
        let edited = edit(&old_map, old.root, &edits).unwrap();
        prop_assert_eq!(edited.root, new.root);
        prop_assert_eq!(edited.totals, new.totals);
        for node in &edited.nodes {
            let node_known = new_map.bytes(&node.id).is_some();
            prop_assert!(node_known, "a node was made that the manifest does not have");
        }
    }

    #[test]
    fn node_has_one_spelling(
        (model, _) in sites(300),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let (built, _) = built(&model);
        for node in &built.nodes {
            let read = Node::verify(&node.bytes, node.id).unwrap();
            prop_assert_eq!(&read.encode()[..], &node.bytes[..]);
            let mut bent = node.bytes.to_vec();
            let at = at.index(bent.len());
            bent[at] ^= flip;
            if let Ok(other) = Node::decode(&bent) {
                prop_assert_eq!(&other.encode()[..], &bent[..], "two spellings of one node");
            }
            for len in 0..node.bytes.len() {
                prop_assert!(Node::decode(&node.bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn decode_patch_never_panics(
        (model, _) in sites(200),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (built, map) = built(&model);
        let mut framed = vec![1u8, 0];
        framed.extend_from_slice(&bytes);
        let carried = [(BlobId::of(b"carried"), 7)];
        drop(decode_patch(&bytes, &map, built.root, &carried));
        drop(decode_patch(&framed, &map, built.root, &carried));
        drop(Node::decode(&bytes));
    }

    #[test]
    fn level_positions_are_checked((model, _) in sites(1500)) {
        let (built, map) = built(&model);
        let mut stack = vec![(built.root, LevelPosition::Rightmost)];
        while let Some((id, place)) = stack.pop() {
            let node = map.node(&id).unwrap();
            let Node::Interior { level, children } = &*node else { continue };
            for (at, child) in children.iter().enumerate() {
                let last = at + 1 == children.len();
                let mine = if last { place } else { LevelPosition::Inner };
                let before = at.checked_sub(1).map(|at| &children[at].last);
                let beneath = map.node(&child.id).unwrap();
                beneath.check_place(child, *level, before, mine).unwrap();
                let lie = Child { totals: child.totals.plus(Totals::of_file(0)), ..child.clone() };
                prop_assert!(beneath.check_place(&lie, *level, before, mine).is_err());
                stack.push((child.id, mine));
            }
        }
    }
}

/// The origins of the blobs of some changes. Blobs of the base are reused. Every other one of the
/// rest is uploaded, in a separate order.
fn origins(before: &Model, changes: &[Change]) -> (Origins, Vec<(BlobId, u64)>) {
    let mut origins = Origins::default();
    for (entry, rank) in before.values().zip(0..) {
        origins.reused.insert(entry.blob, rank);
    }
    let new = changes.iter().filter_map(|change| change.after.as_ref());
    let new: BTreeMap<BlobId, u64> = new.map(|entry| (entry.blob, entry.size)).collect();
    let not_reused = new
        .into_iter()
        .filter(|(blob, _)| !origins.reused.contains_key(blob));
    let carried: Vec<(BlobId, u64)> = not_reused.step_by(2).collect();
    origins.uploaded = carried.iter().map(|(blob, _)| *blob).zip(0..).collect();
    (origins, carried)
}

fn flat(files: u32) -> Model {
    (0..files)
        .map(|n| {
            (
                SitePath::parse(&format!("flat/page-{n:06}.html")).unwrap(),
                entry(n),
            )
        })
        .collect()
}

#[test]
fn edit_in_a_flat_folder_of_100_000_files_touches_few_nodes() {
    let before = flat(100_000);
    let mut after = before.clone();
    after.insert(SitePath::parse("flat/page-050000.html").unwrap(), entry(5));
    let (old, old_map) = built(&before);
    let (new, new_map) = built(&after);
    let (a, b) = (Counted::new(&old_map), Counted::new(&new_map));
    let changes = diff(&a, old.root, &b, new.root).unwrap();
    assert_eq!(changes.len(), 1);
    assert!(
        a.reads.get() + b.reads.get() <= 8,
        "{} + {}",
        a.reads.get(),
        b.reads.get()
    );

    let counted = Counted::new(&old_map);
    let patch = encode_patch(&changes);
    assert!(
        patch.len() <= 45,
        "{} bytes for one changed row",
        patch.len()
    );
    let edits = decode_patch(&patch, &counted, old.root, &[]).unwrap();
    let edited = edit(&counted, old.root, &edits).unwrap();
    assert_eq!(edited.root, new.root);
    assert!(
        counted.reads.get() <= 8,
        "{} nodes read",
        counted.reads.get()
    );
    assert!(edited.nodes.len() <= 4, "{} nodes made", edited.nodes.len());
}

/// Every page of a site changes, and the patch names none of their ids: the rest repeats the same
/// three bytes.
#[test]
fn patch_of_a_change_of_every_page_is_a_few_bytes_a_page() {
    let before = flat(20_000);
    let changed = |(path, number): (&SitePath, u32)| (path.clone(), entry(100_000 + 3 * number));
    let after: Model = before.keys().zip(0..).map(changed).collect();
    let ((old, old_map), (new, new_map)) = (built(&before), built(&after));
    let changes = diff(&old_map, old.root, &new_map, new.root).unwrap();
    let carried: Vec<(BlobId, u64)> = after.values().map(|e| (e.blob, e.size)).collect();
    let origins = Origins {
        uploaded: carried.iter().map(|(blob, _)| *blob).zip(0..).collect(),
        ..Origins::default()
    };
    let patch = encode_patch_from(&changes, &origins);
    assert!(patch.len() < 3 * 20_000 + 200, "{} bytes", patch.len());
    let frame = pmx_core::codec::Encoder::new().solid(&patch, pmx_core::codec::Level::WIRE);
    assert!(frame.len() < 1_000, "{} bytes", frame.len());
    let edits = decode_patch(&patch, &old_map, old.root, &carried).unwrap();
    assert_eq!(edit(&old_map, old.root, &edits).unwrap().root, new.root);
}

#[test]
fn folder_100_levels_deep_works() {
    let deep: Model = (0..100usize)
        .map(|n| {
            let folders = vec!["d"; n].join("/");
            let text = format!("{folders}/f").trim_start_matches('/').to_owned();
            (SitePath::parse(&text).unwrap(), entry(n as u32))
        })
        .collect();
    let (built, map) = built(&deep);
    assert_eq!(all_rows(&map, built.root), rows(&deep));
}

#[test]
fn files_that_are_folders_too_are_found() {
    for (paths, clash) in [
        (vec!["a", "a-b", "a/b"], true),
        (vec!["a/b", "a/b/c"], true),
        (vec!["a", "ab/c", "b"], false),
    ] {
        let paths: Vec<SitePath> = paths.iter().map(|p| SitePath::parse(p).unwrap()).collect();
        let model = paths.iter().map(|path| (path.clone(), entry(1))).collect();
        let (built, map) = built(&model);
        assert_eq!(
            check_clashes(&map, built.root, &paths).is_err(),
            clash,
            "{paths:?}"
        );
        let last = [paths[paths.len() - 1].clone()];
        assert_eq!(
            check_clashes(&map, built.root, &last).is_err(),
            clash,
            "{paths:?}"
        );
    }
}

#[test]
fn rows_out_of_order_are_refused() {
    let (a, b) = (path(1), path(2));
    let row = |path: &SitePath| Row {
        path: path.clone(),
        entry: entry(1),
    };
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    assert!(matches!(
        build([row(&high), row(&low)]),
        Err(ManifestError::Disordered(_))
    ));
    assert!(matches!(
        build([row(&low), row(&low)]),
        Err(ManifestError::Disordered(_))
    ));
}

#[test]
fn empty_site_is_one_empty_leaf() {
    let (built, map) = built(&Model::new());
    assert_eq!(built.nodes.len(), 1);
    assert_eq!(all_rows(&map, built.root), vec![]);
}

/// A commit checks every new path for clashes. Neighbours share nodes, and each node is decoded
/// once.
#[test]
fn check_clashes_decodes_few_nodes_for_many_new_paths() {
    let model: Model = (0..20_000).map(|n| (path(n), entry(n))).collect();
    let (built, nodes) = built(&model);
    let counted = Counted::new(&nodes);
    let new: Vec<&SitePath> = model.keys().step_by(2).collect();
    let count = new.len();
    check_clashes(&counted, built.root, new).unwrap();
    let reads = counted.reads.get();
    assert!(
        reads * 10 <= count,
        "{reads} nodes decoded for {count} paths"
    );
}
