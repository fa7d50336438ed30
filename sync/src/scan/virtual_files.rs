//! Virtual files: files of a site that the folder does not hold under their paths.
//!
//! A generated file has its bytes in memory. A declared file is stored on disk under another path,
//! because a build's own lists name both.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::path::SitePath;

/// Where the bytes of a virtual file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VirtualFile {
    /// In memory.
    Generated(Bytes),
    /// In the file at this path below the top of the scanned folder.
    Declared(SitePath),
}

/// A folder that has virtual files, or folders with some.
#[derive(Debug, Default)]
struct VirtualFolder {
    files: BTreeMap<String, VirtualFile>,
    /// The indices of its folders.
    folders: BTreeMap<String, usize>,
}

/// The virtual files of a site, as a tree of folders.
#[derive(Debug)]
pub(super) struct VirtualFiles {
    /// The first is the top of the site.
    folders: Vec<VirtualFolder>,
    files: u64,
}

/// Why a path can't be a virtual file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clash {
    /// Another file has the path.
    Taken,
    /// The path is both a file and a folder.
    Kind,
}

impl Default for VirtualFiles {
    fn default() -> Self {
        Self {
            folders: vec![VirtualFolder::default()],
            files: 0,
        }
    }
}

impl VirtualFiles {
    /// The index of the site's top folder.
    pub(super) const TOP: usize = 0;

    pub(super) const fn len(&self) -> u64 {
        self.files
    }

    /// Adds a file. Adding the same file again changes nothing.
    pub(super) fn insert(&mut self, path: &SitePath, file: VirtualFile) -> Result<(), Clash> {
        self.check_kinds(path)?;
        let at = self.make_folder(path.folder());
        let files = &mut self.folders[at].files;
        match files.get(path.name()) {
            Some(known) if *known == file => return Ok(()),
            Some(_) => return Err(Clash::Taken),
            None => {}
        }
        files.insert(path.name().to_owned(), file);
        self.files += 1;
        Ok(())
    }

    fn check_kinds(&self, path: &SitePath) -> Result<(), Clash> {
        let is_folder = self.folder(path.as_str()).is_some();
        let is_below_file = path.folders().any(|above| self.file_at(above).is_some());
        if is_folder || is_below_file {
            return Err(Clash::Kind);
        }
        Ok(())
    }

    fn make_folder(&mut self, path: &str) -> usize {
        let mut at = Self::TOP;
        for name in segments(path) {
            let free = self.folders.len();
            at = *self.folders[at]
                .folders
                .entry(name.to_owned())
                .or_insert(free);
            if at == free {
                self.folders.push(VirtualFolder::default());
            }
        }
        at
    }

    /// The virtual file at a path.
    pub(super) fn find(&self, path: &SitePath) -> Option<&VirtualFile> {
        self.file_at(path.as_str())
    }

    fn file_at(&self, path: &str) -> Option<&VirtualFile> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.file(self.folder(folder)?, name)
    }

    /// The index of the folder at a path.
    pub(super) fn folder(&self, path: &str) -> Option<usize> {
        segments(path).try_fold(Self::TOP, |at, name| self.subfolder(at, name))
    }

    /// The index of a folder's folder.
    pub(super) fn subfolder(&self, at: usize, name: &str) -> Option<usize> {
        self.folders.get(at)?.folders.get(name).copied()
    }

    /// A folder's file.
    pub(super) fn file(&self, at: usize, name: &str) -> Option<&VirtualFile> {
        self.folders.get(at)?.files.get(name)
    }

    /// The names of a folder's files.
    pub(super) fn file_names(&self, at: usize) -> impl Iterator<Item = &str> {
        let folder = self.folders.get(at).into_iter();
        folder.flat_map(|folder| folder.files.keys().map(String::as_str))
    }

    /// The names of a folder's folders.
    pub(super) fn folder_names(&self, at: usize) -> impl Iterator<Item = &str> {
        let folder = self.folders.get(at).into_iter();
        folder.flat_map(|folder| folder.folders.keys().map(String::as_str))
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SitePath {
        SitePath::parse(text).unwrap()
    }

    #[test]
    fn virtual_files_have_one_source_and_one_kind() {
        let declared = |text: &str| VirtualFile::Declared(path(text));
        let mut files = VirtualFiles::default();
        for (at, file, expected) in [
            ("a/b", declared("x"), Ok(())),
            ("a/b", declared("x"), Ok(())),
            ("a/b", declared("y"), Err(Clash::Taken)),
            (
                "a/b",
                VirtualFile::Generated(Bytes::new()),
                Err(Clash::Taken),
            ),
            ("a", declared("x"), Err(Clash::Kind)),
            ("a/b/c", declared("x"), Err(Clash::Kind)),
            ("a/c", declared("x"), Ok(())),
            ("top", declared("x"), Ok(())),
        ] {
            assert_eq!(files.insert(&path(at), file), expected, "{at}");
        }
        assert_eq!(files.len(), 3);
        assert_eq!(files.find(&path("a/c")), Some(&declared("x")));
        assert_eq!(files.find(&path("a/d")), None);
        let top = VirtualFiles::TOP;
        assert_eq!(files.folder_names(top).collect::<Vec<_>>(), ["a"]);
        assert_eq!(files.file_names(top).collect::<Vec<_>>(), ["top"]);
    }
}
