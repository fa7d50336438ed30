//! Flat upload, the protocol of most hosts: a list of all files with hashes, then each missing
//! file.
//!
//! The client sends each content once, whole. It sends the list even without changes, and the host
//! answers with the missing hashes. Request heads, and the bytes of a file's own form or URL, do
//! not count. The counted bytes are really built and compressed. The forms are those of hosts:
//!
//! | coding | like | requests for files |
//! |---|---|---|
//! | raw | Netlify, Vercel | one each |
//! | base64 | Cloudflare Pages (wrangler), in buckets of 2,000 files or 40 MiB | one a bucket |
//! | gzip | Firebase Hosting, level 9 | one each |
//! | zstd | neither; the list is compressed as well | one each |

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzEncoder;
use pmx_core::codec::{Encoder, Level};
use pmx_core::id::BlobId;
use pmx_core::limits::PART_BYTES;
use pmx_sync::manifest::Row;
use rayon::prelude::*;

use super::report::Cost;
use super::{Contender, Version};
use crate::error::Failure;

/// Characters of a hash in the list.
const HASH_CHARS: usize = 32;

/// Files of a bucket, and the bytes of their contents (wrangler's `pages/constants.ts`).
const BUCKET_FILES_MAX: u64 = 2000;
const BUCKET_BYTES_MAX: u64 = 40 * 1024 * 1024;

/// Requests beside those for files: the list, and the end.
const FRAME_REQUESTS: u64 = 2;

/// The coding of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileCoding {
    Raw,
    Base64,
    Gzip,
    Zstd,
}

/// A host with a list of files.
pub(super) struct Flat {
    coding: FileCoding,
    held: BTreeSet<BlobId>,
}

impl Flat {
    /// A host without any content.
    pub(super) const fn with(coding: FileCoding) -> Self {
        Self {
            coding,
            held: BTreeSet::new(),
        }
    }

    /// The contents that the host lacks, each once.
    fn missing<'a>(&self, rows: &'a [Row]) -> Vec<&'a Row> {
        let mut seen = BTreeSet::new();
        let lacks = |row: &&Row| {
            let blob = row.entry.blob;
            !self.held.contains(&blob) && seen.insert(blob)
        };
        rows.iter().filter(lacks).collect()
    }

    fn list_bytes(&self, rows: &[Row]) -> u64 {
        let list = list(rows);
        let bytes = match self.coding {
            FileCoding::Raw | FileCoding::Base64 | FileCoding::Gzip => list.len(),
            FileCoding::Zstd => Encoder::new().frame(list.as_bytes(), Level::WIRE).len(),
        };
        bytes as u64
    }
}

impl Contender for Flat {
    fn publish(&mut self, version: &Version<'_>) -> Result<Cost, Failure> {
        let missing = self.missing(version.rows);
        let sizes = missing
            .par_iter()
            .map_init(Encoder::new, |encoder, row| {
                let file = version.folder.join(row.path.as_str());
                self.coding
                    .bytes(row, &file, encoder)
                    .map_err(|error| Failure::local("can't read", &file, &error))
            })
            .collect::<Result<Vec<u64>, Failure>>()?;
        let files: u64 = sizes.iter().sum();
        let requests = match self.coding {
            FileCoding::Base64 => buckets(missing.iter().map(|row| row.entry.size)),
            FileCoding::Raw | FileCoding::Gzip | FileCoding::Zstd => missing.len() as u64,
        };
        let cost = Cost {
            sent: self.list_bytes(version.rows) + files,
            received: answer_bytes(missing.len()),
            requests: Some(FRAME_REQUESTS + requests),
            files: Some(files),
            bodies: None,
        };
        self.held.extend(missing.iter().map(|row| row.entry.blob));
        Ok(cost)
    }
}

impl FileCoding {
    /// The bytes of a file on the wire.
    fn bytes(self, row: &Row, file: &Path, encoder: &mut Encoder) -> io::Result<u64> {
        match self {
            Self::Raw => Ok(row.entry.size),
            Self::Base64 => Ok(base64_bytes(row)),
            Self::Gzip => {
                let mut packed = GzEncoder::new(File::open(file)?, Compression::best());
                io::copy(&mut packed, &mut io::sink())
            }
            Self::Zstd => zstd_bytes(file, encoder),
        }
    }
}

/// A file in a bucket, with the comma after it.
fn base64_bytes(row: &Row) -> u64 {
    let form = r#"{"key":"","value":"","metadata":{"contentType":""},"base64":true},"#;
    let names = form.len() + HASH_CHARS + row.entry.media.essence().len();
    names as u64 + base64_chars(row.entry.size)
}

/// RFC 4648, section 4: four characters for three bytes, padded.
const fn base64_chars(bytes: u64) -> u64 {
    bytes.div_ceil(3) * 4
}

/// The zstd size of a file. Large files are compressed in pieces, so that memory is bounded.
fn zstd_bytes(file: &Path, encoder: &mut Encoder) -> io::Result<u64> {
    let mut file = File::open(file)?;
    let mut piece = Vec::new();
    let mut bytes = 0;
    loop {
        piece.clear();
        let read = file.by_ref().take(PART_BYTES).read_to_end(&mut piece)?;
        if read == 0 && bytes > 0 {
            return Ok(bytes);
        }
        bytes += encoder.frame(&piece, Level::WIRE).len() as u64;
        if (read as u64) < PART_BYTES {
            return Ok(bytes);
        }
    }
}

/// The number of buckets for files of these sizes, filled in order.
fn buckets(sizes: impl Iterator<Item = u64>) -> u64 {
    let (mut buckets, mut files, mut bytes) = (0, 0, 0);
    for size in sizes {
        let is_full = files == BUCKET_FILES_MAX || bytes + size > BUCKET_BYTES_MAX;
        if buckets == 0 || is_full {
            (buckets, files, bytes) = (buckets + 1, 0, 0);
        }
        files += 1;
        bytes += size;
    }
    buckets
}

/// The list, as wrangler sends it.
fn list(rows: &[Row]) -> String {
    let mut list = String::from("{\"manifest\":{");
    for (at, Row { path, entry }) in rows.iter().enumerate() {
        let path = serde_json::Value::from(format!("/{}", path.as_str()));
        let hash = &entry.blob.to_hex()[..HASH_CHARS];
        let comma = if at == 0 { "" } else { "," };
        let size = entry.size;
        let _ = write!(
            list,
            "{comma}{path}:{{\"hash\":\"{hash}\",\"size\":{size}}}"
        );
    }
    list.push_str("}}");
    list
}

/// The answer: a JSON list of hashes.
const fn answer_bytes(missing: usize) -> u64 {
    let commas = missing.saturating_sub(1);
    (2 + missing * (HASH_CHARS + 2) + commas) as u64
}

#[cfg(test)]
mod tests {
    use pmx_sync::manifest::Entry;
    use pmx_sync::media::Media;
    use pmx_sync::path::SitePath;

    use super::*;

    fn site(folder: &Path, files: &[(&str, &[u8])]) -> Vec<Row> {
        let row = |(path, bytes): &(&str, &[u8])| {
            std::fs::write(folder.join(path), bytes).unwrap();
            Row {
                path: SitePath::parse(path).unwrap(),
                entry: Entry {
                    blob: BlobId::of(bytes),
                    size: bytes.len() as u64,
                    media: Media::parse("text/html; charset=utf-8").unwrap(),
                },
            }
        };
        files.iter().map(row).collect()
    }

    #[test]
    fn base64_takes_four_characters_for_three_bytes() {
        for (bytes, chars) in [
            (0, 0),
            (1, 4),
            (2, 4),
            (3, 4),
            (4, 8),
            (3_000_000, 4_000_000),
        ] {
            assert_eq!(base64_chars(bytes), chars);
        }
    }

    #[test]
    fn bucket_is_full_by_files_or_by_bytes() {
        let mib = 1024 * 1024;
        for (sizes, expected) in [
            (vec![], 0),
            (vec![0], 1),
            (vec![1; 2000], 1),
            (vec![1; 2001], 2),
            (vec![40 * mib], 1),
            (vec![41 * mib], 1),
            (vec![41 * mib, 1], 2),
            (vec![20 * mib, 20 * mib, 1], 2),
            (vec![39 * mib, 2 * mib, 39 * mib], 3),
        ] {
            assert_eq!(buckets(sizes.iter().copied()), expected, "{sizes:?}");
        }
    }

    #[test]
    fn bodies_have_the_lengths_that_are_computed() {
        let folder = tempfile::tempdir().unwrap();
        let rows = site(folder.path(), &[("a \"b\".html", b"hello"), ("c", b"")]);
        let parsed: serde_json::Value = serde_json::from_str(&list(&rows)).unwrap();
        assert_eq!(parsed["manifest"]["/a \"b\".html"]["size"], 5);
        assert_eq!(parsed["manifest"].as_object().unwrap().len(), 2);
        let bucket = serde_json::json!({
            "key": "0".repeat(HASH_CHARS), "value": "aGVsbG8=",
            "metadata": { "contentType": "text/html" }, "base64": true,
        });
        assert_eq!(base64_bytes(&rows[0]), bucket.to_string().len() as u64 + 1);
        for missing in 0..3 {
            let hashes = vec!["0".repeat(HASH_CHARS); missing];
            let answer = serde_json::to_string(&hashes).unwrap();
            assert_eq!(answer_bytes(missing), answer.len() as u64);
        }
    }

    #[test]
    fn content_travels_once_and_the_list_always() {
        let folder = tempfile::tempdir().unwrap();
        let long = b"pages of one site resemble each other; ".repeat(100);
        let rows = site(folder.path(), &[("a", &long), ("b", &long), ("c", b"x")]);
        let more = site(folder.path(), &[("a", &long), ("b", &long), ("c", b"yy")]);
        let (raw, list_bytes) = (long.len() as u64 + 1, list(&rows).len() as u64);
        let version = |rows| Version {
            rows,
            folder: folder.path(),
        };
        for coding in [
            FileCoding::Raw,
            FileCoding::Base64,
            FileCoding::Gzip,
            FileCoding::Zstd,
        ] {
            let mut host = Flat::with(coding);
            let first = host.publish(&version(&rows)).unwrap();
            let requests = if coding == FileCoding::Base64 { 3 } else { 4 };
            assert_eq!(first.requests, Some(requests), "{coding:?}");
            let files = first.files.unwrap();
            let is_smaller = matches!(coding, FileCoding::Gzip | FileCoding::Zstd);
            assert_eq!(files < raw, is_smaller, "{coding:?}: {files}");
            let update = host.publish(&version(&more)).unwrap();
            assert_eq!(update.requests, Some(3));
            let again = host.publish(&version(&more)).unwrap();
            assert_eq!((again.requests, again.files), (Some(2), Some(0)));
            assert_eq!(again.received, 2);
            if coding == FileCoding::Raw {
                assert_eq!(first.sent, list_bytes + raw);
                assert_eq!(update.files, Some(2));
                assert_eq!(again.sent, list_bytes);
            }
        }
    }

    #[test]
    fn large_files_are_compressed_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        for (len, most) in [(0, 20), (PART_BYTES, 2_000), (PART_BYTES + 1, 2_000)] {
            let file = folder.path().join("file");
            std::fs::write(&file, vec![7; len as usize]).unwrap();
            let bytes = zstd_bytes(&file, &mut Encoder::new()).unwrap();
            assert!(bytes > 0 && bytes < most, "{len} bytes became {bytes}");
        }
    }
}
