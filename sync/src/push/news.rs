//! What a new manifest has that its base has not: what travels, and where the rest comes from.

use std::collections::{HashMap, HashSet};

use pmx_core::id::{BlobId, Root};

use super::kin;
use super::wanted::Uploads;
use crate::manifest::{Change, ManifestError, Node, NodeSource, Origins, Row};
use crate::manifest::{diff, encode_patch_from};
use crate::wire::Summary;

/// What the changes amount to.
pub(super) struct News {
    /// How many there are of each kind.
    pub(super) summary: Summary,
    /// The blobs that have to travel for them.
    pub(super) uploads: Uploads,
    /// The patch, which finds each blob where it travels or lies.
    pub(super) patch: Vec<u8>,
}

impl News {
    /// Compares a root with its base, and plans packs of about `raw_bytes`. Blobs that the base has
    /// under another path do not travel.
    pub(super) fn of(
        source: &impl NodeSource,
        base: Root,
        root: Root,
        raw_bytes: u64,
    ) -> Result<Self, ManifestError> {
        let changes = diff(source, base, source, root)?;
        let held = held(source, base, &changes)?;
        let new = changes.iter().filter_map(|change| {
            let entry = change.after.clone()?;
            let path = change.path.clone();
            (!held.contains_key(&entry.blob)).then_some(Row { path, entry })
        });
        let mut uploads = Uploads::within(raw_bytes, new.collect());
        uploads.kin = kin::find(source, base, &changes, &uploads.rows)?;
        let carried = uploads.in_packs().zip(0..).collect();
        Ok(Self {
            summary: Summary::of(&changes, source.node(&root)?.totals().files),
            uploads,
            patch: encode_patch_from(&changes, &Origins { carried, held }),
        })
    }
}

/// Which of the new blobs the base has, and in which row.
fn held(
    source: &impl NodeSource,
    base: Root,
    changes: &[Change],
) -> Result<HashMap<BlobId, u64>, ManifestError> {
    let after = changes.iter().filter_map(|change| change.after.as_ref());
    let wanted: HashSet<BlobId> = after.map(|entry| entry.blob).collect();
    let mut held = HashMap::new();
    if changes.iter().any(|change| change.before.is_none()) {
        // A file that moved or was copied is new where it is, and may come from anywhere.
        collect(source, base, &wanted, &mut 0, &mut held)?;
    } else {
        for change in changes {
            if let Some(before) = &change.before
                && wanted.contains(&before.blob)
            {
                held.entry(before.blob).or_insert(change.rank);
            }
        }
    }
    Ok(held)
}

/// Passes every row of a manifest, whose depth is bounded.
fn collect(
    source: &impl NodeSource,
    id: Root,
    wanted: &HashSet<BlobId>,
    rank: &mut u64,
    held: &mut HashMap<BlobId, u64>,
) -> Result<(), ManifestError> {
    match &*source.node(&id)? {
        Node::Leaf(rows) => {
            for row in rows {
                if wanted.contains(&row.entry.blob) {
                    held.entry(row.entry.blob).or_insert(*rank);
                }
                *rank += 1;
            }
        }
        Node::Interior { children, .. } => {
            for child in children {
                collect(source, child.id, wanted, rank, held)?;
            }
        }
    }
    Ok(())
}
