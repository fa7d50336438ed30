//! Measures packs on a real folder: bytes on the wire and stored, and the CPU time of each step.
//!
//! `cargo run --release -p pmx-sync --features scan --example packs -- NEW [OLD]`. With OLD, only
//! the blobs of NEW that OLD lacks are packed: what an upgrade sends without local state. One
//! thread, CPU time rather than wall time, so that a busy machine measures nearly the same.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program to measure with, not part of the library"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use pmx_core::codec::{Decoder, Encoder, Level};
use pmx_core::id::BlobId;
use pmx_sync::media::{Media, media_of_name};
use pmx_sync::pack::part::{BlobParts, WirePart};
use pmx_sync::pack::plan::{BlobToUpload, PackPlan, UploadPlan};
use pmx_sync::pack::wire::{self, PackBuilder};
use pmx_sync::pack::{PackCoding, PackKind};

fn main() {
    let folders: Vec<_> = std::env::args_os().skip(1).collect();
    let (new, old) = match folders.as_slice() {
        [new] => (Path::new(new), None),
        [new, old] => (Path::new(new), Some(Path::new(old))),
        _ => panic!("usage: packs NEW [OLD]"),
    };
    let known = old.map_or_else(Vec::new, read);
    let known: BTreeSet<_> = known.iter().map(|file| file.blob).collect();
    let mut files = read(new);
    files.retain(|file| !known.contains(&file.blob));
    let wanted: Vec<_> = files
        .iter()
        .map(|file| BlobToUpload {
            blob: file.blob,
            size: file.bytes.len() as u64,
            media: &file.media,
        })
        .collect();
    let plan = UploadPlan::of(&wanted);
    baseline(&plan, &files);
    for level in [1, 3, 5].map(|level| Level::new(level).unwrap()) {
        send(&plan, &files, level);
    }
    receive(&plan, &files);
}

struct File {
    path: String,
    blob: BlobId,
    media: Media,
    bytes: Vec<u8>,
}

/// All files of a folder, in path order.
fn read(folder: &Path) -> Vec<File> {
    let entries = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap);
    let mut files: Vec<_> = entries
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap();
            let path = entry.path().strip_prefix(folder).unwrap();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let media = media_of_name(&name);
            File {
                path: path.to_string_lossy().into_owned(),
                blob: BlobId::of(&bytes),
                media: Media::parse(media).unwrap(),
                bytes,
            }
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// What the goals are ratios of: 4 MiB of files at a time, level 3, nothing else.
fn baseline(plan: &UploadPlan, files: &[File]) {
    let solid = plan
        .packs
        .iter()
        .filter(|pack| pack.kind == PackKind::Solid);
    let mut packs = vec![Vec::new()];
    for index in solid.flat_map(|pack| &pack.members) {
        let bytes = &files[*index].bytes;
        if packs.last().unwrap().len() + bytes.len() > 4 << 20 {
            packs.push(Vec::new());
        }
        packs.last_mut().unwrap().extend_from_slice(bytes);
    }
    let mut encoder = Encoder::new();
    let clock = Clock::start();
    let frames = packs
        .iter()
        .map(|pack| encoder.frame(pack, Level::new(3).unwrap()).len());
    let sent = frames.sum();
    let raw = packs.iter().map(Vec::len).sum();
    clock.stop("baseline: zstd -3 of 4 MiB", packs.len(), raw, sent);
}

fn fill(builder: &mut PackBuilder, pack: &PackPlan, files: &[File]) {
    for index in &pack.members {
        builder.push(&files[*index].bytes).unwrap();
    }
}

fn send(plan: &UploadPlan, files: &[File], level: Level) {
    let mut encoder = Encoder::new();
    let mut builder = PackBuilder::new();
    for kind in [PackKind::Solid, PackKind::Stored] {
        let clock = Clock::start();
        let (mut packs, mut raw, mut sent) = (0, 0, 0);
        for pack in plan.packs.iter().filter(|pack| pack.kind == kind) {
            fill(&mut builder, pack, files);
            let packed = builder.finish(&mut encoder, kind.coding(level)).unwrap();
            (packs, raw, sent) = (
                packs + 1,
                raw + pack.raw as usize,
                sent + packed.bytes().len(),
            );
        }
        clock.stop(
            &format!("{kind:?} packs, level {}", level.number()),
            packs,
            raw,
            sent,
        );
    }
    let clock = Clock::start();
    let (mut count, mut raw, mut sent) = (0, 0, 0);
    for index in &plan.big {
        let bytes = &files[*index].bytes;
        for part in BlobParts::of(bytes.len() as u64).unwrap().all() {
            let bytes = &bytes[part.offset() as usize..][..part.len() as usize];
            let coding = PackCoding::Zstd(level);
            let wire = WirePart::of(part, bytes, &mut encoder, coding).unwrap();
            (count, raw, sent) = (count + 1, raw + bytes.len(), sent + wire.bytes.len());
        }
    }
    clock.stop(
        &format!("parts, level {}", level.number()),
        count,
        raw,
        sent,
    );
}

fn receive(plan: &UploadPlan, files: &[File]) {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut builder = PackBuilder::new();
    let wires = plan.packs.iter().map(|pack| {
        fill(&mut builder, pack, files);
        builder
            .finish(&mut encoder, pack.kind.coding(Level::WIRE))
            .unwrap()
    });
    let wires: Vec<_> = wires.collect();
    let raw = plan.packs.iter().map(|pack| pack.raw as usize).sum();
    let clock = Clock::start();
    let packs = wires
        .iter()
        .map(|wire| wire::verify(wire.bytes(), &mut decoder).unwrap());
    let packs: Vec<_> = packs.collect();
    let sent = wires.iter().map(|wire| wire.bytes().len()).sum();
    clock.stop("verify", packs.len(), raw, sent);
    for level in [1, 2, 3].map(|level| Level::new(level).unwrap()) {
        let clock = Clock::start();
        let objects = packs
            .iter()
            .map(|pack| pack.clone().rest(&mut encoder, level).bytes.len());
        let stored = objects.sum();
        clock.stop(
            &format!("rest, level {}", level.number()),
            packs.len(),
            raw,
            stored,
        );
    }
}

/// The CPU time of this thread where the system reports it, else wall time.
struct Clock {
    cpu: Option<f64>,
    wall: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            cpu: cpu_seconds(),
            wall: Instant::now(),
        }
    }

    fn stop(self, what: &str, count: usize, raw: usize, coded: usize) {
        let cpu = cpu_seconds().zip(self.cpu).map(|(now, then)| now - then);
        let seconds = cpu.unwrap_or_else(|| self.wall.elapsed().as_secs_f64());
        let speed = raw as f64 / 1e6 / seconds;
        println!(
            "{what:28} {count:5} of {raw:11} bytes -> {coded:10} in {seconds:6.2} s ({speed:.0} MB/s)"
        );
    }
}

fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}
