//! Initial upload: prefetches the files of a first publish into packs in memory. If the server does
//! not know the site, the client sends them without a second read.
//!
//! The client sends none of them before it knows the root: for a site that the server has, one
//! small request suffices. These packs are speculative. The scan that follows checks every file
//! again. The publish after it asks for missing blobs as usual.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pmx_core::id::BlobId;
use pmx_core::name::SpaceName;
use pmx_sync::pack::PackKind;
use pmx_sync::pack::plan::{BlobShape, PackPlan, UploadPlan};
use pmx_sync::pack::wire::PackBuilder;
use pmx_sync::scan::{ListedFile, Prefetch};

use super::http::{BodyProgress, Client};
use super::workers::{self, AdaptiveLevel, ScratchPool, lock};
use crate::args::Compression;
use crate::cache::LocalPacks;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::{Bar, Counting, Ui};

/// Raw bytes of files that stay in memory. The upload reads further files again.
const KEPT_RAW_BYTES: u64 = 32 * 1024 * 1024;

/// A pack that is read but not yet compressed.
struct PrefetchedPack<'a> {
    plan: &'a PackPlan,
    builder: PackBuilder,
    blobs: Vec<BlobId>,
}

/// Reads every file that fits a pack, several at once, and keeps the contents within the limit.
pub fn prefetch(ahead: &Prefetch, interrupt: &Interrupt) -> Result<Prefetched, Failure> {
    let plan = UploadPlan::of_pieces(ahead.files().map(|ListedFile { size, media, .. }| {
        // The publish sends blobs that need parts.
        Some(BlobShape { size, media })
    }));
    let (left, seen) = (AtomicU64::new(KEPT_RAW_BYTES), Mutex::new(BTreeSet::new()));
    let filled = Mutex::new(Vec::new());
    let indices: Vec<usize> = (0..plan.packs.len()).collect();
    workers::for_each(&indices, |&at| {
        interrupt.check()?;
        let pack = &plan.packs[at];
        let keeps = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(pack.raw)
        });
        let (builder, blobs) = fill(ahead, pack, &seen)?;
        if keeps.is_ok() && !builder.is_empty() {
            lock(&filled).push((at, builder, blobs));
        }
        Ok(())
    })?;
    let filled = filled.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Prefetched { plan, filled })
}

/// Adds a pack's files that did not change during the read, without those of another pack.
fn fill(
    ahead: &Prefetch,
    plan: &PackPlan,
    seen: &Mutex<BTreeSet<BlobId>>,
) -> Result<(PackBuilder, Vec<BlobId>), Failure> {
    let mut builder = PackBuilder::new();
    let mut sources = ahead.sources();
    let mut blobs = Vec::with_capacity(plan.members.len());
    for &at in &plan.members {
        let appended = builder.append(|raw| {
            let blob = ahead.read(at, &mut sources, raw);
            let blob = blob.filter(|blob| lock(seen).insert(*blob));
            blobs.extend(blob);
            blob.is_some()
        });
        appended.map_err(|error| Failure::new(error.code(), error.to_string()))?;
    }
    Ok((builder, blobs))
}

/// Prefetched packs: their indices in the plan, their bytes and their blobs.
pub struct Prefetched {
    plan: UploadPlan,
    filled: Vec<(usize, PackBuilder, Vec<BlobId>)>,
}

/// The upload of prefetched packs.
pub struct InitialUpload<'a> {
    /// The server.
    pub client: &'a Client,
    /// The space.
    pub space: &'a SpaceName,
    /// Where sent packs are stored for the next publish.
    pub packs: &'a LocalPacks,
    /// How hard to compress.
    pub compression: Compression,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Shows the progress.
    pub ui: &'a Ui,
}

impl InitialUpload<'_> {
    /// Sends the prefetched packs. Returns once they have arrived.
    pub fn run(&self, prefetched: Prefetched) -> Result<(), Failure> {
        let Prefetched { plan, filled } = prefetched;
        let raw = filled.iter().map(|(at, ..)| plan.packs[*at].raw).sum();
        let bar = self.ui.bar(Counting::Bytes, raw);
        let (scratch_pool, adaptive) = (ScratchPool::new(), AdaptiveLevel::new(self.compression));
        let filled = filled.into_iter().map(|(at, builder, blobs)| {
            let plan = &plan.packs[at];
            Mutex::new(Some(PrefetchedPack {
                plan,
                builder,
                blobs,
            }))
        });
        let filled: Vec<_> = filled.collect();
        workers::for_each(&filled, |filled| {
            self.interrupt.check()?;
            match lock(filled).take() {
                Some(filled) => self.pack(filled, &scratch_pool, &adaptive, &bar),
                None => Ok(()),
            }
        })
    }

    fn pack(
        &self,
        filled: PrefetchedPack<'_>,
        scratch_pool: &ScratchPool,
        adaptive: &AdaptiveLevel,
        bar: &Bar,
    ) -> Result<(), Failure> {
        let PrefetchedPack {
            plan,
            mut builder,
            blobs,
        } = filled;
        let pack = scratch_pool.with(|scratch| {
            let coding = plan.kind.coding(adaptive.level());
            builder.finish(&mut scratch.encoder, coding)
        });
        drop(builder);
        if let Some(pack) = pack.as_ref().filter(|_| plan.kind == PackKind::Solid) {
            self.packs.add(pack, blobs);
        }
        let share = BodyProgress::new(bar, plan.raw);
        if let Some(pack) = pack {
            let started = Instant::now();
            self.client
                .pack(self.space, pack.id(), pack.bytes(), &share)?;
            adaptive.note(pack.bytes().len(), started.elapsed());
        }
        share.finish();
        Ok(())
    }
}
