//! Object folder: the objects of all spaces as immutable files.
//!
//! A writer puts an object into a scratch folder, flushes it, renames it to its final path, and
//! flushes its folder. So an object is present with all its bytes or absent, whenever the process
//! ends. The next start sweeps the scratch folder after a crash. Since objects never change, an
//! open file stays valid, and a page of a site costs one positioned read.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::id::{ObjectId, SpaceId};

use super::durable;
use super::error::{HostError, disk};

/// Objects as files: `spaces/<space>/<first two digits>/<object>`.
pub struct ObjectFolder {
    root: PathBuf,
    scratch: PathBuf,
    open: Mutex<Handles>,
    durable: Mutex<HashSet<PathBuf>>,
}

impl ObjectFolder {
    /// Opens a folder, creates it if needed, and sweeps the rest of a crash.
    pub fn open(root: &Path) -> Result<Self, HostError> {
        let scratch = root.join("scratch");
        // Objects are readable even if the disk takes no writes.
        match durable::make_folder(&scratch).and_then(|()| durable::sweep(&scratch)) {
            Err(error) if !durable::is_unwritable(&error) => {
                return Err(disk("sweep", &scratch)(error));
            }
            Ok(()) | Err(_) => {}
        }
        Ok(Self {
            root: root.to_owned(),
            scratch,
            open: Mutex::default(),
            durable: Mutex::default(),
        })
    }

    /// See [`Blobs::read`]; blocks.
    pub(crate) fn read_now(
        &self,
        key: ObjectKey,
        range: &Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        let failed = |error| BackendError::new(format!("reading the object {key}"), error);
        let Some(object) = self.object(key).map_err(failed)? else {
            return Ok(None);
        };
        // Checked before the allocation: the range is not trusted.
        if range.start > range.end || range.end > object.bytes {
            return Ok(None);
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read_exact_at(&object.file, &mut bytes, range.start).map_err(failed)?;
        Ok(Some(bytes.into()))
    }

    fn write_now(&self, key: ObjectKey, body: &[u8]) -> io::Result<()> {
        let path = self.path_of(key);
        self.settle(&self.scratch)?;
        self.settle(path.parent().unwrap_or(&self.root))?;
        match durable::write_new(&self.scratch, &path, body) {
            // A repeated write, whose first attempt got no answer.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&path)? == body {
                    durable::flush_folder(path.parent().unwrap_or(&self.root))
                } else {
                    Err(error)
                }
            }
            result => result,
        }
    }

    /// Makes the folder of an object durable, once in each run of the host. An existing folder may
    /// not be flushed: an earlier run may have crashed before that.
    fn settle(&self, folder: &Path) -> io::Result<()> {
        if locked(&self.durable).contains(folder) {
            return Ok(());
        }
        // Two writers may both do this. That costs one flush more, but no flush holds the lock.
        let made = !folder.is_dir();
        durable::make_folder(folder)?;
        if !made {
            durable::flush_folder(folder.parent().unwrap_or(&self.root))?;
        }
        locked(&self.durable).insert(folder.to_owned());
        Ok(())
    }

    fn delete_now(&self, key: ObjectKey) -> io::Result<()> {
        locked(&self.open).remove(key);
        match fs::remove_file(self.path_of(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// See [`Blobs::delete_some`]; also removes folders that are empty then.
    fn delete_some_now(&self, space: SpaceId, most: usize) -> io::Result<usize> {
        let home = self.root.join("spaces").join(space.to_string());
        let mut deleted = 0;
        for folder in entries(&home)? {
            if !folder.is_dir() {
                // Files of other programs, such as those of a file manager.
                fs::remove_file(&folder)?;
                continue;
            }
            for file in entries(&folder)? {
                if deleted == most {
                    return Ok(deleted);
                }
                let name = file.file_name().and_then(|name| name.to_str());
                let object = name.and_then(|name| ObjectId::from_hex(name).ok());
                match object {
                    Some(object) => self.delete_now(ObjectKey { space, object })?,
                    None if file.is_dir() => fs::remove_dir_all(&file)?,
                    None => fs::remove_file(&file)?,
                }
                deleted += 1;
            }
            locked(&self.durable).remove(&folder);
            fs::remove_dir(&folder)?;
        }
        locked(&self.durable).remove(&home);
        match fs::remove_dir(&home) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(deleted),
        }
    }

    fn object(&self, key: ObjectKey) -> io::Result<Option<Arc<Object>>> {
        if let Some(object) = locked(&self.open).find(key) {
            return Ok(Some(object));
        }
        let file = match File::open(self.path_of(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let bytes = file.metadata()?.len();
        let object = Arc::new(Object { file, bytes });
        locked(&self.open).keep(key, Arc::clone(&object));
        Ok(Some(object))
    }

    fn path_of(&self, key: ObjectKey) -> PathBuf {
        let (space, object) = (key.space.to_string(), key.object.to_string());
        let mut path = self.root.join("spaces");
        path.extend([&space, &object[..2], &object]);
        path
    }
}

impl Blobs for ObjectFolder {
    async fn read(&self, key: ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        self.read_now(key, &range)
    }

    async fn read_again(
        &self,
        key: ObjectKey,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        // The cached file may be a replaced one, with an old length.
        locked(&self.open).remove(key);
        self.read_now(key, &range)
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        self.write_now(key, &body)
            .map_err(|error| BackendError::new(format!("writing the object {key}"), error))
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BackendError> {
        for &key in keys {
            self.delete_now(key)
                .map_err(|error| BackendError::new(format!("deleting the object {key}"), error))?;
        }
        Ok(())
    }

    async fn delete_some(&self, space: SpaceId, most: usize) -> Result<usize, BackendError> {
        let deleted = self.delete_some_now(space, most);
        deleted.map_err(|error| BackendError::new(format!("deleting objects of {space}"), error))
    }
}

/// What a folder contains; nothing if it does not exist.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    listed.map(|entry| Ok(entry?.path())).collect()
}

/// Files of objects that stay open. Some systems give a process only 256 files.
const OPEN_MAX: usize = 96;

struct Object {
    file: File,
    bytes: u64,
}

/// Open files of objects. If there are too many, the least recently used one closes.
#[derive(Default)]
struct Handles {
    objects: HashMap<ObjectKey, (Arc<Object>, u64)>,
    uses: u64,
}

impl Handles {
    fn find(&mut self, key: ObjectKey) -> Option<Arc<Object>> {
        self.uses += 1;
        let (object, used) = self.objects.get_mut(&key)?;
        *used = self.uses;
        Some(Arc::clone(object))
    }

    fn keep(&mut self, key: ObjectKey, object: Arc<Object>) {
        if self.objects.len() >= OPEN_MAX {
            let oldest = self.objects.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.objects.remove(&oldest);
            }
        }
        self.uses += 1;
        self.objects.insert(key, (object, self.uses));
    }

    fn remove(&mut self, key: ObjectKey) {
        self.objects.remove(&key);
    }
}

/// Locks a map. A panic elsewhere leaves it consistent, because it is consistent between
/// statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Reads at a position. It moves the file's own position, which has no other use.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pmx_core::id::{ObjectId, SpaceId};

    use super::super::blocking::block_on;
    use super::*;

    fn key(object: u16) -> ObjectKey {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&object.to_be_bytes());
        ObjectKey {
            space: SpaceId::from_bytes([7; 16]),
            object: ObjectId::from_bytes(bytes),
        }
    }

    fn write(folder: &ObjectFolder, object: u16, body: &'static [u8]) -> Result<(), BackendError> {
        block_on(folder.write(key(object), Bytes::from_static(body)))
    }

    fn read(folder: &ObjectFolder, object: u16, range: Range<u64>) -> Option<Bytes> {
        block_on(folder.read(key(object), range)).unwrap()
    }

    #[test]
    fn read_returns_ranges_of_written_objects() {
        let home = tempfile::tempdir().unwrap();
        let folder = ObjectFolder::open(home.path()).unwrap();
        write(&folder, 1, b"0123456789").unwrap();
        write(&folder, 2, b"").unwrap();
        for (object, range, expected) in [
            (1, 0..10, Some(&b"0123456789"[..])),
            (1, 3..5, Some(b"34")),
            (1, 10..10, Some(b"")),
            (1, 9..11, None),
            (1, 11..11, None),
            (1, 0..u64::MAX, None),
            (2, 0..0, Some(b"")),
            (2, 0..1, None),
            (3, 0..0, None),
        ] {
            let found = read(&folder, object, range.clone());
            assert_eq!(found.as_deref(), expected, "{object} {range:?}");
        }
        let backwards = Range { start: 5, end: 3 };
        assert_eq!(read(&folder, 1, backwards), None);
        let place = "spaces/07070707070707070707070707070707/00/00010000000000000000000000000000";
        assert_eq!(fs::read(home.path().join(place)).unwrap(), b"0123456789");
    }

    #[test]
    fn object_never_changes() {
        let home = tempfile::tempdir().unwrap();
        let folder = ObjectFolder::open(home.path()).unwrap();
        write(&folder, 1, b"one").unwrap();
        write(&folder, 1, b"one").unwrap();
        let refused = write(&folder, 1, b"two").unwrap_err();
        assert!(refused.doing.contains(&key(1).to_string()), "{refused}");
        assert_eq!(read(&folder, 1, 0..3).unwrap(), "one");
    }

    #[test]
    fn deletion_applies_at_once() {
        let home = tempfile::tempdir().unwrap();
        let folder = ObjectFolder::open(home.path()).unwrap();
        write(&folder, 1, b"x").unwrap();
        assert!(read(&folder, 1, 0..1).is_some());
        block_on(folder.delete(&[key(1), key(2)])).unwrap();
        assert_eq!(read(&folder, 1, 0..1), None);
    }

    #[test]
    fn sweep_removes_remains_of_a_crash_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let folder = ObjectFolder::open(home.path()).unwrap();
        write(&folder, 1, b"x").unwrap();
        let half = home.path().join("scratch/.tmpAbCdEf");
        fs::write(&half, b"half").unwrap();
        assert_eq!(read(&folder, 2, 0..4), None);
        drop(folder);
        let folder = ObjectFolder::open(home.path()).unwrap();
        assert!(!half.exists());
        assert_eq!(read(&folder, 1, 0..1).unwrap(), "x");
        write(&folder, 2, b"y").unwrap();
    }

    #[test]
    fn handles_are_reopened_for_more_objects() {
        let home = tempfile::tempdir().unwrap();
        let folder = ObjectFolder::open(home.path()).unwrap();
        let objects = OPEN_MAX as u16 + 9;
        for object in 0..objects {
            write(&folder, object, b"x").unwrap();
        }
        for object in (0..objects).chain(0..objects) {
            assert!(read(&folder, object, 0..1).is_some());
        }
        assert_eq!(locked(&folder.open).objects.len(), OPEN_MAX);
    }
}
