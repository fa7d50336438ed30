//! Benchmark site: two versions, and the folder that holds first one and then the other.
//!
//! After a build, a client finds the new files in place of the old ones. So the benchmark lays out
//! both versions in one folder of its own. It rewrites changed files, and leaves unchanged ones
//! except for their times. So it never writes to A or B.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmx_core::id::BlobId;
use pmx_core::time::Timestamp;
use pmx_sync::manifest::Row;
use pmx_sync::path::SitePath;
use pmx_sync::scan::{self, Scan, SourceFile, Sources};
use pmx_sync::wire::Summary;

use super::Context;
use crate::args::BenchArgs;
use crate::error::Failure;

/// Time that a folder rests before it is published. A recently written file could still be in the
/// middle of a write, and a scan treats it so.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Both versions, in the user's folders.
pub(super) struct Sites {
    pub(super) from: Scan,
    pub(super) from_rows: Vec<Row>,
    pub(super) to: Scan,
    pub(super) to_rows: Vec<Row>,
}

impl Sites {
    /// Reads every file of both versions.
    pub(super) fn read(args: &BenchArgs, context: &Context<'_>) -> Result<Self, Failure> {
        let from = read(&args.from, args, context)?;
        let to = read(&args.to, args, context)?;
        Ok(Self {
            from_rows: from.rows(),
            from,
            to_rows: to.rows(),
            to,
        })
    }
}

fn read(dir: &Path, args: &BenchArgs, context: &Context<'_>) -> Result<Scan, Failure> {
    let folder = context.layers.folder_at(Some(dir), &args.scan)?;
    let options = scan::Options {
        exclude: folder.exclude,
        collisions: folder.collisions,
        path: folder.path,
        ..scan::Options::default()
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = Timestamp::from_millis(since.unwrap_or_default().as_millis() as u64);
    Ok(scan::scan(&folder.dir, &options, None, &(), now)?)
}

/// How many files differ.
pub(super) fn difference(from: &[Row], to: &[Row]) -> Summary {
    let old: BTreeMap<&SitePath, _> = from.iter().map(|row| (&row.path, &row.entry)).collect();
    let mut summary = Summary::default();
    for row in to {
        match old.get(&row.path) {
            None => summary.added += 1,
            Some(entry) if **entry == row.entry => summary.unchanged += 1,
            Some(_) => summary.modified += 1,
        }
    }
    summary.removed = old.len() as u64 - summary.unchanged - summary.modified;
    summary
}

/// The folder that is published.
pub(super) struct Stage {
    folder: PathBuf,
    held: BTreeMap<SitePath, StagedFile>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct StagedFile {
    blob: BlobId,
    size: u64,
    /// The file's time in the user's folder, and its time here.
    found: SystemTime,
    written: SystemTime,
}

impl Stage {
    /// An empty folder.
    pub(super) fn at(folder: PathBuf) -> Result<Self, Failure> {
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::local("can't make", &folder, &error))?;
        Ok(Self {
            folder,
            held: BTreeMap::new(),
        })
    }

    /// Its path.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes it hold exactly the scanned files.
    pub(super) fn lay(&mut self, scan: &Scan, rows: &[Row]) -> Result<(), Failure> {
        let mut old = std::mem::take(&mut self.held);
        let wanted: BTreeSet<&SitePath> = rows.iter().map(|row| &row.path).collect();
        for path in old.keys().filter(|path| !wanted.contains(path)) {
            self.remove(path);
        }
        let mut sources = Sources::of(scan);
        for row in rows {
            let held = sources
                .open(&row.path)
                .and_then(|source| self.put(row, old.remove(&row.path), source))
                .map_err(|error| Failure::local("can't copy", &scan.source(&row.path), &error))?;
            self.held.insert(row.path.clone(), held);
        }
        std::thread::sleep(SETTLE_TIME);
        Ok(())
    }

    /// Removes a file, and folders that become empty. A failure to remove shows when another file
    /// takes its place.
    fn remove(&self, path: &SitePath) {
        let file = self.folder.join(path.as_str());
        let _ = fs::remove_file(&file);
        let parents = file.ancestors().skip(1);
        for folder in parents.take_while(|folder| *folder != self.folder) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }

    fn put(
        &self,
        row: &Row,
        old: Option<StagedFile>,
        mut source: SourceFile,
    ) -> io::Result<StagedFile> {
        let place = self.folder.join(row.path.as_str());
        let found = modified(&source)?;
        let mut held = StagedFile {
            blob: row.entry.blob,
            size: row.entry.size,
            found,
            written: found,
        };
        let Some(old) = old else {
            copy(&mut source, &place, held.written)?;
            return Ok(held);
        };
        if old.blob != held.blob {
            if old.size == held.size && seconds(old.written) == seconds(held.written) {
                // Programs that compare sizes and times would miss a change within a second.
                held.written += Duration::from_secs(1);
            }
            copy(&mut source, &place, held.written)?;
        } else if old.found == held.found {
            held.written = old.written;
        } else {
            let file = File::options().write(true).open(&place)?;
            file.set_modified(held.written)?;
        }
        Ok(held)
    }
}

/// When a file was written; a generated one has no such time.
fn modified(source: &SourceFile) -> io::Result<SystemTime> {
    match source {
        SourceFile::Disk(file) => file.metadata()?.modified(),
        SourceFile::Generated(_) => Ok(UNIX_EPOCH),
    }
}

fn copy(source: &mut SourceFile, place: &Path, written: SystemTime) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create(place)?;
    io::copy(source, &mut file)?;
    file.set_modified(written)
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(dir: &Path) -> Scan {
        let now = Timestamp::from_millis(4_000_000_000_000);
        scan::scan(dir, &scan::Options::default(), None, &(), now).unwrap()
    }

    fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn stage_holds_one_version_after_the_other() {
        let a = site(&[("a", "1"), ("b/c", "2"), ("d/e/f", "3"), ("g", "4")]);
        let b = site(&[("a", "1"), ("b/c", "x"), ("d", "3"), ("g/h", "5")]);
        let place = tempfile::tempdir().unwrap();
        let mut stage = Stage::at(place.path().join("site")).unwrap();
        for dir in [&a, &b, &b, &a] {
            let scan = scanned(dir.path());
            stage.lay(&scan, &scan.rows()).unwrap();
            assert_eq!(scanned(stage.folder()).rows(), scan.rows());
        }
    }

    #[test]
    fn change_within_a_second_shows_in_the_time() {
        let (a, b) = (
            site(&[("a", "1"), ("b", "1")]),
            site(&[("a", "2"), ("b", "1")]),
        );
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for dir in [&a, &b] {
            for name in ["a", "b"] {
                let file = File::options().write(true).open(dir.path().join(name));
                file.unwrap().set_modified(time).unwrap();
            }
        }
        let place = tempfile::tempdir().unwrap();
        let mut stage = Stage::at(place.path().join("site")).unwrap();
        for dir in [&a, &b, &b] {
            let scan = scanned(dir.path());
            stage.lay(&scan, &scan.rows()).unwrap();
        }
        let written = |name| fs::metadata(stage.folder().join(name)).unwrap().modified();
        assert_eq!(written("a").unwrap(), time + Duration::from_secs(1));
        assert_eq!(written("b").unwrap(), time);
    }

    #[test]
    fn differences_are_counted() {
        let a = site(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let b = site(&[("a", "1"), ("b", "2"), ("d", "1"), ("e", "1")]);
        let found = difference(&scanned(a.path()).rows(), &scanned(b.path()).rows());
        let expected = Summary {
            added: 2,
            modified: 1,
            removed: 1,
            unchanged: 1,
        };
        assert_eq!(found, expected);
    }
}
