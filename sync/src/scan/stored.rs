//! Stored files: the files of a site in a folder that has them by other names.

use std::path::PathBuf;

use super::Scan;
use super::virtual_files::{VirtualFile, VirtualFiles};
use crate::manifest::Row;
use crate::path::SitePath;

impl Scan {
    /// A scan of rows that are known, each with the place of its file below `place`. `None` if a
    /// path is there twice, or as a file and a folder.
    pub fn of_stored(
        place: PathBuf,
        rows: impl IntoIterator<Item = (Row, SitePath)>,
    ) -> Option<Self> {
        let mut files = VirtualFiles::default();
        let mut changes = Vec::new();
        for (row, stored) in rows {
            let file = VirtualFile::Declared(stored);
            files.insert(&row.path, file).ok()?;
            changes.push((row.path, Some(row.entry)));
        }
        Some(Self {
            place,
            files,
            changes,
            ..Self::default()
        })
    }
}
