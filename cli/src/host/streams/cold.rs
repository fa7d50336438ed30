//! Segment files: `<generation>/<start>-<end>`. A file is written under another name and renamed,
//! so that it appears complete or not at all.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pmx_core::backend::BackendError;
use pmx_streams::{Cold, Generation, SegmentKey};

use crate::host::blobs::read_exact_at;
use crate::host::durable;
use crate::host::error::{HostError, disk};

/// A folder of segments.
pub(super) struct SegmentFolder {
    root: PathBuf,
    scratch: PathBuf,
}

impl SegmentFolder {
    /// Opens a folder, creates it if needed, and deletes temporary files of a crash.
    pub(super) fn open(root: &Path) -> Result<Self, HostError> {
        let scratch = root.join("scratch");
        durable::make_folder(&scratch).map_err(disk("make", &scratch))?;
        durable::sweep(&scratch).map_err(disk("sweep", &scratch))?;
        let root = root.to_owned();
        Ok(Self { root, scratch })
    }

    fn read_now(&self, key: &SegmentKey, range: &Range<u64>) -> io::Result<Option<Bytes>> {
        let file = match File::open(self.path_of(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // Checked before the allocation: the range is not trusted.
        if range.start > range.end || range.end > file.metadata()?.len() {
            return Ok(None);
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read_exact_at(&file, &mut bytes, range.start)?;
        Ok(Some(bytes.into()))
    }

    fn write_now(&self, key: &SegmentKey, body: &[u8]) -> io::Result<()> {
        let path = self.path_of(key);
        let folder = path.parent().unwrap_or(&self.root);
        durable::make_folder(folder)?;
        let written = match durable::write_new(&self.scratch, &path, body) {
            // A retry of a write whose first success was not recorded.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&path)? == body {
                    durable::flush_folder(folder)
                } else {
                    Err(error)
                }
            }
            result => result,
        };
        written?;
        // An earlier run may have crashed before it flushed the folder's own name.
        durable::flush_folder(&self.root)
    }

    fn delete_now(&self, key: &SegmentKey) -> io::Result<()> {
        let path = self.path_of(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // Removes the folder if it is empty, and fails otherwise.
        let _ = path.parent().map(fs::remove_dir);
        Ok(())
    }

    fn list_now(&self, generation: Generation) -> io::Result<Vec<SegmentKey>> {
        let entries = match fs::read_dir(self.folder_of(generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let prefix = SegmentKey::prefix(generation);
            let key = name.to_str().map(|name| format!("{prefix}{name}"));
            keys.extend(key.as_deref().and_then(SegmentKey::parse));
        }
        Ok(keys)
    }

    fn folder_of(&self, generation: Generation) -> PathBuf {
        self.root.join(generation.to_string())
    }

    fn path_of(&self, key: &SegmentKey) -> PathBuf {
        let name = key.to_string();
        let name = name.rsplit('/').next().unwrap_or_default();
        self.folder_of(key.generation).join(name)
    }
}

impl Cold for SegmentFolder {
    async fn read(
        &self,
        key: &SegmentKey,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        self.read_now(key, &range).map_err(failed("reading", key))
    }

    async fn write(&self, key: &SegmentKey, body: Bytes) -> Result<(), BackendError> {
        self.write_now(key, &body).map_err(failed("writing", key))
    }

    async fn delete(&self, keys: &[SegmentKey]) -> Result<(), BackendError> {
        for key in keys {
            self.delete_now(key).map_err(failed("deleting", key))?;
        }
        Ok(())
    }

    async fn list(&self, generation: Generation) -> Result<Vec<SegmentKey>, BackendError> {
        self.list_now(generation)
            .map_err(|error| BackendError::new(format!("listing {generation}"), error))
    }
}

fn failed(doing: &str, key: &SegmentKey) -> impl FnOnce(io::Error) -> BackendError {
    move |error| BackendError::new(format!("{doing} the segment {key}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::blocking::block_on;

    fn key(start: u64) -> SegmentKey {
        SegmentKey {
            generation: Generation::from_random([7; 16]),
            start,
            end: start + 1,
        }
    }

    fn read(folder: &SegmentFolder, start: u64, range: Range<u64>) -> Option<Bytes> {
        block_on(folder.read(&key(start), range)).unwrap()
    }

    #[test]
    fn segment_folder_writes_once_reads_ranges_and_deletes() {
        let home = tempfile::tempdir().unwrap();
        let folder = SegmentFolder::open(home.path()).unwrap();
        let write = |start, body: &'static [u8]| {
            block_on(folder.write(&key(start), Bytes::from_static(body)))
        };
        assert_eq!(block_on(folder.list(key(1).generation)).unwrap(), []);
        write(1, b"0123456789").unwrap();
        write(1, b"0123456789").unwrap();
        write(1, b"other").unwrap_err();
        write(2, b"").unwrap();
        for (start, range, expected) in [
            (1, 0..10, Some(&b"0123456789"[..])),
            (1, 3..5, Some(b"34")),
            (1, 9..11, None),
            (1, 0..u64::MAX, None),
            (2, 0..0, Some(b"")),
            (3, 0..0, None),
        ] {
            let found = read(&folder, start, range.clone());
            assert_eq!(found.as_deref(), expected, "{start} {range:?}");
        }
        let mut all = block_on(folder.list(key(1).generation)).unwrap();
        all.sort();
        assert_eq!(all, [key(1), key(2)]);
        block_on(folder.delete(&[key(1), key(2), key(3)])).unwrap();
        assert_eq!(block_on(folder.list(key(1).generation)).unwrap(), []);
        assert_eq!(read(&folder, 1, 0..1), None);
        let left = fs::read_dir(home.path()).unwrap().flatten();
        assert_eq!(left.map(|e| e.file_name()).collect::<Vec<_>>(), ["scratch"]);
    }
}
