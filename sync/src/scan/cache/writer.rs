//! Stat cache writer: all folders in breadth-first order, then their files.

use pmx_core::id::Root;

use super::super::stat::Stat;
use super::{CachedFolder, FILE, FOLDER, HEAD, MAGIC, SUMMED, mac, read};
use crate::manifest::{Entry, Totals};
use crate::media::Media;

/// Head of a cache: all data but its trees.
#[derive(Debug, Clone, Copy)]
pub(in crate::scan) struct Head {
    pub(in crate::scan) binding: [u8; 32],
    pub(in crate::scan) root: Root,
    pub(in crate::scan) checked: [u8; 32],
    pub(in crate::scan) started: i64,
    pub(in crate::scan) trees: u32,
}

/// Writes a cache: first all folders in breadth-first order, each followed by its files.
#[derive(Debug, Default)]
pub(in crate::scan) struct Writer {
    folders: Vec<u8>,
    files: Vec<u8>,
    names: Vec<u8>,
    media: Vec<Media>,
    folder_count: u32,
    file_count: u32,
    /// The indices in `media` of the media types of the copied cache.
    copied_media: Vec<Option<u16>>,
}

impl Writer {
    /// Adds a folder, whose children start at index `first_child`.
    pub(in crate::scan) fn folder(
        &mut self,
        name: &str,
        first_child: u32,
        children: u32,
        totals: Totals,
    ) {
        let start = self.name(name);
        for field in [
            start,
            name.len() as u32,
            first_child,
            children,
            self.file_count,
            0,
        ] {
            self.folders.extend_from_slice(&field.to_le_bytes());
        }
        self.folders.extend_from_slice(&totals.files.to_le_bytes());
        self.folders.extend_from_slice(&totals.bytes.to_le_bytes());
        self.folder_count += 1;
    }

    /// Adds a file to the last folder.
    pub(in crate::scan) fn file(&mut self, name: &str, stat: &Stat, entry: &Entry) {
        let start = self.name(name);
        let media = self.media_index(&entry.media);
        for field in [
            stat.size,
            stat.mtime.cast_unsigned(),
            stat.ctime.cast_unsigned(),
            stat.ino,
        ] {
            self.files.extend_from_slice(&field.to_le_bytes());
        }
        self.files.extend_from_slice(entry.blob.as_bytes());
        self.files.extend_from_slice(&start.to_le_bytes());
        self.files
            .extend_from_slice(&(name.len() as u16).to_le_bytes());
        self.files.extend_from_slice(&media.to_le_bytes());
        self.count(1);
    }

    /// Adds all files of a cached folder to the last folder. All calls MUST be for the same cache.
    pub(in crate::scan) fn copy_files(&mut self, folder: &CachedFolder<'_>) {
        let known = &folder.cache.0;
        self.copied_media.resize(known.media.len(), None);
        let files = folder.files();
        let count = files.len() as u32;
        self.files.reserve(files.len() * FILE);
        for file in files {
            let start = self.names.len() as u32;
            self.names.extend_from_slice(file.name_bytes());
            let media = self.copied_media_index(file.media_index(), &known.media);
            let mut record: [u8; FILE] = file.cache.array(file.at);
            record[64..68].copy_from_slice(&start.to_le_bytes());
            record[70..].copy_from_slice(&media.to_le_bytes());
            self.files.extend_from_slice(&record);
        }
        self.count(count);
    }

    fn copied_media_index(&mut self, index: usize, known: &[Media]) -> u16 {
        if let Some(Some(copied)) = self.copied_media.get(index) {
            return *copied;
        }
        let media = known.get(index).cloned();
        let copied = self.media_index(&media.unwrap_or_else(Media::unknown));
        if let Some(place) = self.copied_media.get_mut(index) {
            *place = Some(copied);
        }
        copied
    }

    /// Counts files of the last folder.
    fn count(&mut self, more: u32) {
        self.file_count += more;
        let count = self.folders.len() - FOLDER + 20;
        let files: u32 = u32::from_le_bytes(read(&self.folders, count)) + more;
        self.folders[count..count + 4].copy_from_slice(&files.to_le_bytes());
    }

    /// The bytes of the cache.
    pub(in crate::scan) fn finish(self, head: &Head, key: &[u8; 32]) -> Vec<u8> {
        let mut media = Vec::new();
        for one in &self.media {
            media.push(one.as_str().len() as u8);
            media.extend_from_slice(one.as_str().as_bytes());
        }
        let len = HEAD + self.folders.len() + self.files.len() + self.names.len() + media.len();
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 32]);
        out.extend_from_slice(&head.binding);
        out.extend_from_slice(head.root.as_bytes());
        out.extend_from_slice(&head.checked);
        out.extend_from_slice(&head.started.to_le_bytes());
        let (names, types) = (self.names.len() as u32, media.len() as u32);
        for count in [
            head.trees,
            self.folder_count,
            self.file_count,
            names,
            types,
            0,
        ] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for part in [&self.folders, &self.files, &self.names, &media] {
            out.extend_from_slice(part);
        }
        let mac = mac(key, &out);
        out[8..SUMMED].copy_from_slice(mac.as_bytes());
        out
    }

    fn name(&mut self, name: &str) -> u32 {
        let start = self.names.len() as u32;
        self.names.extend_from_slice(name.as_bytes());
        start
    }

    fn media_index(&mut self, media: &Media) -> u16 {
        let found = self.media.iter().position(|known| known == media);
        found.unwrap_or_else(|| {
            self.media.push(media.clone());
            self.media.len() - 1
        }) as u16
    }
}
