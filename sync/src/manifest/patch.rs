//! Manifest patch: the edit script from one manifest to another, in bytes proportional to it.
//!
//! Both sides have the base, so a patch names a changed or removed row by counting rows, not by its
//! path. The path of a new row shares a prefix with its neighbour.
//!
//! ```text
//! patch  = version media ops
//! media  = varint number of media types, each: varint length, bytes (in order of first use)
//! ops    = varint count, then each op: varint (skip * 8 + kind), then by kind
//!          skip counts the base rows passed since the op before
//! 0 remove    nothing: the patch removes the base row at this position
//! 1 change    media (varint, 0: as before, else index + 1), then the blob, literal
//! 2 insert    key against the neighbour, varint media index, then the blob, literal
//! 3 change    ... uploaded
//! 4 insert    ... uploaded
//! 5 change    ... reused by a row of the base
//! 6 insert    ... reused by a row of the base
//! literal     varint size, 32 bytes blob id
//! uploaded    signed varint: index of the blob in the uploaded packs, relative to the index after
//!             the previous one
//! reused      signed varint: rank of the row of the base, relative in the same way
//! signed n    varint: 2n, or -2n - 1 if n is negative
//! ```
//!
//! The neighbour of a new row is the last path before it: the last passed base row or the last
//! inserted row, whichever is later.
//!
//! Ids are incompressible, so a patch omits them where possible. The receiver hashes uploaded blobs
//! anyway, and finds moved blobs in the base. A change of every page then takes a few bytes per
//! row, nearly all of them equal. The root proves that the ids are the sender's.

use std::collections::HashMap;

use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::id::{BlobId, Root};
use pmx_core::limits::EXACT_INTEGER_MAX;

use super::cursor::{Cursor, CursorItem};
use super::diff::Change;
use super::edit::Edit;
use super::error::ManifestError;
use super::node::{KeyWriter, MediaReader, MediaTable, read_key, read_media_table};
use super::row::{Entry, Row};
use super::source::NodeSource;
use crate::limits::{BLOB_BYTES_MAX, FILES_MAX};
use crate::media::Media;
use crate::path::SitePath;

const VERSION: u8 = 1;
const KIND_BITS: u32 = 3;
const REMOVE: u64 = 0;
const CHANGE: u64 = 1;
const INSERT: u64 = 2;
const CHANGE_UPLOADED: u64 = 3;
const INSERT_UPLOADED: u64 = 4;
const CHANGE_REUSED: u64 = 5;
const INSERT_REUSED: u64 = 6;

/// Media types that one patch may name: more than the table of any site has.
const MEDIA_TYPES_MAX: usize = 1_024;

/// Where the receiver finds blobs whose ids the patch leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// Uploaded blobs: their indices among the blobs of the packs, in the order of both.
    pub uploaded: HashMap<BlobId, u64>,
    /// Blobs of the base: the rank of a row that holds each.
    pub reused: HashMap<BlobId, u64>,
}

/// Encodes the changes that [`diff`](super::diff) found as a patch against the old manifest.
pub fn encode_patch(changes: &[Change]) -> Vec<u8> {
    encode_patch_from(changes, &Origins::default())
}

/// Like [`encode_patch`], without the ids of blobs with known origins.
pub fn encode_patch_from(changes: &[Change], origins: &Origins) -> Vec<u8> {
    let table = MediaTable::of(changes.iter().filter_map(new_media));
    let mut out = vec![VERSION];
    table.encode(&mut out);
    write_varint(&mut out, changes.len() as u64);
    let mut writer = Writer {
        out,
        table,
        origins,
        next_rank: 0,
        next_uploaded: 0,
        next_reused: 0,
        inserted: None,
    };
    for change in changes {
        writer.write(change);
    }
    writer.out
}

/// Where the receiver finds a blob.
enum Origin {
    Literal,
    Uploaded(u64),
    Reused(u64),
}

struct Writer<'a> {
    out: Vec<u8>,
    table: MediaTable<'a>,
    origins: &'a Origins,
    next_rank: u64,
    next_uploaded: u64,
    next_reused: u64,
    inserted: Option<&'a SitePath>,
}

impl<'a> Writer<'a> {
    fn write(&mut self, change: &'a Change) {
        let is_insert = change.before.is_none();
        let skip = change.rank.saturating_sub(self.next_rank);
        self.next_rank = change.rank + u64::from(!is_insert);
        let Some(entry) = &change.after else {
            return write_varint(&mut self.out, skip << KIND_BITS | REMOVE);
        };
        let origin = self.origin(&entry.blob);
        let kind = match (is_insert, &origin) {
            (false, Origin::Literal) => CHANGE,
            (true, Origin::Literal) => INSERT,
            (false, Origin::Uploaded(_)) => CHANGE_UPLOADED,
            (true, Origin::Uploaded(_)) => INSERT_UPLOADED,
            (false, Origin::Reused(_)) => CHANGE_REUSED,
            (true, Origin::Reused(_)) => INSERT_REUSED,
        };
        write_varint(&mut self.out, skip << KIND_BITS | kind);
        if is_insert {
            self.write_key(change);
        }
        let index = new_media(change).and_then(|media| self.table.index(media));
        let media = if is_insert {
            index.unwrap_or(0)
        } else {
            index.map_or(0, |index| index + 1)
        };
        write_varint(&mut self.out, media);
        match origin {
            Origin::Literal => {
                write_varint(&mut self.out, entry.size);
                self.out.extend_from_slice(entry.blob.as_bytes());
            }
            Origin::Uploaded(at) => write_step(&mut self.out, &mut self.next_uploaded, at),
            Origin::Reused(rank) => write_step(&mut self.out, &mut self.next_reused, rank),
        }
    }

    fn origin(&self, blob: &BlobId) -> Origin {
        match (
            self.origins.uploaded.get(blob),
            self.origins.reused.get(blob),
        ) {
            (Some(at), _) => Origin::Uploaded(*at),
            (None, Some(rank)) => Origin::Reused(*rank),
            (None, None) => Origin::Literal,
        }
    }

    fn write_key(&mut self, change: &'a Change) {
        let mut key = KeyWriter::default();
        let mut unwritten = Vec::new();
        if let Some(neighbour) = change.neighbour.as_ref().max(self.inserted) {
            key.write(neighbour, &mut unwritten);
        }
        key.write(&change.path, &mut self.out);
        self.inserted = Some(&change.path);
    }
}

/// Writes the distance of `at` from the expected index, and then expects the one after `at`.
fn write_step(out: &mut Vec<u8>, next: &mut u64, at: u64) {
    let step = match at.checked_sub(*next) {
        Some(ahead) => ahead << 1,
        None => ((*next - at) << 1) - 1,
    };
    write_varint(out, step);
    *next = at + 1;
}

/// Reads what [`write_step`] wrote.
fn read_step(reader: &mut ByteReader<'_>, next: &mut u64) -> Result<u64, ManifestError> {
    let step = reader.varint().map_err(malformed)?;
    let at = match step & 1 {
        0 => next.checked_add(step >> 1),
        _ => next.checked_sub((step >> 1) + 1),
    };
    let at = at.filter(|at| *at <= EXACT_INTEGER_MAX);
    let at = at.ok_or(ManifestError::PatchMisfit(
        "it names a blob before the first or far behind the last",
    ))?;
    *next = at + 1;
    Ok(at)
}

/// The media type, if a change must name it.
fn new_media(change: &Change) -> Option<&Media> {
    let after = change.after.as_ref()?;
    let before = change.before.as_ref();
    (before.map(|entry| &entry.media) != Some(&after.media)).then_some(&after.media)
}

/// Reads a patch against `base` as edits, in order. `uploaded` has the uploaded blobs, each with
/// its size. Reads O(ops x depth) nodes of the base.
pub fn decode_patch(
    bytes: &[u8],
    source: &impl NodeSource,
    base: Root,
    uploaded: &[(BlobId, u64)],
) -> Result<Vec<Edit>, ManifestError> {
    let mut reader = ByteReader::new(bytes);
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
        uploaded,
        next_uploaded: 0,
        reused: BaseRows {
            source,
            base,
            cursor: None,
        },
        next_reused: 0,
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
    reader: ByteReader<'a>,
    types: MediaReader,
    cursor: Cursor<'a, S>,
    inserted: Option<SitePath>,
    uploaded: &'a [(BlobId, u64)],
    next_uploaded: u64,
    reused: BaseRows<'a, S>,
    next_reused: u64,
    edits: Vec<Edit>,
}

/// The source of a row's blob in an op.
#[derive(Debug, Clone, Copy)]
enum BlobSource {
    Literal,
    Uploaded,
    Reused,
}

impl<S: NodeSource> Ops<'_, S> {
    fn read(&mut self) -> Result<(), ManifestError> {
        let op = self.reader.varint().map_err(malformed)?;
        let (skip, kind) = (op >> KIND_BITS, op & ((1 << KIND_BITS) - 1));
        let rank = self.cursor.rank().saturating_add(skip);
        self.cursor.seek_rank(rank)?;
        if self.cursor.rank() != rank {
            return Err(ManifestError::PatchMisfit(
                "it continues past the end of its base",
            ));
        }
        match kind {
            REMOVE => {
                let row = self.pass_row()?;
                self.edits.push(Edit {
                    path: row.path,
                    entry: None,
                });
                Ok(())
            }
            CHANGE => self.change(BlobSource::Literal),
            CHANGE_UPLOADED => self.change(BlobSource::Uploaded),
            CHANGE_REUSED => self.change(BlobSource::Reused),
            INSERT => self.insert(BlobSource::Literal),
            INSERT_UPLOADED => self.insert(BlobSource::Uploaded),
            INSERT_REUSED => self.insert(BlobSource::Reused),
            value => Err(malformed(Malformed::Unknown {
                what: "kind of patch op",
                value,
            })),
        }
    }

    fn pass_row(&mut self) -> Result<Row, ManifestError> {
        let row = self.cursor.next_row()?;
        row.ok_or(ManifestError::PatchMisfit(
            "it changes a row behind the end of its base",
        ))
    }

    fn change(&mut self, from: BlobSource) -> Result<(), ManifestError> {
        let Row { path, entry } = self.pass_row()?;
        let media = match self.reader.varint().map_err(malformed)? {
            0 => entry.media,
            index => self.types.at(index - 1)?,
        };
        let entry = Some(self.entry(media, from)?);
        self.edits.push(Edit { path, entry });
        Ok(())
    }

    fn entry(&mut self, media: Media, from: BlobSource) -> Result<Entry, ManifestError> {
        let (blob, size) = match from {
            BlobSource::Literal => {
                let size = self.reader.varint_up_to(BLOB_BYTES_MAX, "a blob's size");
                let size = size.map_err(malformed)?;
                let blob = BlobId::from_bytes(self.reader.array().map_err(malformed)?);
                (blob, size)
            }
            BlobSource::Uploaded => {
                let at = read_step(&mut self.reader, &mut self.next_uploaded)?;
                *self
                    .uploaded
                    .get(at as usize)
                    .ok_or(ManifestError::PatchMisfit(
                        "it names more blobs than came along",
                    ))?
            }
            BlobSource::Reused => {
                let rank = read_step(&mut self.reader, &mut self.next_reused)?;
                let entry = self.reused.row(rank)?.entry;
                (entry.blob, entry.size)
            }
        };
        Ok(Entry { blob, size, media })
    }

    fn insert(&mut self, from: BlobSource) -> Result<(), ManifestError> {
        let neighbour = self.cursor.passed().max(self.inserted.as_ref());
        let path = read_key(&mut self.reader, neighbour)?;
        if let Some(CursorItem::Row(next)) = self.cursor.head()
            && next.path <= path
        {
            return Err(ManifestError::PatchMisfit("a new row is not in order"));
        }
        let media = self.reader.varint().map_err(malformed)?;
        let media = self.types.at(media)?;
        let entry = self.entry(media, from)?;
        self.edits.push(Edit {
            path: path.clone(),
            entry: Some(entry),
        });
        self.inserted = Some(path);
        Ok(())
    }
}

/// Rows of the base by their ranks, mostly in order.
struct BaseRows<'a, S> {
    source: &'a S,
    base: Root,
    cursor: Option<Cursor<'a, S>>,
}

impl<S: NodeSource> BaseRows<'_, S> {
    fn row(&mut self, rank: u64) -> Result<Row, ManifestError> {
        let cursor = self.cursor.take().filter(|cursor| cursor.rank() <= rank);
        let mut cursor = match cursor {
            Some(cursor) => cursor,
            None => Cursor::new(self.source, self.base)?,
        };
        cursor.seek_rank(rank)?;
        let row = cursor.next_row()?;
        self.cursor = Some(cursor);
        row.ok_or(ManifestError::PatchMisfit(
            "it names a row behind the end of its base",
        ))
    }
}

fn malformed(source: Malformed) -> ManifestError {
    ManifestError::Malformed {
        what: "a patch",
        source,
    }
}
