//! Pack building: reads and hashes the files of a pack again, and finds similar blobs in the local
//! packs.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};

use pmx_core::code::Code;
use pmx_core::codec::Level;
use pmx_core::id::BlobId;
use pmx_sync::manifest::Row;
use pmx_sync::pack::PackKind;
use pmx_sync::pack::plan::PackPlan;
use pmx_sync::pack::wire::{Prefix, WirePack};
use pmx_sync::push::{DeltaBase, DeltaReference, Uploads};
use pmx_sync::scan::{Scan, Sources};

use super::workers::Scratch;
use crate::cache::LocalPacks;
use crate::error::Failure;

/// Least share of a pack that similar, locally available blobs must cover. Below it, the client
/// sends no prefix: the server would read the base for little gain.
const LEAST_SHARE: u64 = 16;

/// The sources that packs are built from.
pub(super) struct PackInputs<'a> {
    pub(super) scan: &'a Scan,
    pub(super) packs: &'a LocalPacks,
    pub(super) uploads: &'a Uploads,
    pub(super) behind: Option<DeltaReference>,
}

impl PackInputs<'_> {
    /// Builds the pack to be sent, and stores one without a prefix for the next publish.
    pub(super) fn pack(
        &self,
        plan: &PackPlan,
        scratch: &mut Scratch,
        level: Level,
    ) -> Result<WirePack, Failure> {
        // A pack that fails halfway leaves no data for the next one.
        let mut builder = std::mem::take(&mut scratch.builder);
        builder.clear();
        let mut sources = Sources::of(self.scan);
        for row in self.rows(plan) {
            let mut read = Ok(());
            let appended = builder.append(|raw| {
                read = read_blob(&mut sources, row, raw);
                read.is_ok()
            });
            read?;
            appended.map_err(|error| Failure::new(error.code(), error.to_string()))?;
        }
        let blobs = || self.rows(plan).map(|row| row.entry.blob);
        let prefix = self.prefix(plan, &mut scratch.prefix);
        let behind = prefix.and_then(|prefix| {
            let pack = builder.build_with_prefix(&prefix, &mut scratch.encoder, level);
            scratch.prefix = prefix.into_memory();
            pack
        });
        let pack = if behind.is_some() {
            self.packs.add_raw(&builder, &mut scratch.encoder, blobs());
            behind
        } else {
            let pack = builder.plain(&mut scratch.encoder, plan.kind.coding(level));
            if let Some(pack) = pack.as_ref().filter(|_| plan.kind == PackKind::Solid) {
                self.packs.add(pack, blobs());
            }
            pack
        };
        scratch.builder = builder;
        pack.ok_or_else(|| Failure::new(Code::PackMalformed, "a pack was planned without blobs"))
    }

    fn rows(&self, plan: &PackPlan) -> impl Iterator<Item = &Row> {
        let members = plan.members.iter();
        members.filter_map(|&at| self.uploads.rows.get(at))
    }

    /// The blobs that a pack's blobs resemble, if enough of them are available locally.
    fn prefix(&self, plan: &PackPlan, memory: &mut Vec<u8>) -> Option<Prefix> {
        let behind = self.behind.filter(|_| plan.kind == PackKind::Solid)?;
        let mut delta_base = BTreeSet::new();
        let mut resembling = 0;
        for &at in &plan.members {
            if let (Some(row), Some(Some(found))) =
                (self.uploads.rows.get(at), self.uploads.delta_bases.get(at))
                && self.packs.has(&found.blob)
            {
                resembling += row.entry.size;
                delta_base.insert(*found);
            }
        }
        if resembling * LEAST_SHARE < plan.raw.max(1) {
            return None;
        }
        let mut prefix = Prefix::within(std::mem::take(memory), behind.base);
        for DeltaBase { rank, blob, size } in delta_base {
            if prefix.raw_bytes() + size <= behind.raw_bytes_max {
                self.packs.with(&blob, |bytes| prefix.push(rank, bytes));
            }
        }
        Some(prefix)
    }
}

/// Reads a blob again, appends it to `out`, and hashes it. It requests one byte more than the
/// expected size, so that one call shows whether the file has grown.
fn read_blob(sources: &mut Sources<'_>, row: &Row, out: &mut Vec<u8>) -> Result<(), Failure> {
    let mut file = sources
        .open(&row.path)
        .map_err(|error| unreadable(row, &error))?;
    let start = out.len();
    let end = start + row.entry.size as usize;
    out.resize(end + 1, 0);
    let mut filled = start;
    while filled <= end {
        match file.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(row, &error)),
        }
        if filled == end {
            break;
        }
    }
    out.truncate(filled);
    if BlobId::of(&out[start..]) == row.entry.blob {
        Ok(())
    } else {
        Err(changed(row))
    }
}

pub(super) fn unreadable(row: &Row, error: &std::io::Error) -> Failure {
    // The read succeeded a moment ago.
    match error.kind() {
        ErrorKind::NotFound => changed(row),
        _ => Failure::new(
            Code::Unreadable,
            format!("can't read \"{}\": {error}", row.path),
        ),
    }
}

pub(super) fn changed(row: &Row) -> Failure {
    Failure::new(
        Code::ChangedDuringRead,
        format!("\"{}\" changed after it was scanned", row.path),
    )
}
