//! Manifest patch workload: bytes of patch, and nodes read to find the changes. There are 1, 10,
//! 100 and 1,000 changed files in sites of 20,000 and 100,000.
//!
//! The workload calls the library, so its numbers are exact and the same on every machine. The
//! changed files are spread evenly over the site. That is the worst case for a tree: no two share a
//! leaf while there are enough leaves.

use std::cell::Cell;
use std::sync::Arc;

use anyhow::Result;
use pmx_core::id::{BlobId, NodeId, Root};
use pmx_sync::manifest::{
    self, Change, Edit, Entry, Layered, ManifestError, Node, NodeMap, NodeSource, Row as FileRow,
};
use pmx_sync::media::Media;
use pmx_sync::path::SitePath;

use crate::bench::Bench;
use crate::round::{Contender, Measure, Sample, interleave};
use crate::table::{Row, Unit};

const FILES: [usize; 2] = [20_000, 100_000];

/// Numbers of changes, and the most bytes of a patch for them.
const PATCHES: [(usize, f64); 4] = [(1, 141.0), (10, 800.0), (100, 7500.0), (1000, 74e3)];

/// Files in each folder of the site.
const FOLDER: usize = 100;

pub(crate) fn rows(_: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for files in FILES {
        let site = Site::of(files)?;
        for (changes, patch_max) in PATCHES {
            let noun = if changes == 1 { "change" } else { "changes" };
            let what = format!("{changes} {noun} in {files} files");
            let [cost] = interleave(1, [Contender::new("patch", |_| site.cost(changes))]);
            let patch = (Measure::Fact("patch"), Unit::Bytes);
            let nodes = (Measure::Fact("nodes"), Unit::Count);
            rows.push(Row::limit(
                format!("patch for {what}"),
                &cost,
                patch,
                Some(patch_max),
            ));
            rows.push(Row::limit(
                format!("nodes read for {what}"),
                &cost,
                nodes,
                None,
            ));
        }
    }
    Ok(rows)
}

/// A manifest and all its nodes.
struct Site {
    paths: Vec<SitePath>,
    root: Root,
    nodes: NodeMap,
}

impl Site {
    fn of(files: usize) -> Result<Self> {
        let paths = (0..files).map(|at| {
            let text = format!(
                "docs/folder-{:04}/page-{:02}.html",
                at / FOLDER,
                at % FOLDER
            );
            SitePath::parse(&text)
        });
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        let entry = entry("first")?;
        let rows = paths.iter().map(|path| FileRow {
            path: path.clone(),
            entry: entry(path),
        });
        let built = manifest::build(rows)?;
        let mut nodes = NodeMap::default();
        nodes.extend(built.nodes);
        Ok(Self {
            paths,
            root: built.root,
            nodes,
        })
    }

    /// Changes so many files, finds the changes again and encodes them.
    fn cost(&self, changes: usize) -> Result<Sample> {
        let entry = entry("second")?;
        let changed = (0..changes).map(|at| {
            let path = &self.paths[(2 * at + 1) * self.paths.len() / (2 * changes)];
            Edit {
                path: path.clone(),
                entry: Some(entry(path)),
            }
        });
        let changed: Vec<Edit> = changed.collect();
        let built = manifest::edit(&self.nodes, self.root, &changed)?;
        let mut new = NodeMap::default();
        new.extend(built.nodes);
        let layered = Layered {
            new: &new,
            old: &self.nodes,
        };
        let (old, new) = (Counting::of(&self.nodes), Counting::of(&layered));
        let found = manifest::diff(&old, self.root, &new, built.root)?;
        anyhow::ensure!(
            found.iter().map(Change::edit).eq(changed),
            "the changes found are not the changes made"
        );
        let patch = manifest::encode_patch(&found);
        Ok(Sample::default()
            .with("patch", patch.len() as f64)
            .with("nodes", (old.read.get() + new.read.get()) as f64))
    }
}

/// Entry of a page in a version of the site: only its media type repeats.
fn entry(version: &str) -> Result<impl Fn(&SitePath) -> Entry> {
    let media = Media::parse("text/html; charset=utf-8")?;
    Ok(move |path: &SitePath| {
        let hash = blake3::hash(format!("{version} {}", path.as_str()).as_bytes());
        Entry {
            blob: BlobId::from_bytes(*hash.as_bytes()),
            size: 4096 + u64::from(hash.as_bytes()[0]) * 64,
            media: media.clone(),
        }
    })
}

/// Counts the nodes read from a source.
struct Counting<'a, S> {
    nodes: &'a S,
    read: Cell<usize>,
}

impl<'a, S> Counting<'a, S> {
    fn of(nodes: &'a S) -> Self {
        Self {
            nodes,
            read: Cell::new(0),
        }
    }
}

impl<S: NodeSource> NodeSource for Counting<'_, S> {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        self.read.set(self.read.get() + 1);
        self.nodes.node(id)
    }
}
