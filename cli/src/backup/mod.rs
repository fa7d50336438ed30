//! Backup folder: manifest nodes and blobs by their ids, and snapshots of spaces.
//!
//! ```text
//! DIR/backup.json                  {"format":"pmx-backup","v":1}
//! DIR/nodes/<aa>/<id>              a manifest node
//! DIR/blobs/<aa>/<id>              a blob, as it is
//! DIR/spaces/<space>/<n>.jsonl     a snapshot: one history of one space
//! DIR/.unfinished/                 files that are not whole yet
//! ```
//!
//! A file gets its name only when it is whole, and a snapshot only when all its content is there.

mod check;
mod snapshot;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId};
use pmx_core::name::SpaceName;
use pmx_sync::limits::NODE_BYTES_MAX;
use pmx_sync::manifest::{ManifestError, Node, NodeSource};
use tempfile::NamedTempFile;

pub use check::{Checked, Damage};
pub use snapshot::{SavedDeploy, Snapshot, SnapshotHead, VERSION};

use crate::error::Failure;
use crate::files::read_bounded;

/// The file that makes a folder a backup.
const MARK: &str = "backup.json";

/// How its name begins until it is whole.
const MARK_PREFIX: &str = ".backup.json.";

/// Its content.
const MARK_TEXT: &str = "{\"format\":\"pmx-backup\",\"v\":1}\n";

/// Files that are not whole yet.
const UNFINISHED: &str = ".unfinished";

/// Bytes of a snapshot: millions of deploys.
const SNAPSHOT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A folder with backups.
#[derive(Debug)]
pub struct BackupDir {
    dir: PathBuf,
    /// Holds the lock, if this process writes to the folder.
    _lock: Option<File>,
}

impl BackupDir {
    /// Opens a folder to write to it. Makes it, unless it exists.
    pub fn create(dir: &Path) -> Result<Self, Failure> {
        make(dir)?;
        let mark = dir.join(MARK);
        if !mark.exists() {
            // A killed backup may have left the mark without its name.
            if names(dir)?
                .iter()
                .any(|name| !name.starts_with(MARK_PREFIX))
            {
                let message = format!("{} is not empty, and no backup", dir.display());
                return Err(Failure::new(Code::Local, message).with_hint("Name another folder."));
            }
            write_mark(dir, &mark)?;
        }
        let opened = Self::open(dir)?;
        let lock = lock(&mark)?;
        let unfinished = dir.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::local("can't empty", &unfinished, &error));
            }
            Ok(()) | Err(_) => {}
        }
        make(&unfinished)?;
        Ok(Self {
            _lock: Some(lock),
            ..opened
        })
    }

    /// Refuses to add snapshots of another server's space of the same name.
    pub fn check_server(&self, head: &SnapshotHead) -> Result<(), Failure> {
        let Some(newest) = self.snapshots(&head.space)?.pop() else {
            return Ok(());
        };
        let known = self.snapshot(&head.space, newest)?.head.server;
        if known == head.server {
            return Ok(());
        }
        let (dir, space) = (self.dir.display(), &head.space);
        let message = format!(
            "{dir} has snapshots of {space} from {known}, not from {}",
            head.server
        );
        Err(Failure::new(Code::Conflict, message).with_hint("Name another folder."))
    }

    /// Opens a folder to read it.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let mark = dir.join(MARK);
        let not = |why: &str| {
            let message = format!("{} is no backup: {why}", dir.display());
            Failure::new(Code::Local, message)
                .with_hint("Name the folder that `pmx backup` wrote to.")
        };
        let text = read_bounded(&mark, MARK_TEXT.len() as u64 + 1024);
        let text = text.map_err(|why| not(&format!("{MARK}: {why}")))?;
        if text != MARK_TEXT.as_bytes() {
            return Err(not("backup.json is of another format, or of a newer pmx"));
        }
        Ok(Self {
            dir: dir.to_owned(),
            _lock: None,
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The place of a node below the folder.
    fn node_name(id: &NodeId) -> String {
        let hex = id.to_hex();
        format!("nodes/{}/{hex}", &hex[..2])
    }

    /// The place of a blob below the folder.
    pub fn blob_name(id: &BlobId) -> String {
        let hex = id.to_hex();
        format!("blobs/{}/{hex}", &hex[..2])
    }

    /// Whether the folder has a blob, by its size.
    pub fn has_blob(&self, id: &BlobId, size: u64) -> bool {
        let found = fs::symlink_metadata(self.dir.join(Self::blob_name(id)));
        found.is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// An empty file that is not whole yet.
    pub fn unfinished(&self) -> Result<NamedTempFile, Failure> {
        let folder = self.dir.join(UNFINISHED);
        let file = NamedTempFile::new_in(&folder);
        file.map_err(|error| Failure::local("can't make a file in", &folder, &error))
    }

    /// Gives a whole file its name.
    pub fn keep(&self, file: NamedTempFile, name: &str) -> Result<(), Failure> {
        let place = self.dir.join(name);
        if let Some(folder) = place.parent() {
            make(folder)?;
        }
        let failed = |error: &io::Error| Failure::local("can't write", &place, error);
        // Linux flushes the whole file system before a snapshot, which is faster.
        #[cfg(not(target_os = "linux"))]
        file.as_file().sync_all().map_err(|error| failed(&error))?;
        let kept = file.persist(&place);
        kept.map_err(|error| failed(&error.error)).map(drop)
    }

    /// Stores the bytes of a node that was verified.
    pub fn put_node(&self, id: &NodeId, bytes: &[u8]) -> Result<(), Failure> {
        self.put(&Self::node_name(id), bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let mut file = self.unfinished()?;
        let written = file.write_all(bytes);
        written.map_err(|error| Failure::local("can't write", &self.dir.join(name), &error))?;
        self.keep(file, name)
    }

    /// Writes a snapshot, after all its content. Returns its number.
    pub fn put_snapshot(&self, snapshot: &Snapshot) -> Result<u64, Failure> {
        let flushed = flush(&self.dir);
        flushed.map_err(|error| Failure::local("can't flush", &self.dir, &error))?;
        let number = self.snapshots(&snapshot.head.space)?.last().unwrap_or(&0) + 1;
        let name = snapshot_name(&snapshot.head.space, number);
        let bytes = snapshot.encode()?;
        // A restore refuses what it can't read, and it may be too late then.
        Snapshot::decode(&bytes).map_err(|why| {
            let space = &snapshot.head.space;
            Failure::new(
                Code::Protocol,
                format!("the history of {space} is none: {why}"),
            )
        })?;
        self.put(&name, &bytes)?;
        let flushed = flush(&self.dir);
        flushed.map_err(|error| Failure::local("can't flush", &self.dir, &error))?;
        Ok(number)
    }

    /// The numbers of a space's snapshots, in order.
    pub fn snapshots(&self, space: &SpaceName) -> Result<Vec<u64>, Failure> {
        let names = names(&self.dir.join("spaces").join(space.as_str()))?;
        let numbers = names.iter().filter_map(|name| {
            let number = name.strip_suffix(".jsonl")?.parse().ok()?;
            (format!("{number}.jsonl") == *name).then_some(number)
        });
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The spaces that have snapshots, in order.
    pub fn spaces(&self) -> Result<Vec<SpaceName>, Failure> {
        let names = names(&self.dir.join("spaces"))?;
        let spaces = names.iter().filter_map(|name| SpaceName::parse(name).ok());
        let mut spaces: Vec<_> = spaces.collect();
        spaces.sort();
        Ok(spaces)
    }

    /// Reads a snapshot.
    pub fn snapshot(&self, space: &SpaceName, number: u64) -> Result<Snapshot, Failure> {
        let name = snapshot_name(space, number);
        let damaged = |why: String| {
            let damage = Damage {
                name: name.clone(),
                why,
            };
            Checked::from(damage).failure(&self.dir)
        };
        let bytes = read_bounded(&self.dir.join(&name), SNAPSHOT_BYTES_MAX).map_err(&damaged)?;
        let snapshot = Snapshot::decode(&bytes).map_err(&damaged)?;
        if snapshot.head.space != *space {
            return Err(damaged(format!("it is of {}", snapshot.head.space)));
        }
        Ok(snapshot)
    }
}

/// As a [`NodeSource`] it lacks nodes that are damaged.
impl NodeSource for BackupDir {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        let place = self.dir.join(Self::node_name(id));
        let bytes = read_bounded(&place, NODE_BYTES_MAX as u64).ok();
        let bytes = bytes.filter(|bytes| NodeId::of(bytes) == *id);
        let bytes = bytes.ok_or(ManifestError::Missing(*id))?;
        Node::decode(&bytes).map(Arc::new)
    }
}

fn snapshot_name(space: &SpaceName, number: u64) -> String {
    format!("spaces/{space}/{number}.jsonl")
}

/// Names in a folder; none if it does not exist.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: &io::Error| Failure::local("can't list", folder, error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(&error))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        names.extend(name.into_string().ok());
    }
    Ok(names)
}

/// Makes a folder a backup. The file is whole once it has its name.
fn write_mark(dir: &Path, mark: &Path) -> Result<(), Failure> {
    let file = tempfile::Builder::new()
        .prefix(MARK_PREFIX)
        .tempfile_in(dir);
    let written = file.and_then(|mut file| {
        file.write_all(MARK_TEXT.as_bytes())?;
        file.persist(mark).map_err(|error| error.error)
    });
    written
        .map(drop)
        .map_err(|error| Failure::local("can't write", mark, &error))
}

fn make(folder: &Path) -> Result<(), Failure> {
    let made = fs::create_dir_all(folder);
    made.map_err(|error| Failure::local("can't make", folder, &error))
}

/// Locks a backup: two commands at once would remove each other's unfinished files.
fn lock(mark: &Path) -> Result<File, Failure> {
    let file = File::open(mark).map_err(|error| Failure::local("can't open", mark, &error))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let message = format!("another pmx writes to the backup of {}", mark.display());
            Err(Failure::new(Code::Local, message).with_hint("Wait until it ends."))
        }
        // Some network file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Flushes everything that was written to the file system of a folder.
fn flush(dir: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(File::open(dir)?)?;
    #[cfg(not(target_os = "linux"))]
    let _ = dir;
    Ok(())
}
