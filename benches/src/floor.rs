//! Floors: the minimum work for a job, run as processes like the other contenders.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use crate::files::{self, File, THREADS};
use crate::round::{Contender, Sample};
use crate::run;

/// Raw bytes of a pack: the first publish is compared with "zstd -3 of 4 MiB packs".
const PACK: u64 = 4 << 20;

/// The level of those packs and of every other zstd size in the table.
const LEVEL: i32 = 3;

/// The subcommand `walk`: lists `folder` with every file's status and prints the sums.
pub(crate) fn walk(folder: &Path) -> Result<()> {
    let (files, bytes) = files::totals(folder)?;
    println!("{}", json!({"files": files, "bytes": bytes}));
    Ok(())
}

/// The subcommand `zstd-packs`: reads `folder` in path order into packs of 4 MiB, compresses each
/// as one frame on two threads, and prints the sums. Nothing is hashed, sent or stored.
pub(crate) fn zstd_packs(folder: &Path) -> Result<()> {
    let files = files::walk(folder)?;
    let packs = packs(&files);
    let next = AtomicUsize::new(0);
    let sizes = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| compress_packs(&packs, &next)))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect::<Result<Vec<u64>>>()
    })?;
    let packed: u64 = sizes.iter().sum();
    println!("{}", json!({"packs": packs.len(), "packed": packed}));
    Ok(())
}

/// The contender for one of the subcommands above.
pub(crate) fn contender<'a>(
    name: &'static str,
    subcommand: &'static str,
    folder: &'a Path,
) -> Contender<'a> {
    Contender::new(name, move |_| {
        let mut command = Command::new(std::env::current_exe()?);
        let run = run::whole(command.arg(subcommand).arg(folder))?;
        let said: serde_json::Value = serde_json::from_slice(&run.stdout)?;
        let sample = Sample::from(&run);
        Ok(match said["packed"].as_f64() {
            Some(packed) => sample.with("sent", packed),
            None => sample,
        })
    })
}

/// The length of `raw` as one zstd frame at the level of the table.
pub(crate) fn zstd_len(raw: &[u8]) -> Result<usize> {
    compress(&mut zstd_safe::CCtx::create(), &mut Vec::new(), raw)
}

/// Compresses `raw` as one frame into the reused buffer `room`, which grows as needed. Returns the
/// frame's length.
pub(crate) fn compress(
    context: &mut zstd_safe::CCtx<'_>,
    room: &mut Vec<u8>,
    raw: &[u8],
) -> Result<usize> {
    let bound = zstd_safe::compress_bound(raw.len());
    if room.len() < bound {
        room.resize(bound, 0);
    }
    let compressed = context.compress(room.as_mut_slice(), raw, LEVEL);
    compressed.map_err(|code| anyhow!("zstd: {}", zstd_safe::get_error_name(code)))
}

/// Splits `files` into groups of about [`PACK`] bytes; a larger file is a pack of its own.
fn packs(files: &[File]) -> Vec<&[File]> {
    let mut packs = Vec::new();
    let (mut start, mut held) = (0, 0);
    for (at, file) in files.iter().enumerate() {
        if held > 0 && held + file.len > PACK {
            packs.push(&files[start..at]);
            (start, held) = (at, 0);
        }
        held += file.len;
    }
    if start < files.len() {
        packs.push(&files[start..]);
    }
    packs
}

/// Takes packs one by one until there are none, and returns the bytes of their frames.
fn compress_packs(packs: &[&[File]], next: &AtomicUsize) -> Result<u64> {
    let mut context = zstd_safe::CCtx::create();
    let (mut raw, mut room) = (Vec::new(), Vec::new());
    let mut packed = 0;
    while let Some(files) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
        raw.clear();
        for file in *files {
            read_onto(&mut raw, file)?;
        }
        packed += compress(&mut context, &mut room, &raw)? as u64;
    }
    Ok(packed)
}

fn read_onto(raw: &mut Vec<u8>, file: &File) -> Result<()> {
    use std::io::Read;
    let opened = fs::File::open(&file.path);
    opened
        .and_then(|mut opened| opened.read_to_end(raw))
        .with_context(|| format!("reading {}", file.path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_hold_every_file_once_and_stay_small() {
        let lens = [1, PACK, 3, PACK / 2, PACK / 2, 2 * PACK, 5];
        let files = lens.map(|len| File {
            path: len.to_string().into(),
            len,
        });
        let packs = packs(&files);
        assert_eq!(packs.concat(), files);
        let counts: Vec<usize> = packs.iter().map(|pack| pack.len()).collect();
        assert_eq!(counts, [1, 1, 2, 1, 1, 1]);
    }

    #[test]
    fn a_frame_is_smaller_than_what_repeats() {
        let len = zstd_len(&[b'x'; 10_000]).unwrap();
        assert!((1..100).contains(&len), "{len}");
    }
}
