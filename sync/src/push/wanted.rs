//! What has to be uploaded: distinct blobs, in path order, planned into packs and parts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pmx_core::id::{BlobId, PackId, Root};
use pmx_core::limits::PACK_RAW_BYTES_MAX;

use super::kin::Kin;
use crate::manifest::{Cursor, ManifestError, NodeSource, Row};
use crate::pack::plan::{Plan, Wanted};
use crate::wire::{BeginReply, Ranges};

/// Blobs to be uploaded.
#[derive(Debug, Default)]
pub struct Uploads {
    /// One row for each distinct blob, in the order of the paths.
    pub rows: Vec<Row>,
    /// Which of them travel together, and which in parts; members are places in `rows`.
    pub plan: Plan,
    /// Parts that need not be sent again, by blob.
    pub parts: BTreeMap<BlobId, Ranges>,
    /// Packs that need not be sent again.
    pub arrived: BTreeSet<PackId>,
    /// What packs may refer to, if they may.
    pub behind: Option<Behind>,
    /// For each row the one of the base that it resembles, if that is known.
    pub kin: Vec<Option<Kin>>,
}

/// What packs may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// The base, a root that the server has.
    pub base: Root,
    /// The most raw bytes of its rows that one pack may refer to.
    pub raw_bytes_max: u64,
}

impl Uploads {
    /// What the server says it lacks.
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
        let wanted: Vec<Wanted<'_>> = rows.iter().map(wanted).collect();
        let plan = Plan::within(raw_bytes, &wanted);
        Self {
            rows,
            plan,
            ..Self::default()
        }
    }

    /// The blobs that travel in packs, in the order of the packs.
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

fn wanted(row: &Row) -> Wanted<'_> {
    Wanted {
        blob: row.entry.blob,
        size: row.entry.size,
        media: &row.entry.media,
    }
}
