//! Sending what is missing: packs and parts, several at once, within a bounded memory.
//!
//! Files are read again here, and hashed again: what is sent is what the manifest says, or nothing
//! is. Building takes memory, so only as many threads build as pay; more of them may wait for the
//! line, each with one finished body.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pmx_sync::code::Code;
use pmx_sync::codec::{Encoder, Level};
use pmx_sync::id::BlobId;
use pmx_sync::manifest::Row;
use pmx_sync::name::SpaceName;
use pmx_sync::pack::part::{ChainingValue, Part, Parts, WirePart};
use pmx_sync::pack::plan::PackPlan;
use pmx_sync::pack::wire::{PackBuilder, WirePack};
use pmx_sync::pack::{Coding, PackKind};
use pmx_sync::push::Uploads;
use pmx_sync::scan::{Scan, Sources};
use pmx_sync::wire::PartHead;

use super::http::Client;
use crate::args::Compression;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::Bar;

/// Threads that build: each holds a pack's bytes, raw and compressed, and zstd's window.
const BUILDERS_MAX: usize = 2;

/// Threads that send: each holds a finished body.
const SENDERS_MAX: usize = 4;

/// A line slower than this, in bytes a second for each builder, makes compressing harder pay (see
/// [`Level::WIRE_SMALL`]).
const SLOW_BYTES_PER_SECOND: u128 = 15_000_000 / 8;

/// Where blobs come from and go to.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) space: &'a SpaceName,
    pub(super) scan: &'a Scan,
    pub(super) compression: Compression,
    pub(super) interrupt: &'a Interrupt,
    pub(super) bar: &'a Bar,
}

/// One body to be sent.
enum Job<'a> {
    Pack(&'a PackPlan),
    Part {
        row: &'a Row,
        part: Part,
        fate: Fate,
    },
}

/// What becomes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is sent.
    Sent,
    /// It has arrived earlier, and only its hash is needed.
    Hashed,
}

type Values = Mutex<BTreeMap<(BlobId, u32), ChainingValue>>;

impl Upload<'_> {
    /// Sends everything that is missing. Returns once it has arrived.
    pub(super) fn run(&self, uploads: &Uploads) -> Result<(), Failure> {
        let jobs = jobs(uploads)?;
        let builders = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let desk = Desk::new(builders.min(BUILDERS_MAX));
        let (next, slow) = (AtomicUsize::new(0), AtomicBool::new(false));
        let values = Values::default();
        let failed: Mutex<Option<Failure>> = Mutex::new(None);
        let work = || {
            while lock(&failed).is_none() {
                let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                if let Err(failure) = self.job(job, uploads, &desk, &values, &slow) {
                    lock(&failed).get_or_insert(failure);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs.len().min(SENDERS_MAX) {
                scope.spawn(work);
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => Err(failure),
            None => check_big(uploads, &lock(&values)),
        }
    }

    /// Builds the only pack of a small publish, to travel in its request.
    pub(super) fn small_pack(&self, uploads: &Uploads) -> Result<Option<WirePack>, Failure> {
        let Some(plan) = uploads.plan.packs.first() else {
            return Ok(None);
        };
        let level = self.level(&AtomicBool::new(false));
        let pack = build(self.scan, uploads, plan, &mut Place::default(), level)?;
        Ok(Some(pack))
    }

    fn job(
        &self,
        job: &Job<'_>,
        uploads: &Uploads,
        desk: &Desk,
        values: &Values,
        slow: &AtomicBool,
    ) -> Result<(), Failure> {
        self.interrupt.check()?;
        let level = self.level(slow);
        match job {
            Job::Pack(plan) => {
                let pack = desk.with(|place| build(self.scan, uploads, plan, place, level))?;
                let started = Instant::now();
                self.client.pack(self.space, pack.id(), pack.bytes())?;
                note_speed(slow, pack.bytes().len(), started.elapsed());
                self.bar.add(plan.raw);
            }
            Job::Part { row, part, fate } => {
                let bytes = read_part(self.scan, row, *part)?;
                let value = match fate {
                    Fate::Hashed => ChainingValue::of(*part, &bytes).map_err(|_| changed(row))?,
                    Fate::Sent => {
                        let coding = coding(row, level);
                        let wire = desk
                            .with(|place| WirePart::of(*part, &bytes, &mut place.encoder, coding));
                        let wire = wire.map_err(|_| changed(row))?;
                        drop(bytes);
                        let head = PartHead {
                            space: self.space.clone(),
                            size: row.entry.size,
                        };
                        let number = part.number().into();
                        self.client
                            .part(&head, row.entry.blob, number, &wire.bytes)?;
                        wire.chaining_value
                    }
                };
                lock(values).insert((row.entry.blob, part.number()), value);
                self.bar.add(part.len());
            }
        }
        Ok(())
    }

    fn level(&self, slow: &AtomicBool) -> Level {
        match self.compression {
            Compression::Level(number) => Level::new(number).unwrap_or(Level::WIRE),
            Compression::Auto if slow.load(Ordering::Relaxed) => Level::WIRE_SMALL,
            Compression::Auto => Level::WIRE,
        }
    }
}

fn jobs(uploads: &Uploads) -> Result<Vec<Job<'_>>, Failure> {
    let mut jobs: Vec<_> = uploads.plan.packs.iter().map(Job::Pack).collect();
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

/// Checks that the parts of each big blob make that blob.
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

fn build(
    scan: &Scan,
    uploads: &Uploads,
    plan: &PackPlan,
    place: &mut Place,
    level: Level,
) -> Result<WirePack, Failure> {
    // A pack that fails halfway leaves nothing behind for the next one.
    let mut builder = std::mem::take(&mut place.builder);
    let (mut sources, mut blob) = (Sources::of(scan), Vec::new());
    for row in plan.members.iter().filter_map(|&at| uploads.rows.get(at)) {
        read_blob(&mut sources, row, &mut blob)?;
        builder
            .push(&blob)
            .map_err(|error| Failure::new(error.code(), error.to_string()))?;
    }
    let pack = builder.finish(&mut place.encoder, plan.kind.coding(level));
    place.builder = builder;
    pack.ok_or_else(|| Failure::new(Code::PackMalformed, "a pack was planned without blobs"))
}

fn coding(row: &Row, level: Level) -> Coding {
    let kind = if row.entry.media.is_compressed() {
        PackKind::Stored
    } else {
        PackKind::Solid
    };
    kind.coding(level)
}

fn parts(row: &Row) -> Result<Parts, Failure> {
    Parts::of(row.entry.size).map_err(|error| Failure::new(error.code(), error.to_string()))
}

/// Reads a blob again, and hashes it again. Asks for one byte more than there should be, so that
/// one call tells that there is no more.
fn read_blob(sources: &mut Sources<'_>, row: &Row, blob: &mut Vec<u8>) -> Result<(), Failure> {
    let mut file = sources
        .open(&row.path)
        .map_err(|error| unreadable(row, &error))?;
    let size = row.entry.size as usize;
    blob.resize(size + 1, 0);
    let mut filled = 0;
    while filled <= size {
        match file.read(&mut blob[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(row, &error)),
        }
        if filled == size {
            break;
        }
    }
    blob.truncate(filled);
    if BlobId::of(blob) == row.entry.blob {
        Ok(())
    } else {
        Err(changed(row))
    }
}

fn read_part(scan: &Scan, row: &Row, part: Part) -> Result<Vec<u8>, Failure> {
    let mut file = File::open(scan.source(&row.path)).map_err(|error| unreadable(row, &error))?;
    let mut bytes = Vec::with_capacity(part.len() as usize);
    let read = file
        .seek(SeekFrom::Start(part.offset()))
        .and_then(|_| file.take(part.len()).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(row, &error))?;
    Ok(bytes)
}

fn unreadable(row: &Row, error: &std::io::Error) -> Failure {
    // It was read a moment ago.
    match error.kind() {
        ErrorKind::NotFound => changed(row),
        _ => Failure::new(
            Code::Unreadable,
            format!("can't read \"{}\": {error}", row.path),
        ),
    }
}

fn changed(row: &Row) -> Failure {
    Failure::new(
        Code::ChangedDuringRead,
        format!("\"{}\" changed after it was scanned", row.path),
    )
}

fn note_speed(slow: &AtomicBool, bytes: usize, took: Duration) {
    // The senders share the line.
    let rate = bytes as u128 * SENDERS_MAX as u128 * 1000 / took.as_millis().max(1);
    slow.store(
        rate < SLOW_BYTES_PER_SECOND * BUILDERS_MAX as u128,
        Ordering::Relaxed,
    );
}

/// What it takes to build. Its memory is used again and again, because allocators are slow to give
/// large pieces back.
#[derive(Default)]
struct Place {
    encoder: Encoder,
    builder: PackBuilder,
}

/// The places, of which there are as many as threads may build.
struct Desk {
    free: Mutex<Vec<Place>>,
    returned: Condvar,
}

impl Desk {
    fn new(places: usize) -> Self {
        Self {
            free: Mutex::new((0..places.max(1)).map(|_| Place::default()).collect()),
            returned: Condvar::new(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Place) -> T) -> T {
        let free = self
            .returned
            .wait_while(lock(&self.free), |free| free.is_empty());
        let taken = free.unwrap_or_else(PoisonError::into_inner).pop();
        let mut place = taken.unwrap_or_default();
        let result = work(&mut place);
        lock(&self.free).push(place);
        self.returned.notify_one();
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pmx_sync::scan::{Options, scan};
    use pmx_sync::time::Timestamp;

    use super::*;
    use crate::args::OutputArgs;
    use crate::env::Environment;
    use crate::server::Server;
    use crate::ui::{Counting, Ui};

    /// Plans the upload of a folder, spoils it, and tries to build what would be sent.
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
            client: &Client::new(Server::parse("localhost").unwrap(), None, interrupt.clone()),
            space: &SpaceName::parse("docs").unwrap(),
            scan: &scan,
            compression: Compression::Auto,
            interrupt: &interrupt,
            bar: &ui.bar(Counting::Bytes, 0),
        };
        upload.small_pack(&uploads)
    }

    #[test]
    fn what_is_sent_is_what_was_scanned() {
        let pack = spoilt(|_| ()).unwrap().unwrap();
        let mut decoder = pmx_sync::codec::Decoder::new();
        let verified = pmx_sync::pack::wire::verify(pack.bytes(), &mut decoder).unwrap();
        let ids: Vec<_> = verified.blobs().map(|blob| blob.id()).collect();
        assert_eq!(ids, [BlobId::of(b"first"), BlobId::of(b"other")]);
    }

    #[test]
    fn a_file_that_changed_after_the_scan_is_not_sent() {
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
