//! Stat cache check: the properties that reads rely on, checked before the first read.

use super::StatCache;
use crate::limits::{BLOB_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX, SEGMENT_BYTES_MAX};
use crate::manifest::Totals;

impl StatCache {
    /// Checks the properties that reads rely on: folders form trees, and names are sorted segments.
    pub(super) fn is_consistent(&self) -> bool {
        let counts = self.0.counts;
        let names_at = counts.names_at();
        let Ok(names) = std::str::from_utf8(&self.0.bytes[names_at..names_at + counts.names])
        else {
            return false;
        };
        if names
            .bytes()
            .any(|b| b < 0x20 || b == 0x7f || b == b'/' || b == b'\\')
        {
            return false;
        }
        self.has_shape(names) && self.has_sums()
    }

    fn has_shape(&self, names: &str) -> bool {
        let counts = self.0.counts;
        let (mut next_folder, mut next_file) = (counts.trees, 0);
        // Per folder: bytes of its path with a slash, and depth.
        let mut prefix = vec![(0usize, 0usize); counts.folders];
        for index in 0..counts.folders {
            let folder = self.folder(index);
            let (children, files) = (folder.child_range(), folder.file_range());
            if children.start != next_folder || files.start != next_file {
                return false;
            }
            (next_folder, next_file) = (children.end, files.end);
            if next_folder > counts.folders || next_file > counts.files {
                return false;
            }
            if index < counts.trees {
                // The first tree may have no name; the others always have one.
                let (start, len) = folder.name_range();
                let top = index == 0 && len == 0;
                if !top && !is_segment(names, start, len) {
                    return false;
                }
                prefix[index] = if top { (0, 0) } else { (len + 1, 1) };
            }
            let (bytes, depth) = prefix[index];
            let room = PATH_BYTES_MAX.saturating_sub(bytes);
            if depth >= PATH_DEPTH_MAX {
                return false;
            }
            for child in children.clone() {
                prefix[child] = (bytes + self.folder(child).name_range().1 + 1, depth + 1);
            }
            let folders = children.map(|child| self.folder(child).name_range());
            let files = files.map(|file| self.file(file).name_range());
            if !are_sorted(names, folders, room) || !are_sorted(names, files, room) {
                return false;
            }
        }
        next_folder == counts.folders && next_file == counts.files
    }

    fn has_sums(&self) -> bool {
        let counts = self.0.counts;
        let mut beneath = vec![Totals::default(); counts.folders];
        for index in (0..counts.folders).rev() {
            let folder = self.folder(index);
            let mut totals = Totals::default();
            for file in folder.files() {
                let size = file.size();
                if size > BLOB_BYTES_MAX || file.media_index() >= self.0.media.len() {
                    return false;
                }
                totals = totals.plus(Totals::of_file(size));
            }
            for child in folder.child_range() {
                totals = totals.plus(beneath[child]);
            }
            if totals != folder.totals() {
                return false;
            }
            beneath[index] = totals;
        }
        true
    }
}

fn are_sorted(names: &str, ranges: impl Iterator<Item = (usize, usize)>, room: usize) -> bool {
    let mut last = "";
    for (start, len) in ranges {
        if !is_segment(names, start, len) || len > room {
            return false;
        }
        let name = &names[start..start + len];
        if name <= last {
            return false;
        }
        last = name;
    }
    true
}

fn is_segment(names: &str, start: usize, len: usize) -> bool {
    let name = names.get(start..start.saturating_add(len));
    name.is_some_and(|name| (1..=SEGMENT_BYTES_MAX).contains(&len) && name != "." && name != "..")
}
