//! Sending what is missing: packs and parts, several at once, within a bounded memory.
//!
//! Files are read again here, and hashed again: what is sent is what the manifest says, or nothing
//! is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::sync::Mutex;
use std::time::Instant;

use pmx_sync::code::Code;
use pmx_sync::codec::Level;
use pmx_sync::id::BlobId;
use pmx_sync::manifest::Row;
use pmx_sync::name::SpaceName;
use pmx_sync::pack::part::{ChainingValue, Part, Parts, WirePart};
use pmx_sync::pack::plan::PackPlan;
use pmx_sync::pack::wire::WirePack;
use pmx_sync::pack::{Coding, PackKind};
use pmx_sync::push::Uploads;
use pmx_sync::scan::{Scan, Sources};
use pmx_sync::wire::PartHead;

use super::crew::{self, Desk, Pace, Place, lock};
use super::http::Client;
use crate::args::Compression;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::Bar;

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
        let (desk, pace) = (Desk::new(), Pace::new(self.compression));
        let values = Values::default();
        crew::each(&jobs, |job| self.job(job, uploads, &desk, &values, &pace))?;
        check_big(uploads, &lock(&values))
    }

    /// Builds the only pack of a small publish, to travel in its request.
    pub(super) fn small_pack(&self, uploads: &Uploads) -> Result<Option<WirePack>, Failure> {
        let Some(plan) = uploads.plan.packs.first() else {
            return Ok(None);
        };
        let level = Pace::new(self.compression).level();
        let pack = build(self.scan, uploads, plan, &mut Place::default(), level)?;
        Ok(Some(pack))
    }

    fn job(
        &self,
        job: &Job<'_>,
        uploads: &Uploads,
        desk: &Desk,
        values: &Values,
        pace: &Pace,
    ) -> Result<(), Failure> {
        self.interrupt.check()?;
        let level = pace.level();
        match job {
            Job::Pack(plan) => {
                let pack = desk.with(|place| build(self.scan, uploads, plan, place, level))?;
                let started = Instant::now();
                self.client.pack(self.space, pack.id(), pack.bytes())?;
                pace.note(pack.bytes().len(), started.elapsed());
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
    let mut sources = Sources::of(scan);
    for row in plan.members.iter().filter_map(|&at| uploads.rows.get(at)) {
        let mut read = Ok(());
        let appended = builder.append(|raw| {
            read = read_blob(&mut sources, row, raw);
            read.is_ok()
        });
        read?;
        appended.map_err(|error| Failure::new(error.code(), error.to_string()))?;
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

/// Reads a blob again, behind what `out` holds, and hashes it again. Asks for one byte more than
/// there should be, so that one call tells that there is no more.
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
