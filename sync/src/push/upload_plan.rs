//! Upload plan: the distinct blobs to upload, in path order, grouped into packs and parts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pmx_core::id::{BlobId, PackId, Root};
use pmx_core::limits::PACK_RAW_BYTES_MAX;

use super::delta_base::DeltaBase;
use crate::manifest::{Cursor, ManifestError, NodeSource, Row};
use crate::pack::plan::{BlobToUpload, UploadPlan};
use crate::wire::{BeginReply, Ranges};

/// Blobs to upload.
#[derive(Debug, Default)]
pub struct Uploads {
    /// One row for each distinct blob, in the order of the paths.
    pub rows: Vec<Row>,
    /// The packs and parts to send; members are indices into `rows`.
    pub plan: UploadPlan,
    /// Parts that the server already has, by blob.
    pub parts: BTreeMap<BlobId, Ranges>,
    /// Packs that the server already has.
    pub arrived: BTreeSet<PackId>,
    /// The base that packs may use as reference prefix.
    pub reference: Option<DeltaReference>,
    /// The delta base of each row; empty without a search.
    pub delta_bases: Vec<Option<DeltaBase>>,
}

/// The base deploy that packs refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaReference {
    /// A root that the server has.
    pub base: Root,
    /// The most raw bytes of its rows that one pack may refer to.
    pub raw_bytes_max: u64,
}

impl Uploads {
    /// The blobs that a reply names as missing.
    pub(super) fn missing(
        source: &impl NodeSource,
        root: Root,
        reply: &BeginReply,
    ) -> Result<Self, ManifestError> {
        let mut cursor = Cursor::new(source, root)?;
        let mut rows = Vec::new();
        for rank in reply.blobs.iter(u64::MAX) {
            cursor.seek_rank(rank)?;
            match cursor.next_row()? {
                Some(row) => rows.push(row),
                None => break,
            }
        }
        Ok(Self {
            parts: arrived(reply),
            ..Self::of(rows)
        })
    }

    fn of(rows: Vec<Row>) -> Self {
        Self::within(PACK_RAW_BYTES_MAX, rows)
    }

    /// Plans packs of at most about `raw_bytes`.
    pub(super) fn within(raw_bytes: u64, mut rows: Vec<Row>) -> Self {
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert(row.entry.blob));
        let wanted: Vec<BlobToUpload<'_>> = rows.iter().map(blob_to_upload).collect();
        let plan = UploadPlan::within(raw_bytes, &wanted);
        Self {
            rows,
            plan,
            ..Self::default()
        }
    }

    /// The blobs in packs, in the order of the packs.
    pub(super) fn in_packs(&self) -> impl Iterator<Item = BlobId> {
        let members = self.plan.packs.iter().flat_map(|pack| &pack.members);
        members.filter_map(|&at| Some(self.rows.get(at)?.entry.blob))
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of the blobs, uncompressed.
    pub fn raw_bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.entry.size).sum()
    }

    /// Whether a single pack holds everything.
    pub fn is_one_pack(&self) -> bool {
        self.plan.big.is_empty() && self.plan.packs.len() <= 1
    }
}

/// The parts that the server has, by blob.
pub(super) fn arrived(reply: &BeginReply) -> BTreeMap<BlobId, Ranges> {
    let parts = reply.parts.iter();
    parts.map(|part| (part.blob, part.have.clone())).collect()
}

fn blob_to_upload(row: &Row) -> BlobToUpload<'_> {
    BlobToUpload {
        blob: row.entry.blob,
        size: row.entry.size,
        media: &row.entry.media,
    }
}
