//! Changeset of a publish: the patch against the base, and the blobs to upload for it.

use std::collections::{HashMap, HashSet};

use pmx_core::id::{BlobId, Root};

use super::delta_base;
use super::upload_plan::Uploads;
use crate::manifest::{Change, ManifestError, Node, NodeSource, Origins, Row};
use crate::manifest::{diff, encode_patch_from};
use crate::wire::Summary;

/// The difference between a new manifest and its base.
pub(super) struct Changeset {
    /// Counts of added, modified and removed files.
    pub(super) summary: Summary,
    /// New blobs that the base does not have.
    pub(super) uploads: Uploads,
    /// The encoded patch; it names each blob by its place in the packs or in the base.
    pub(super) patch: Vec<u8>,
}

impl Changeset {
    /// Compares a root with its base, and plans packs of about `raw_bytes`. Blobs that the base has
    /// under another path are not uploaded.
    pub(super) fn of(
        source: &impl NodeSource,
        base: Root,
        root: Root,
        raw_bytes: u64,
    ) -> Result<Self, ManifestError> {
        let changes = diff(source, base, source, root)?;
        let reused = reused_blobs(source, base, &changes)?;
        let new = changes.iter().filter_map(|change| {
            let entry = change.after.clone()?;
            let path = change.path.clone();
            (!reused.contains_key(&entry.blob)).then_some(Row { path, entry })
        });
        let mut uploads = Uploads::within(raw_bytes, new.collect());
        uploads.delta_bases = delta_base::find(source, base, &changes, &uploads.rows)?;
        let uploaded = uploads.in_packs().zip(0..).collect();
        Ok(Self {
            summary: Summary::of(&changes, source.node(&root)?.totals().files),
            uploads,
            patch: encode_patch_from(&changes, &Origins { uploaded, reused }),
        })
    }
}

/// The blobs of new rows that the base has, each with the rank of a row that holds it.
fn reused_blobs(
    source: &impl NodeSource,
    base: Root,
    changes: &[Change],
) -> Result<HashMap<BlobId, u64>, ManifestError> {
    let after = changes.iter().filter_map(|change| change.after.as_ref());
    let wanted: HashSet<BlobId> = after.map(|entry| entry.blob).collect();
    let mut reused = HashMap::new();
    if changes.iter().any(|change| change.before.is_none()) {
        // A moved or copied file is an added row, and its blob may be anywhere in the base.
        collect(source, base, &wanted, &mut 0, &mut reused)?;
    } else {
        for change in changes {
            if let Some(before) = &change.before
                && wanted.contains(&before.blob)
            {
                reused.entry(before.blob).or_insert(change.rank);
            }
        }
    }
    Ok(reused)
}

/// Visits every row of a manifest. The depth of a manifest is bounded.
fn collect(
    source: &impl NodeSource,
    id: Root,
    wanted: &HashSet<BlobId>,
    rank: &mut u64,
    reused: &mut HashMap<BlobId, u64>,
) -> Result<(), ManifestError> {
    match &*source.node(&id)? {
        Node::Leaf(rows) => {
            for row in rows {
                if wanted.contains(&row.entry.blob) {
                    reused.entry(row.entry.blob).or_insert(*rank);
                }
                *rank += 1;
            }
        }
        Node::Interior { children, .. } => {
            for child in children {
                collect(source, child.id, wanted, rank, reused)?;
            }
        }
    }
    Ok(())
}
