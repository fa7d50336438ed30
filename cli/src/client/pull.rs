//! Pull: writes a deploy into a folder, each file that differs, and checks each by its hash.
//!
//! Every file is written beside its place and renamed, so a pull that was interrupted leaves whole
//! files only, and the next one goes on behind them.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pmx_core::code::Code;
use pmx_core::id::BlobId;
use pmx_core::name::SpaceName;
use pmx_sync::manifest::{NodeMap, Row, range};
use pmx_sync::wire::DeployView;
use tempfile::NamedTempFile;

use super::http::Client;
use super::http::download::Sink;
use super::{remote, workers};
use crate::error::Failure;

/// Files that are not whole yet. The next pull removes what a killed one left there.
const UNFINISHED: &str = ".pmx-pull";

/// What a pull did.
#[derive(Debug, Default)]
pub struct Pulled {
    /// Files that were written.
    pub written: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already, with the same content.
    pub unchanged: u64,
    /// Files of the folder that the deploy does not have.
    pub others: u64,
}

/// Writes the files of a deploy that a folder lacks, or has with other content.
pub fn pull(
    client: &Client,
    space: &SpaceName,
    deploy: &DeployView,
    dir: &Path,
) -> Result<Pulled, Failure> {
    let nodes = remote::manifest(client, space, &NodeMap::default(), deploy)?;
    let rows = range(&nodes, deploy.root, "", usize::MAX, |_| true)?;
    let unfinished = dir.join(UNFINISHED);
    let at = |doing: &'static str, error: &io::Error| local(doing, &unfinished, error);
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("empty", &error)),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(&unfinished).map_err(|error| at("make", &error))?;
    let (written, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let fetched = workers::for_each(&rows, |row| {
        let place = place(dir, row)?;
        if has(&place, row)? {
            return Ok(());
        }
        fetch(client, space, deploy.number, row, &unfinished, &place)?;
        written.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(row.entry.size, Ordering::Relaxed);
        Ok(())
    });
    let cleared = fs::remove_dir_all(&unfinished).map_err(|error| at("remove", &error));
    fetched.and(cleared)?;
    let written = written.into_inner();
    let files = rows.len() as u64;
    Ok(Pulled {
        written,
        bytes: bytes.into_inner(),
        unchanged: files - written,
        others: count(dir)?.saturating_sub(files),
    })
}

/// The place of a file, whose folders exist then. No folder on the way is a link: it may lead
/// anywhere.
fn place(dir: &Path, row: &Row) -> Result<PathBuf, Failure> {
    let mut place = dir.to_owned();
    let mut segments = row.path.as_str().split('/').peekable();
    while let Some(segment) = segments.next() {
        place.push(segment);
        if segments.peek().is_none() {
            break;
        }
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let why = io::Error::other("it is no folder");
                return Err(local("go into", &place, &why));
            }
            Err(_) => match fs::create_dir(&place) {
                // Another thread was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(|error| local("make", &place, &error))?,
            },
        }
    }
    Ok(place)
}

/// Whether a file is at its place already.
fn has(place: &Path, row: &Row) -> Result<bool, Failure> {
    let found = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(|error| local("look at", place, &error))?,
    };
    if found.is_dir() {
        let why = io::Error::other("it is a folder, and a file in the deploy");
        return Err(local("write", place, &why));
    }
    if !found.is_file() || found.len() != row.entry.size {
        return Ok(false);
    }
    let hash = || -> io::Result<BlobId> {
        let (mut file, mut hasher) = (File::open(place)?, blake3::Hasher::new());
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(BlobId::from_bytes(*hasher.finalize().as_bytes())),
                read => hasher.update(&buffer[..read]),
            };
        }
    };
    let blob = hash().map_err(|error| local("read", place, &error))?;
    Ok(blob == row.entry.blob)
}

/// Bytes of a file that are hashed at a time.
const BUFFER_BYTES: usize = 64 * 1024;

fn fetch(
    client: &Client,
    space: &SpaceName,
    number: u64,
    row: &Row,
    unfinished: &Path,
    place: &Path,
) -> Result<(), Failure> {
    let file = NamedTempFile::new_in(unfinished);
    let mut target = Target {
        file: file.map_err(|error| local("make a file in", unfinished, &error))?,
        hasher: blake3::Hasher::new(),
    };
    client.download(space, number, &row.path, &mut target)?;
    let blob = target.blob();
    if blob != row.entry.blob {
        let (path, expected) = (&row.path, row.entry.blob);
        let message = format!("the server sent blob {blob} for \"{path}\", which is {expected}");
        return Err(Failure::new(Code::HashMismatch, message));
    }
    target.keep(place)
}

/// A file that is not at its place yet.
pub struct Target {
    file: NamedTempFile,
    hasher: blake3::Hasher,
}

impl Target {
    /// An empty file beside the one that it replaces.
    pub fn beside(place: &Path) -> Result<Self, Failure> {
        let folder = match place.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        };
        let file = NamedTempFile::new_in(folder);
        Ok(Self {
            file: file.map_err(|error| local("make a file in", folder, &error))?,
            hasher: blake3::Hasher::new(),
        })
    }

    /// The hash of what came.
    pub fn blob(&self) -> BlobId {
        BlobId::from_bytes(*self.hasher.finalize().as_bytes())
    }

    /// Reads what came, piece by piece.
    pub fn each(mut self, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
        let mut read = || -> io::Result<()> {
            let file = self.file.as_file_mut();
            file.rewind()?;
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(()),
                    bytes => take(&buffer[..bytes]),
                }
            }
        };
        read().map_err(|error| local("read", self.file.path(), &error))
    }

    /// Moves the file to its place, with the permissions of other files.
    pub fn keep(self, place: &Path) -> Result<(), Failure> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let readable = fs::Permissions::from_mode(0o644);
            let set = self.file.as_file().set_permissions(readable);
            set.map_err(|error| local("write", place, &error))?;
        }
        let kept = self.file.persist(place);
        kept.map_err(|error| local("write", place, &error.error))?;
        Ok(())
    }
}

impl Sink for Target {
    fn restart(&mut self) -> io::Result<()> {
        self.hasher.reset();
        self.file.as_file_mut().set_len(0)?;
        self.file.as_file_mut().rewind()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }
}

/// The number of files in a folder. Links count as files.
fn count(dir: &Path) -> Result<u64, Failure> {
    let (mut files, mut folders) = (0, vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        let listed = fs::read_dir(&folder).map_err(|error| local("list", &folder, &error))?;
        for entry in listed {
            let entry = entry.map_err(|error| local("list", &folder, &error))?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) | Err(_) => files += 1,
            }
        }
    }
    Ok(files)
}

fn local(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("can't {doing} {}: {error}", path.display());
    Failure::new(Code::Local, message)
}
