//! A patch: the edit script that turns one manifest into another, in bytes proportional to it.
//!
//! Both sides hold the base, so a row that changes or goes is named by counting rows, not by its
//! path, and the path of a new row shares what it can with its neighbour.
//!
//! ```text
//! patch  = version media ops
//! media  = varint number of media types, each: varint length, bytes (in order of first use)
//! ops    = varint count, then each op: varint (skip * 8 + kind), then by kind
//!          skip counts the base rows passed since the op before
//! 0 remove    nothing: the row that stands there goes
//! 1 change    varint media (0: as before, else index + 1), varint size, 32 bytes blob id
//! 2 insert    key against the neighbour, varint media index, varint size, 32 bytes blob id
//! 3..7        unknown: kept for rows whose id the server derives from a pack
//! ```
//!
//! The neighbour of a new row is the last path before it: the base row passed last, or the row
//! inserted last, whichever is later.

use super::cursor::{Cursor, Head};
use super::diff::Change;
use super::edit::Edit;
use super::error::ManifestError;
use super::node::{KeyWriter, MediaReader, MediaTable, read_key, read_media_table};
use super::row::{Entry, Row};
use super::source::NodeSource;
use crate::encode::{Malformed, Reader, write_varint};
use crate::id::{BlobId, Root};
use crate::limits::{BLOB_BYTES_MAX, FILES_MAX};
use crate::media::Media;
use crate::path::SitePath;

const VERSION: u8 = 1;
const KIND_BITS: u32 = 3;
const REMOVE: u64 = 0;
const CHANGE: u64 = 1;
const INSERT: u64 = 2;

/// Media types that one patch may name: more than the table of any site has.
const MEDIA_TYPES_MAX: usize = 1_024;

/// Encodes the changes that [`diff`](super::diff) found as a patch against the old manifest.
pub fn encode_patch(changes: &[Change]) -> Vec<u8> {
    let table = MediaTable::of(changes.iter().filter_map(new_media));
    let mut out = vec![VERSION];
    table.encode(&mut out);
    write_varint(&mut out, changes.len() as u64);
    let mut next_rank = 0;
    let mut inserted: Option<&SitePath> = None;
    for change in changes {
        let kind = match (&change.before, &change.after) {
            (Some(_), None) => REMOVE,
            (Some(_), Some(_)) => CHANGE,
            (None, _) => INSERT,
        };
        let skip = change.rank.saturating_sub(next_rank);
        write_varint(&mut out, skip << KIND_BITS | kind);
        next_rank = change.rank + u64::from(kind != INSERT);
        if kind == INSERT {
            let mut key = KeyWriter::default();
            let mut unwritten = Vec::new();
            if let Some(neighbour) = change.neighbour.as_ref().max(inserted) {
                key.write(neighbour, &mut unwritten);
            }
            key.write(&change.path, &mut out);
            inserted = Some(&change.path);
        }
        if let Some(entry) = &change.after {
            let index = new_media(change).and_then(|media| table.index(media));
            let media = match kind {
                CHANGE => index.map_or(0, |index| index + 1),
                _ => index.unwrap_or(0),
            };
            write_varint(&mut out, media);
            write_varint(&mut out, entry.size);
            out.extend_from_slice(entry.blob.as_bytes());
        }
    }
    out
}

/// The media type that a change has to name.
fn new_media(change: &Change) -> Option<&Media> {
    let after = change.after.as_ref()?;
    let before = change.before.as_ref();
    (before.map(|entry| &entry.media) != Some(&after.media)).then_some(&after.media)
}

/// Reads a patch against `base` as edits, in order. Reads O(ops x depth) nodes of the base.
pub fn decode_patch(
    bytes: &[u8],
    source: &impl NodeSource,
    base: Root,
) -> Result<Vec<Edit>, ManifestError> {
    let mut reader = Reader::new(bytes);
    match reader.byte().map_err(malformed)? {
        VERSION => {}
        value => {
            return Err(malformed(Malformed::Unknown {
                what: "patch version",
                value: value.into(),
            }));
        }
    }
    let types = read_media_table(&mut reader, MEDIA_TYPES_MAX)?;
    let most = FILES_MAX.min(reader.remaining() as u64);
    let count = reader
        .varint_up_to(most, "a patch's number of ops")
        .map_err(malformed)?;
    let mut ops = Ops {
        reader,
        types: MediaReader::new(types),
        cursor: Cursor::new(source, base)?,
        inserted: None,
        edits: Vec::with_capacity(count as usize),
    };
    for _ in 0..count {
        ops.read()?;
    }
    ops.types.end()?;
    ops.reader.end().map_err(malformed)?;
    Ok(ops.edits)
}

struct Ops<'a, S> {
    reader: Reader<'a>,
    types: MediaReader,
    cursor: Cursor<'a, S>,
    inserted: Option<SitePath>,
    edits: Vec<Edit>,
}

impl<S: NodeSource> Ops<'_, S> {
    fn read(&mut self) -> Result<(), ManifestError> {
        let op = self.reader.varint().map_err(malformed)?;
        let (skip, kind) = (op >> KIND_BITS, op & ((1 << KIND_BITS) - 1));
        let rank = self.cursor.rank().saturating_add(skip);
        self.cursor.seek_rank(rank)?;
        if self.cursor.rank() != rank {
            return Err(ManifestError::PatchMisfit(
                "it goes on behind the end of its base",
            ));
        }
        match kind {
            REMOVE => {
                let row = self.pass_row()?;
                self.edits.push(Edit {
                    path: row.path,
                    entry: None,
                });
            }
            CHANGE => {
                let row = self.pass_row()?;
                let entry = self.changed_entry(row.entry)?;
                self.edits.push(Edit {
                    path: row.path,
                    entry: Some(entry),
                });
            }
            INSERT => self.insert()?,
            value => {
                return Err(malformed(Malformed::Unknown {
                    what: "kind of patch op",
                    value,
                }));
            }
        }
        Ok(())
    }

    fn pass_row(&mut self) -> Result<Row, ManifestError> {
        let row = self.cursor.next_row()?;
        row.ok_or(ManifestError::PatchMisfit(
            "it changes a row behind the end of its base",
        ))
    }

    fn changed_entry(&mut self, before: Entry) -> Result<Entry, ManifestError> {
        let media = match self.reader.varint().map_err(malformed)? {
            0 => before.media,
            index => self.types.at(index - 1)?,
        };
        self.entry(media)
    }

    fn entry(&mut self, media: Media) -> Result<Entry, ManifestError> {
        let size = self
            .reader
            .varint_up_to(BLOB_BYTES_MAX, "a blob's size")
            .map_err(malformed)?;
        let blob = BlobId::from_bytes(self.reader.array().map_err(malformed)?);
        Ok(Entry { blob, size, media })
    }

    fn insert(&mut self) -> Result<(), ManifestError> {
        let neighbour = self.cursor.passed().max(self.inserted.as_ref());
        let path = read_key(&mut self.reader, neighbour)?;
        if let Some(Head::Row(next)) = self.cursor.head()
            && next.path <= path
        {
            return Err(ManifestError::PatchMisfit("a new row is not in order"));
        }
        let media = self.reader.varint().map_err(malformed)?;
        let media = self.types.at(media)?;
        let entry = self.entry(media)?;
        self.edits.push(Edit {
            path: path.clone(),
            entry: Some(entry),
        });
        self.inserted = Some(path);
        Ok(())
    }
}

fn malformed(source: Malformed) -> ManifestError {
    ManifestError::Malformed {
        what: "a patch",
        source,
    }
}
