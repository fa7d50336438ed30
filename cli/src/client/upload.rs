//! Upload of missing packs and parts, several at once, within a bounded memory.
//!
//! The client reads and hashes the files again here. It sends only content that matches the
//! manifest.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pmx_core::code::CodeKind;
use pmx_core::codec::Level;
use pmx_core::id::{BlobId, PackId};
use pmx_core::name::SpaceName;
use pmx_sync::manifest::Row;
use pmx_sync::pack::part::{BlobParts, ChainingValue, Part, WirePart};
use pmx_sync::pack::plan::PackPlan;
use pmx_sync::pack::wire::WirePack;
use pmx_sync::pack::{PackCoding, PackKind};
use pmx_sync::push::{DeltaReference, Uploads};
use pmx_sync::scan::{Scan, Sources};
use pmx_sync::wire::PartHead;

use super::build::{PackInputs, changed, unreadable};
use super::chunking::{ChunkWindow, ChunkedBase};
use super::http::{BodyProgress, Client};
use super::workers::{self, AdaptiveLevel, Scratch, ScratchPool, lock};
use crate::args::Compression;
use crate::cache::{Chunk, LocalPacks};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::Bar;

/// The sources and the destination of blobs.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) space: &'a SpaceName,
    pub(super) scan: &'a Scan,
    pub(super) packs: &'a LocalPacks,
    pub(super) compression: Compression,
    pub(super) interrupt: &'a Interrupt,
    pub(super) bar: &'a Bar,
}

/// One body to be sent.
enum Job<'a> {
    Pack {
        number: usize,
        plan: &'a PackPlan,
    },
    Part {
        row: &'a Row,
        part: Part,
        fate: Fate,
    },
}

/// Fate of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is sent.
    Sent,
    /// It has arrived earlier; the client needs only its hash.
    Hashed,
}

/// State that the threads of an upload share.
struct Work<'a> {
    uploads: &'a Uploads,
    scratch_pool: ScratchPool,
    adaptive: AdaptiveLevel,
    values: Values,
    /// The chunks of the parts, stored for the next publish.
    pieces: Mutex<BTreeMap<(BlobId, u32), Vec<Chunk>>>,
    /// The signatures of blobs that serve as bases of big ones.
    old: BTreeMap<BlobId, ChunkedBase>,
    /// The arrived packs, by their numbers in the plan.
    sent: Mutex<BTreeMap<usize, PackId>>,
    /// Whether the server lacked the reference of a pack.
    is_refused: AtomicBool,
}

type Values = Mutex<BTreeMap<(BlobId, u32), ChainingValue>>;

impl Upload<'_> {
    /// Sends all missing blobs. Returns once they have arrived, with the ids of the packs in the
    /// order of the plan.
    pub(super) fn run(&self, uploads: &Uploads) -> Result<Vec<PackId>, Failure> {
        let jobs = jobs(uploads)?;
        let work = Work {
            uploads,
            scratch_pool: ScratchPool::new(),
            adaptive: AdaptiveLevel::new(self.compression),
            values: Values::default(),
            pieces: Mutex::default(),
            old: self.old(uploads),
            sent: Mutex::default(),
            is_refused: AtomicBool::new(false),
        };
        workers::for_each(&jobs, |job| self.job(job, &work))?;
        check_big(uploads, &lock(&work.values))?;
        let mut signatures: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for ((blob, _), pieces) in std::mem::take(&mut *lock(&work.pieces)) {
            signatures.entry(blob).or_default().extend(pieces);
        }
        self.packs.signatures().add(&signatures);
        let sent = work.sent.into_inner();
        let sent = sent.unwrap_or_else(PoisonError::into_inner);
        Ok(sent.into_values().collect())
    }

    /// Builds the only pack of a small publish, which travels in the publish request.
    pub(super) fn small_pack(&self, uploads: &Uploads) -> Result<Option<WirePack>, Failure> {
        let Some(plan) = uploads.plan.packs.first() else {
            return Ok(None);
        };
        let level = AdaptiveLevel::new(self.compression).level();
        let build = PackInputs {
            scan: self.scan,
            packs: self.packs,
            uploads,
            behind: uploads.reference,
        };
        Ok(Some(build.pack(plan, &mut Scratch::default(), level)?))
    }

    /// Builds and sends a pack, unless the server has it. If the server lacks the pack's reference,
    /// builds it again without one.
    fn pack(&self, plan: &PackPlan, work: &Work<'_>) -> Result<PackId, Failure> {
        let build = |behind: Option<DeltaReference>| {
            let level = match behind {
                Some(_) => work.adaptive.level_behind(),
                None => work.adaptive.level(),
            };
            let build = PackInputs {
                scan: self.scan,
                packs: self.packs,
                uploads: work.uploads,
                behind,
            };
            work.scratch_pool
                .with(|scratch| build.pack(plan, scratch, level))
        };
        let is_refused = work.is_refused.load(Ordering::Relaxed);
        let behind = work.uploads.reference.filter(|_| !is_refused);
        let pack = build(behind)?;
        let share = BodyProgress::new(self.bar, plan.raw);
        let sent = match self.send(&pack, &share, work) {
            Err(failure) if behind.is_some() && is_of_reference(&failure) => {
                work.is_refused.store(true, Ordering::Relaxed);
                let pack = build(None)?;
                self.send(&pack, &share, work)
            }
            sent => sent,
        };
        if sent.is_ok() {
            share.finish();
        }
        sent
    }

    fn send(
        &self,
        pack: &WirePack,
        share: &BodyProgress<'_>,
        work: &Work<'_>,
    ) -> Result<PackId, Failure> {
        let id = pack.id();
        if !work.uploads.arrived.contains(&id) {
            let started = Instant::now();
            self.client.pack(self.space, id, pack.bytes(), share)?;
            work.adaptive.note(pack.bytes().len(), started.elapsed());
        }
        Ok(id)
    }

    fn job(&self, job: &Job<'_>, work: &Work<'_>) -> Result<(), Failure> {
        self.interrupt.check()?;
        match job {
            Job::Pack { number, plan } => {
                let id = self.pack(plan, work)?;
                lock(&work.sent).insert(*number, id);
            }
            Job::Part { row, part, fate } => {
                let value = self.part(row, *part, *fate, work)?;
                lock(&work.values).insert((row.entry.blob, part.number()), value);
            }
        }
        Ok(())
    }

    /// Sends a part, unless the server has it, and records its chunks.
    fn part(
        &self,
        row: &Row,
        part: Part,
        fate: Fate,
        work: &Work<'_>,
    ) -> Result<ChainingValue, Failure> {
        let blob = row.entry.blob;
        let window = read_window(self.scan, row, part)?;
        let mut copies = None;
        if self.packs.signatures().is_kept() {
            let pieces = work.scratch_pool.with(|_| window.chunks());
            let old = work.old.get(&blob);
            copies = old.and_then(|old| old.copies(part, &pieces));
            lock(&work.pieces).insert((blob, part.number()), window.own(&pieces));
        }
        let share = BodyProgress::new(self.bar, part.len());
        if fate == Fate::Hashed {
            share.finish();
            return ChainingValue::of(part, window.part()).map_err(|_| changed(row));
        }
        let coding = coding(row, work.adaptive.level());
        if let Some(copies) = copies {
            let wire = work.scratch_pool.with(|scratch| {
                WirePart::build_with_delta(&copies, window.part(), &mut scratch.encoder, coding)
            });
            match self.send_part(row, part, &wire.map_err(|_| changed(row))?, &share) {
                Err(failure) if is_of_reference(&failure) => {}
                sent => return sent,
            }
        }
        let wire = work
            .scratch_pool
            .with(|scratch| WirePart::of(part, window.part(), &mut scratch.encoder, coding));
        drop(window);
        self.send_part(row, part, &wire.map_err(|_| changed(row))?, &share)
    }

    fn send_part(
        &self,
        row: &Row,
        part: Part,
        wire: &WirePart,
        share: &BodyProgress<'_>,
    ) -> Result<ChainingValue, Failure> {
        let head = PartHead {
            space: self.space.clone(),
            size: row.entry.size,
        };
        let number = part.number().into();
        self.client
            .part(&head, row.entry.blob, number, &wire.bytes, share)?;
        share.finish();
        Ok(wire.chaining_value)
    }

    /// The signatures of the blobs that big blobs resemble.
    fn old(&self, uploads: &Uploads) -> BTreeMap<BlobId, ChunkedBase> {
        let Some(behind) = uploads.reference else {
            return BTreeMap::new();
        };
        let known = |at: &usize| {
            let (row, delta_base) = (uploads.rows.get(*at)?, (*uploads.delta_bases.get(*at)?)?);
            let chunks = self.packs.signatures().find(&delta_base.blob)?;
            Some((
                row.entry.blob,
                ChunkedBase::new(behind.base, delta_base, chunks),
            ))
        };
        uploads.plan.big.iter().filter_map(known).collect()
    }
}

fn jobs(uploads: &Uploads) -> Result<Vec<Job<'_>>, Failure> {
    let packs = uploads.plan.packs.iter().enumerate();
    let mut jobs: Vec<_> = packs
        .map(|(number, plan)| Job::Pack { number, plan })
        .collect();
    for row in uploads
        .plan
        .big
        .iter()
        .filter_map(|&at| uploads.rows.get(at))
    {
        let parts = parts(row)?;
        let have = uploads.parts.get(&row.entry.blob);
        let have: Vec<_> = have
            .map(|have| have.iter(parts.count().into()).collect())
            .unwrap_or_default();
        jobs.extend(parts.all().map(|part| {
            let arrived = have.binary_search(&part.number().into()).is_ok();
            let fate = if arrived { Fate::Hashed } else { Fate::Sent };
            Job::Part { row, part, fate }
        }));
    }
    Ok(jobs)
}

/// Checks that the parts of each big blob form that blob.
fn check_big(
    uploads: &Uploads,
    values: &BTreeMap<(BlobId, u32), ChainingValue>,
) -> Result<(), Failure> {
    for row in uploads
        .plan
        .big
        .iter()
        .filter_map(|&at| uploads.rows.get(at))
    {
        let blob = row.entry.blob;
        let mine: Vec<_> = values
            .range((blob, 0)..=(blob, u32::MAX))
            .map(|(_, v)| *v)
            .collect();
        if parts(row)?.merge(&mine).ok() != Some(blob) {
            return Err(changed(row));
        }
    }
    Ok(())
}

/// Whether the reference may have caused a refusal: the server lacks it, or the client's signature
/// is wrong. Without a reference, the same bytes arrive.
fn is_of_reference(failure: &Failure) -> bool {
    failure.code.kind() == CodeKind::Integrity
}

fn coding(row: &Row, level: Level) -> PackCoding {
    let kind = if row.entry.media.is_compressed() {
        PackKind::Stored
    } else {
        PackKind::Solid
    };
    kind.coding(level)
}

fn parts(row: &Row) -> Result<BlobParts, Failure> {
    BlobParts::of(row.entry.size).map_err(|error| Failure::new(error.code(), error.to_string()))
}

fn read_window(scan: &Scan, row: &Row, part: Part) -> Result<ChunkWindow, Failure> {
    let mut file = Sources::of(scan)
        .open(&row.path)
        .map_err(|error| unreadable(row, &error))?;
    let Range { start, end } = ChunkWindow::range(part);
    let end = end.min(row.entry.size);
    let mut bytes = Vec::with_capacity((end - start) as usize);
    let read = file
        .seek(SeekFrom::Start(start))
        .and_then(|_| file.take(end - start).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(row, &error))?;
    ChunkWindow::of(part, bytes).ok_or_else(|| changed(row))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pmx_core::code::Code;
    use pmx_core::time::Timestamp;
    use pmx_sync::scan::{Options, scan};

    use super::*;
    use crate::args::OutputArgs;
    use crate::env::Environment;
    use crate::server::ServerUrl;
    use crate::trust::Trust;
    use crate::ui::{Counting, Ui};

    /// Plans the upload of a folder, spoils the folder, and tries to build the bodies.
    fn spoilt(spoil: impl FnOnce(PathBuf)) -> Result<Option<WirePack>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), "first").unwrap();
        std::fs::write(dir.path().join("b.txt"), "other").unwrap();
        let scan = scan(
            dir.path(),
            &Options::default(),
            None,
            &(),
            Timestamp::from_millis(0),
        )
        .unwrap();
        let rows = scan.rows();
        let members = (0..rows.len()).collect();
        let plan = PackPlan {
            kind: PackKind::Solid,
            members,
            raw: 10,
        };
        let mut uploads = Uploads {
            rows,
            ..Uploads::default()
        };
        uploads.plan.packs.push(plan);
        spoil(dir.path().join("b.txt"));
        let interrupt = Interrupt::default();
        let ui = Ui::new(
            &OutputArgs {
                quiet: true,
                ..OutputArgs::default()
            },
            &Environment::default(),
        );
        let upload = Upload {
            client: &Client::new(
                ServerUrl::parse("localhost").unwrap(),
                None,
                &Trust::default(),
                interrupt.clone(),
            ),
            space: &SpaceName::parse("docs").unwrap(),
            scan: &scan,
            packs: &LocalPacks::open(None),
            compression: Compression::Auto,
            interrupt: &interrupt,
            bar: &ui.bar(Counting::Bytes, 0),
        };
        upload.small_pack(&uploads)
    }

    #[test]
    fn upload_sends_what_was_scanned() {
        let pack = spoilt(|_| ()).unwrap().unwrap();
        let mut decoder = pmx_core::codec::Decoder::new();
        let verified = pmx_sync::pack::wire::verify(pack.bytes(), &mut decoder).unwrap();
        let ids: Vec<_> = verified.blobs().map(|blob| blob.id()).collect();
        assert_eq!(ids, [BlobId::of(b"first"), BlobId::of(b"other")]);
    }

    #[test]
    fn upload_leaves_out_a_file_that_changed_after_the_scan() {
        type Spoil = fn(PathBuf);
        let spoils: [Spoil; 4] = [
            |path| std::fs::write(path, "OTHER").unwrap(),
            |path| std::fs::write(path, "other and more").unwrap(),
            |path| std::fs::write(path, "").unwrap(),
            |path| std::fs::remove_file(path).unwrap(),
        ];
        for spoil in spoils {
            let failure = spoilt(spoil).unwrap_err();
            assert_eq!((failure.code, failure.exit()), (Code::ChangedDuringRead, 3));
            assert!(failure.message.contains("b.txt"), "{failure}");
        }
    }
}
