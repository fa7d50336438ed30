//! Agreement with the reference implementation: nodes, edits, diffs and patches of the fast code.

use std::collections::{BTreeMap, BTreeSet};

use pmx_core::id::Root;
use pmx_sync::manifest::{Change, Edit, NodeMap, build, decode_patch, diff, edit, encode_patch};
use pmx_sync::path::SitePath;
use proptest::prelude::*;

use super::fixtures::{entry, file, nodes, of_level, rows};
use super::reference::{self, File};

/// Content of a site by path.
type Site = BTreeMap<String, u32>;

fn files(site: &Site) -> Vec<File> {
    site.iter()
        .map(|(path, content)| file(path, *content))
        .collect()
}

/// Paths that share long prefixes with their neighbours, some of them not ASCII.
fn any_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        4 => "[ab]{1,3}",
        2 => "page-[0-9]{1,2}\\.html",
        1 => "(é|e\u{301}|日本|🙂|ß|x{200}| |%2F){1,2}",
    ];
    prop_oneof![
        20 => prop::collection::vec(segment.clone(), 1..5),
        1 => prop::collection::vec("[ab]", 100..=128),
    ]
    .prop_map(|segments| segments.join("/"))
    .prop_filter("site paths have at most 1,024 bytes", |path| {
        SitePath::parse(path).is_ok()
    })
}

/// A random path, or one of a run without boundaries.
fn some_path() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any_path(),
        1 => (0u8..3, any::<prop::sample::Index>())
            .prop_map(|(level, at)| at.get(of_level(level)).clone()),
    ]
}

/// A contiguous part of a run without boundaries.
fn span() -> impl Strategy<Value = &'static [String]> {
    (0u8..3, any::<prop::sample::Index>(), 0usize..1_300).prop_map(|(level, at, len)| {
        let run = of_level(level);
        let start = at.index(run.len());
        &run[start..(start + len).min(run.len())]
    })
}

/// A site with runs longer than a node can be, and the same site after edits.
fn history() -> impl Strategy<Value = (Site, Site)> {
    let base = (
        prop::collection::btree_map(any_path(), 0u32..40, 0..300),
        prop::collection::vec(span(), 0..3),
    );
    let removed = prop::option::of(span());
    let added = prop::option::of((span(), 0u32..40));
    let edits = prop::collection::vec((some_path(), prop::option::of(0u32..40)), 0..40);
    let touched = prop::collection::vec(
        (any::<prop::sample::Index>(), prop::option::of(0u32..40)),
        0..10,
    );
    (base, removed, added, edits, touched).prop_map(
        |((mut before, spans), removed, added, edits, touched)| {
            before.extend(spans.into_iter().flatten().cloned().zip(0..));
            let mut after = before.clone();
            for path in removed.into_iter().flatten() {
                after.remove(path);
            }
            if let Some((span, content)) = added {
                after.extend(span.iter().map(|path| (path.clone(), content)));
            }
            let known: Vec<String> = before.keys().cloned().collect();
            let touched = touched
                .into_iter()
                .filter(|_| !known.is_empty())
                .map(|(at, content)| (at.get(&known).clone(), content))
                .collect::<Vec<_>>();
            for (path, content) in edits.into_iter().chain(touched) {
                match content {
                    Some(content) => after.insert(path, content),
                    None => after.remove(&path),
                };
            }
            (before, after)
        },
    )
}

fn built(files: &[File]) -> (Root, NodeMap) {
    let built = build(rows(files)).unwrap();
    let mut map = NodeMap::default();
    map.extend(built.nodes);
    (built.root, map)
}

/// Builds the manifest by both implementations, compares them, and returns that of the fast code.
fn agreed(files: &[File]) -> (Root, NodeMap) {
    let (root, map) = built(files);
    let mut expected = reference::build(files);
    assert_eq!(
        Some(root.as_bytes()),
        expected.last().map(|node| &node.id),
        "the roots differ"
    );
    expected.sort();
    assert!(nodes(&map) == expected, "the nodes differ");
    (root, map)
}

fn difference(
    change: &Change,
) -> (
    Option<pmx_sync::manifest::Entry>,
    Option<pmx_sync::manifest::Entry>,
) {
    (change.before.clone(), change.after.clone())
}

/// Compares diff, patch and edit between two sites, in both implementations.
fn check_history(before: &[File], after: &[File]) {
    let (from, old) = agreed(before);
    let (to, new) = agreed(after);

    let changes = diff(&old, from, &new, to).unwrap();
    let expected = reference::diff(before, after);
    let expected: Vec<_> = expected
        .iter()
        .map(|(old, new)| (old.map(entry), new.map(entry)))
        .collect();
    assert_eq!(changes.iter().map(difference).collect::<Vec<_>>(), expected);

    let patch = encode_patch(&changes);
    assert!(
        patch == reference::encode_patch(before, after),
        "the patches differ"
    );
    assert!(
        reference::apply_patch(before, &patch) == after,
        "the patch leads elsewhere"
    );
    let edits: Vec<Edit> = changes.iter().map(Change::edit).collect();
    assert_eq!(decode_patch(&patch, &old, from, &[]).unwrap(), edits);

    let edited = edit(&old, from, &edits).unwrap();
    assert_eq!(edited.root, to, "an edit arrives elsewhere than a build");
    let made: BTreeSet<_> = edited.nodes.iter().map(|node| node.id).collect();
    for node in &edited.nodes {
        let known = new
            .bytes(&node.id)
            .expect("an edit made a node that a build does not");
        assert_eq!(known, &node.bytes);
    }
    for node in new.iter() {
        let is_there = made.contains(&node.id) || old.bytes(&node.id).is_some();
        assert!(
            is_there,
            "neither the edit nor the base has node {}",
            node.id
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn build_diff_patch_and_edit_agree_with_reference_on_any_history((before, after) in history()) {
        check_history(&files(&before), &files(&after));
    }
}

/// The site of the first `count` paths of a run.
fn run(level: u8, count: usize) -> Vec<File> {
    let paths = of_level(level)[..count].iter();
    paths.map(|path| file(path, 7)).collect()
}

#[test]
fn node_cap_ends_nodes_at_every_level_around_its_size() {
    for level in 0..3 {
        for count in [511, 512, 513, 520] {
            let (_, map) = agreed(&run(level, count));
            // Version, level, and 512 as a varint.
            let full = nodes(&map)
                .iter()
                .filter(|node| node.bytes.starts_with(&[1, level, 0x80, 0x04]))
                .count();
            assert_eq!(
                full,
                usize::from(count >= 512),
                "{count} rows at level {level}"
            );
        }
    }
    agreed(&run(0, 2_000));
    agreed(&run(1, 1_200));
}

#[test]
fn edit_in_run_without_boundaries_moves_every_later_capped_node() {
    for (level, count) in [(0, 2_000), (1, 1_200), (2, 530)] {
        let whole = run(level, count);
        for at in [0, 1, 511, 512, count - 1] {
            let mut without = whole.clone();
            let gone = without.remove(at);
            check_history(&whole, &without);
            check_history(&without, &whole);
            let mut changed = whole.clone();
            changed[at] = file(&gone.path, 8);
            check_history(&whole, &changed);
        }
    }
}

#[test]
fn diff_to_and_from_empty_site_agrees_with_reference() {
    let nothing = Vec::new();
    let something = run(0, 600);
    check_history(&nothing, &nothing);
    check_history(&nothing, &something);
    check_history(&something, &nothing);
    // The only path ends every level, and its leaf is the root all the same.
    check_history(&something, &run(2, 1));
}
