//! Folder walk: lists every file and its length, on two threads.
//!
//! It is the minimum cost of any tool that looks at a site. It takes one pass over the folders, and
//! one `statx` for each file, relative to the folder's descriptor (`DirEntry::metadata` does that
//! on Linux). [`crate::floor`] uses it as a contender, and other modules as a helper.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::thread;

use anyhow::{Context, Result};

/// Threads of the walk and of the work on its files: the usual machines have two cores.
pub(crate) const THREADS: usize = 2;

/// A file below the walked folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct File {
    /// The full path.
    pub(crate) path: PathBuf,
    /// Length in bytes.
    pub(crate) len: u64,
}

/// The regular files below `folder`, in path order. Symbolic links are neither followed nor listed:
/// the corpora have none.
pub(crate) fn walk(folder: &Path) -> Result<Vec<File>> {
    let parts = visit(folder, |files: &mut Vec<File>, entry, len| {
        files.push(File {
            path: entry.path(),
            len,
        });
    })?;
    let mut files = parts.concat();
    files.sort_unstable();
    Ok(files)
}

/// The number of regular files below `folder`, and their bytes, by the walk alone.
pub(crate) fn totals(folder: &Path) -> Result<(u64, u64)> {
    let parts = visit(folder, |(files, bytes): &mut (u64, u64), _, len| {
        *files += 1;
        *bytes += len;
    })?;
    let sum = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
    Ok(parts.into_iter().fold((0, 0), sum))
}

/// Passes every regular file and its length to `each`, and returns the result of each thread.
fn visit<T: Default + Send>(
    folder: &Path,
    each: impl Fn(&mut T, &DirEntry, u64) + Sync,
) -> Result<Vec<T>> {
    let queue = Queue::holding(folder.to_owned());
    thread::scope(|scope| {
        let walkers: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| drain(&queue, &each)))
            .collect();
        let joined = walkers.into_iter().map(|walker| {
            // A panic of the thread is passed on.
            walker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect()
    })
}

fn drain<T: Default>(queue: &Queue, each: &impl Fn(&mut T, &DirEntry, u64)) -> Result<T> {
    let mut seen = T::default();
    while let Some(folder) = queue.take() {
        let listed = list(&folder, |entry, len| each(&mut seen, entry, len));
        // Even after an error, the folder counts as done: the other threads must not wait for it.
        let (result, found) = match listed {
            Ok(found) => (Ok(()), found),
            Err(error) => (Err(error), Vec::new()),
        };
        queue.done(found);
        result.with_context(|| format!("reading {}", folder.display()))?;
    }
    Ok(seen)
}

/// Passes the files of one folder to `each`, and returns its subfolders.
fn list(folder: &Path, mut each: impl FnMut(&DirEntry, u64)) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            folders.push(entry.path());
        } else if kind.is_file() {
            each(&entry, entry.metadata()?.len());
        }
    }
    Ok(folders)
}

/// Folders to read, and the number of folders in progress, which may yield more.
struct Queue {
    state: Mutex<(Vec<PathBuf>, usize)>,
    changed: Condvar,
}

const POISONED: &str = "no walker panics while it holds the queue";

impl Queue {
    fn holding(folder: PathBuf) -> Self {
        Self {
            state: Mutex::new((vec![folder], 0)),
            changed: Condvar::new(),
        }
    }

    /// The next folder to read; `None` when all are done.
    fn take(&self) -> Option<PathBuf> {
        let mut state = self.state.lock().expect(POISONED);
        loop {
            if let Some(folder) = state.0.pop() {
                state.1 += 1;
                return Some(folder);
            }
            if state.1 == 0 {
                return None;
            }
            state = self.changed.wait(state).expect(POISONED);
        }
    }

    /// Records that the last taken folder is done, with these subfolders.
    fn done(&self, folders: Vec<PathBuf>) {
        let mut state = self.state.lock().expect(POISONED);
        state.0.extend(folders);
        state.1 -= 1;
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_once_in_path_order() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "b/c", "b/d/e", "f/g/h/i"];
        for (len, name) in names.iter().enumerate() {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![0; len]).unwrap();
        }
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let expected: Vec<File> = names
            .iter()
            .zip(0..)
            .map(|(name, len)| File {
                path: folder.path().join(name),
                len,
            })
            .collect();
        assert_eq!(walk(folder.path()).unwrap(), expected);
        assert_eq!(totals(folder.path()).unwrap(), (4, 6));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(walk(&folder.path().join("missing")).is_err());
    }
}
