//! Layout of a copy: the new object, whole but for the bytes that are copied into it.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId, ObjectId};
use pmx_core::location::Extent;
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;

use super::super::super::blob_index::StoredBlob;
use super::super::super::index_object::{append, append_footer, index_node};
use super::super::super::ledger::Ledger;
use super::super::references::{References, is_table};
use super::plan::Plan;
use crate::pack::stored::{Toc, TocEntry, append_toc, seal};

/// A new object, and what its rows will say.
pub(super) struct Layout {
    pub(super) object: ObjectId,
    bytes: Vec<u8>,
    /// Bytes of the pack at its start.
    pack: usize,
    /// Where the copied blobs are in it.
    pub(super) blobs: BTreeMap<BlobId, StoredBlob>,
    /// The nodes, where their index nodes are in it, and what those refer to.
    pub(super) nodes: Vec<(NodeId, Extent, References)>,
}

impl Layout {
    /// Lays out the object `id` for a plan.
    pub(super) fn of<S: Sql>(
        plan: &Plan,
        ledger: &Ledger<'_, S>,
        id: ObjectId,
    ) -> Result<Self, Problem> {
        let mut layout = Self {
            object: id,
            bytes: Vec::new(),
            pack: 0,
            blobs: BTreeMap::new(),
            nodes: Vec::with_capacity(plan.nodes.len()),
        };
        layout.add_frames(plan);
        layout.add_blobs(plan, true);
        layout.add_nodes(plan, ledger)?;
        let start = layout.pack as u64;
        append_footer(&mut layout.bytes, start);
        Ok(layout)
    }

    /// Bytes of the object.
    pub(super) const fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn add_frames(&mut self, plan: &Plan) {
        self.add_blobs(plan, false);
        let entries = plan
            .copied
            .iter()
            .filter(|(_, held)| !is_table(&held.location));
        let mut offset = 0;
        let entries: Vec<_> = entries
            .map(|(blob, held)| {
                let stored = held.location.extent.len;
                offset += stored;
                TocEntry {
                    blob: *blob,
                    offset: offset - stored,
                    stored,
                    raw: held.raw,
                    codec: held.location.codec,
                }
            })
            .collect();
        if !entries.is_empty() {
            append_toc(&mut self.bytes, &Toc::of(entries));
            self.pack = self.bytes.len();
        }
    }

    /// Makes room for frames, or for tables of parts.
    fn add_blobs(&mut self, plan: &Plan, tables: bool) {
        let blobs = plan.copied.iter();
        for (blob, held) in blobs.filter(|(_, held)| is_table(&held.location) == tables) {
            let mut held = *held;
            let at = &mut held.location.extent;
            (at.object, at.offset) = (self.object, self.bytes.len() as u64);
            self.bytes.resize(self.bytes.len() + at.len as usize, 0);
            self.blobs.insert(*blob, held);
        }
    }

    fn add_nodes<S: Sql>(&mut self, plan: &Plan, ledger: &Ledger<'_, S>) -> Result<(), Problem> {
        let mut index_nodes = BTreeMap::new();
        for live in &plan.nodes {
            let place = |blob: &BlobId| {
                let held = self.blobs.get(blob).or_else(|| plan.located.get(blob));
                held.map(|held| held.location).ok_or_else(|| {
                    let detail = format!("copying {}: blob {blob} has no place", plan.object);
                    Problem::new(Code::Corrupt, detail)
                })
            };
            let index_node = index_node(ledger, &index_nodes, &live.node, place)?;
            let extent = append(&mut self.bytes, self.object, &index_node.encode());
            index_nodes.insert(live.id, extent);
            let references = References::of(&index_node, &extent);
            self.nodes.push((live.id, extent, references));
        }
        Ok(())
    }

    /// The object with the bytes that were read of the old one; `None` if they are too few.
    pub(super) fn filled(&mut self, plan: &Plan, read: &[u8]) -> Option<Bytes> {
        let start = plan.range().start;
        for (blob, old) in &plan.copied {
            let (from, to) = (&old.location.extent, &self.blobs.get(blob)?.location.extent);
            let from = read.get((from.offset - start) as usize..)?;
            let (offset, len) = (to.offset as usize, to.len as usize);
            let room = self.bytes.get_mut(offset..)?.get_mut(..len)?;
            room.copy_from_slice(from.get(..len)?);
        }
        if self.pack > 0 {
            seal(self.bytes.get_mut(..self.pack)?);
        }
        Some(std::mem::take(&mut self.bytes).into())
    }
}
