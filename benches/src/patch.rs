//! How many bytes of manifest a change costs: nodes read and bytes of patch for 1, 10, 100 and
//! 1,000 changes in 20,000 and 100,000 files.
//!
//! PLACE FOR THE MANIFEST MODULE: it is not there yet, so these rows say so. Once it is, they are
//! library calls (no process): build a manifest of `files` rows, change `changes` of them spread
//! evenly, diff the two through a store that counts the nodes it reads, and encode the patch.

use anyhow::Result;

use crate::bench::Bench;
use crate::table::Row;

/// Changes, and the most bytes a patch for them may take in 20,000 files.
const PATCHES: [(usize, &str); 4] = [
    (1, "141 B"),
    (10, "800 B"),
    (100, "7.5 KB"),
    (1000, "74 KB"),
];

const FILES: [usize; 2] = [20_000, 100_000];

pub(crate) fn rows(_: &Bench) -> Result<Vec<Row>> {
    let row = |files: usize, (changes, goal): (usize, &str)| {
        Row::skipped(
            format!("patch for {changes} changes in {files} files (goal {goal})"),
            "waits for the manifest module",
        )
    };
    let rows = FILES
        .iter()
        .flat_map(|files| PATCHES.map(|patch| row(*files, patch)));
    Ok(rows.collect())
}
