//! Fixture files for manifests, of the reference implementation and of the fast code.

use std::sync::OnceLock;

use pmx_core::id::BlobId;
use pmx_sync::manifest::{Entry, NodeMap, Row};
use pmx_sync::media::Media;
use pmx_sync::path::SitePath;

use super::reference::{self, File, MadeNode};

const MEDIA: [&str; 5] = [
    "text/html; charset=utf-8",
    "text/css; charset=utf-8",
    "image/png",
    "application/octet-stream",
    "a/b",
];

/// Sizes on both sides of each growth of a varint, and the largest one.
const SIZES: [u64; 8] = [0, 1, 127, 128, 16_383, 16_384, 1 << 21, 1 << 34];

/// A file whose id, size and media type all follow from `content`.
pub(crate) fn file(path: &str, content: u32) -> File {
    let bytes = content.to_le_bytes();
    File {
        path: path.to_owned(),
        id: *blake3::hash(&bytes).as_bytes(),
        size: SIZES[content as usize % SIZES.len()],
        media: MEDIA[content as usize % MEDIA.len()].to_owned(),
    }
}

pub(crate) fn entry(file: &File) -> Entry {
    Entry {
        blob: BlobId::from_bytes(file.id),
        size: file.size,
        media: Media::parse(&file.media).unwrap(),
    }
}

pub(crate) fn rows(files: &[File]) -> Vec<Row> {
    let row = |file: &File| Row {
        path: SitePath::parse(&file.path).unwrap(),
        entry: entry(file),
    };
    files.iter().map(row).collect()
}

/// The nodes that the fast code built of these files, ordered by id.
pub(crate) fn nodes(map: &NodeMap) -> Vec<MadeNode> {
    let node = |node: pmx_sync::manifest::NewNode| MadeNode {
        id: *node.id.as_bytes(),
        bytes: node.bytes.to_vec(),
    };
    map.iter().map(node).collect()
}

/// Paths of one level each, found by search. A site of only such paths has no boundary at one level
/// of its manifest, where only the cap ends nodes.
///
/// With level 0 the leaves are full. With level 1 each leaf has one row, and the nodes above are
/// full. With level 2 those have one row, and the ones above them are full.
pub(crate) fn of_level(level: u8) -> &'static [String] {
    static PATHS: [OnceLock<Vec<String>>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    const COUNTS: [usize; 3] = [2_000, 1_200, 530];
    PATHS[usize::from(level)].get_or_init(|| {
        let candidates = (0u32..).map(|number| format!("run-{level}/{number:07}"));
        candidates
            .filter(|path| reference::level_of(path) == level)
            .take(COUNTS[usize::from(level)])
            .collect()
    })
}
