//! Manifest node: up to 512 rows in the order of their paths, and its canonical bytes.
//!
//! ```text
//! node     = version level count body
//! version  = 1 byte, 1
//! level    = 1 byte, 0 for a leaf
//! count    = varint, rows
//! body     = leaf | interior
//! leaf     = varint number of media types, each: varint length, bytes (in order of first use)
//!            then each row: key, varint media index, varint size, 32 bytes blob id
//! interior = each row: key, varint files, varint bytes, 32 bytes node id
//! key      = varint bytes shared with the key before, varint length of the rest, the rest
//! ```
//!
//! A decoder refuses all other encodings: a shared length that is not the longest, keys out of
//! order, trailing bytes. A media type must not be unused, unordered or duplicate.

use std::sync::Arc;

use pmx_core::encode::{ByteReader, Malformed, write_bytes, write_varint};
use pmx_core::id::{BlobId, NodeId};
use pmx_core::limits::EXACT_INTEGER_MAX;

use super::boundary;
use super::error::ManifestError;
use super::row::{Child, Entry, Row, Totals};
use crate::limits::{
    BLOB_BYTES_MAX, FILES_MAX, LEVELS_MAX, MEDIA_BYTES_MAX, NODE_BYTES_MAX, NODE_ROWS_MAX,
    PATH_BYTES_MAX,
};
use crate::media::Media;
use crate::path::SitePath;

const VERSION: u8 = 1;

/// A node of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Files.
    Leaf(Vec<Row>),
    /// Subtrees of the level below.
    Interior {
        /// Level of the node.
        level: u8,
        /// The subtrees.
        children: Vec<Child>,
    },
}

impl Node {
    /// The node's level: 0 for a leaf.
    pub const fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Interior { level, .. } => *level,
        }
    }

    /// Rows of this node.
    pub const fn len(&self) -> usize {
        match self {
            Self::Leaf(rows) => rows.len(),
            Self::Interior { children, .. } => children.len(),
        }
    }

    /// Whether the node has no rows: only the root of an empty site.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last path beneath the node.
    pub fn last(&self) -> Option<&SitePath> {
        match self {
            Self::Leaf(rows) => rows.last().map(|row| &row.path),
            Self::Interior { children, .. } => children.last().map(|child| &child.last),
        }
    }

    /// Files and bytes beneath the node.
    pub fn totals(&self) -> Totals {
        match self {
            Self::Leaf(rows) => rows.iter().fold(Totals::default(), |sum, row| {
                sum.plus(Totals::of_file(row.entry.size))
            }),
            Self::Interior { children, .. } => children
                .iter()
                .fold(Totals::default(), |sum, child| sum.plus(child.totals)),
        }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.len() * 80);
        out.push(VERSION);
        out.push(self.level());
        write_varint(&mut out, self.len() as u64);
        match self {
            Self::Leaf(rows) => encode_leaf(rows, &mut out),
            Self::Interior { children, .. } => encode_interior(children, &mut out),
        }
        out
    }

    /// Reads canonical bytes from the process's own storage, which were hashed before.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > NODE_BYTES_MAX {
            let (value, max) = (bytes.len() as u64, NODE_BYTES_MAX as u64);
            return Err(ManifestError::TooLarge {
                what: "a node's bytes are",
                value,
                max,
            });
        }
        let mut reader = ByteReader::new(bytes);
        match reader.byte().map_err(malformed)? {
            VERSION => {}
            value => {
                let unknown = Malformed::Unknown {
                    what: "node version",
                    value: value.into(),
                };
                return Err(malformed(unknown));
            }
        }
        let level = reader.byte().map_err(malformed)?;
        let count = reader.varint_up_to(NODE_ROWS_MAX as u64, "a node's row count");
        let count = count.map_err(malformed)? as usize;
        let node = match level {
            0 => Self::Leaf(decode_leaf(&mut reader, count)?),
            1..=LEVELS_MAX if count > 0 => Self::Interior {
                level,
                children: decode_interior(&mut reader, count)?,
            },
            _ => {
                return Err(malformed(Malformed::NotCanonical(
                    "level or row count of a node",
                )));
            }
        };
        reader.end().map_err(malformed)?;
        Ok(node)
    }

    /// Verifies bytes with a claimed id: hashes and reads them, and checks that the node should not
    /// have ended before its last row.
    pub fn verify(bytes: &[u8], claimed: NodeId) -> Result<Self, ManifestError> {
        if NodeId::of(bytes) != claimed {
            return Err(ManifestError::WrongId(claimed));
        }
        let node = Self::decode(bytes)?;
        if node
            .keys()
            .rev()
            .skip(1)
            .any(|key| boundary::ends(key, node.level()))
        {
            let why = "it continues after a key that ends a node";
            return Err(ManifestError::Misplaced { id: claimed, why });
        }
        Ok(node)
    }

    /// The keys of the rows.
    fn keys(&self) -> impl DoubleEndedIterator<Item = &SitePath> {
        let (rows, children): (&[Row], &[Child]) = match self {
            Self::Leaf(rows) => (rows, &[]),
            Self::Interior { children, .. } => (&[], children),
        };
        rows.iter()
            .map(|row| &row.path)
            .chain(children.iter().map(|child| &child.last))
    }

    /// Checks this node against its parent's `row`, in a node of `level`, after the path `before`.
    ///
    /// `place` says whether another node follows in the whole manifest: every inner node must end
    /// at a boundary key or be full.
    pub fn check_place(
        &self,
        row: &Child,
        level: u8,
        before: Option<&SitePath>,
        place: LevelPosition,
    ) -> Result<(), ManifestError> {
        let first = self.keys().next();
        let ended = self.len() == NODE_ROWS_MAX || boundary::ends(&row.last, self.level());
        let why = if self.level() + 1 != level {
            "its level is not the one below its parent"
        } else if self.last() != Some(&row.last) {
            "its last path is not its row's"
        } else if self.totals() != row.totals {
            "its totals are not its row's"
        } else if before.is_some() && self.level() == 0 && first <= before {
            "its first path does not follow the node before"
        } else if place == LevelPosition::Inner && !ended {
            "it ends at a key that ends no node"
        } else {
            return Ok(());
        };
        Err(ManifestError::Misplaced { id: row.id, why })
    }
}

/// Position of a node in its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelPosition {
    /// Another node follows.
    Inner,
    /// No node of the level follows.
    Rightmost,
}

fn malformed(source: Malformed) -> ManifestError {
    ManifestError::Malformed {
        what: "a manifest node",
        source,
    }
}

/// Writes front-coded keys.
#[derive(Default)]
pub(crate) struct KeyWriter<'a> {
    before: &'a [u8],
}

impl<'a> KeyWriter<'a> {
    pub(crate) fn write(&mut self, key: &'a SitePath, out: &mut Vec<u8>) {
        let key = key.as_bytes();
        let shared = shared_len(self.before, key);
        write_varint(out, shared as u64);
        write_bytes(out, &key[shared..]);
        self.before = key;
    }
}

/// Reads one front-coded key after `before`.
pub(crate) fn read_key(
    reader: &mut ByteReader<'_>,
    before: Option<&SitePath>,
) -> Result<SitePath, ManifestError> {
    let before = before.map_or(&[][..], SitePath::as_bytes);
    let shared = reader.varint_up_to(before.len() as u64, "a key's shared length");
    let shared = shared.map_err(malformed)? as usize;
    let rest = reader.bytes(
        PATH_BYTES_MAX - shared.min(PATH_BYTES_MAX),
        "a key's length",
    );
    let rest = rest.map_err(malformed)?;
    let mut key = Vec::with_capacity(shared + rest.len());
    key.extend_from_slice(&before[..shared]);
    key.extend_from_slice(rest);
    if shared_len(before, &key) != shared {
        return Err(malformed(Malformed::NotCanonical(
            "a key shares more than it says",
        )));
    }
    let path = SitePath::parse_bytes(&key)?;
    if key.as_slice() <= before {
        return Err(ManifestError::Disordered(path));
    }
    Ok(path)
}

fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// Media types in the order of their first use, and their indices.
#[derive(Default)]
pub(crate) struct MediaTable<'a> {
    types: Vec<&'a Media>,
}

impl<'a> MediaTable<'a> {
    /// Collects the distinct types.
    pub(crate) fn of(uses: impl Iterator<Item = &'a Media>) -> Self {
        let mut table = Self::default();
        for media in uses {
            if table.index(media).is_none() {
                table.types.push(media);
            }
        }
        table
    }

    pub(crate) fn index(&self, media: &Media) -> Option<u64> {
        self.types
            .iter()
            .position(|known| *known == media)
            .map(|at| at as u64)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write_varint(out, self.types.len() as u64);
        for media in &self.types {
            write_bytes(out, media.as_str().as_bytes());
        }
    }
}

/// Reads a table of at most `max` media types.
pub(crate) fn read_media_table(
    reader: &mut ByteReader<'_>,
    max: usize,
) -> Result<Vec<Media>, ManifestError> {
    let count = reader
        .varint_up_to(max as u64, "a number of media types")
        .map_err(malformed)?;
    let mut types: Vec<Media> = Vec::new();
    for _ in 0..count {
        let text = reader
            .bytes(MEDIA_BYTES_MAX, "a media type's length")
            .map_err(malformed)?;
        let media = Media::parse(&String::from_utf8_lossy(text))?;
        if types.contains(&media) {
            return Err(malformed(Malformed::NotCanonical(
                "a media type is there twice",
            )));
        }
        types.push(media);
    }
    Ok(types)
}

/// Reads media indices and checks that types appear in the order of first use.
pub(crate) struct MediaReader {
    types: Vec<Media>,
    used: usize,
}

impl MediaReader {
    pub(crate) const fn new(types: Vec<Media>) -> Self {
        Self { types, used: 0 }
    }

    pub(crate) fn at(&mut self, index: u64) -> Result<Media, ManifestError> {
        if index == self.used as u64 {
            self.used += 1;
        }
        match self.types.get(index as usize) {
            Some(media) if index < self.used as u64 => Ok(media.clone()),
            _ => Err(malformed(Malformed::NotCanonical(
                "media types are not in order of use",
            ))),
        }
    }

    pub(crate) fn end(&self) -> Result<(), ManifestError> {
        if self.used == self.types.len() {
            return Ok(());
        }
        Err(malformed(Malformed::NotCanonical(
            "a media type is not used",
        )))
    }
}

fn encode_leaf(rows: &[Row], out: &mut Vec<u8>) {
    let table = MediaTable::of(rows.iter().map(|row| &row.entry.media));
    table.encode(out);
    let mut keys = KeyWriter::default();
    for row in rows {
        keys.write(&row.path, out);
        write_varint(out, table.index(&row.entry.media).unwrap_or(0));
        write_varint(out, row.entry.size);
        out.extend_from_slice(row.entry.blob.as_bytes());
    }
}

fn decode_leaf(reader: &mut ByteReader<'_>, count: usize) -> Result<Vec<Row>, ManifestError> {
    let mut types = MediaReader::new(read_media_table(reader, count)?);
    let mut rows: Vec<Row> = Vec::with_capacity(count);
    for _ in 0..count {
        let path = read_key(reader, rows.last().map(|row| &row.path))?;
        let media = types.at(reader.varint().map_err(malformed)?)?;
        let size = reader
            .varint_up_to(BLOB_BYTES_MAX, "a blob's size")
            .map_err(malformed)?;
        let blob = BlobId::from_bytes(reader.array().map_err(malformed)?);
        rows.push(Row {
            path,
            entry: Entry { blob, size, media },
        });
    }
    types.end()?;
    Ok(rows)
}

fn encode_interior(children: &[Child], out: &mut Vec<u8>) {
    let mut keys = KeyWriter::default();
    for child in children {
        keys.write(&child.last, out);
        write_varint(out, child.totals.files);
        write_varint(out, child.totals.bytes);
        out.extend_from_slice(child.id.as_bytes());
    }
}

fn decode_interior(reader: &mut ByteReader<'_>, count: usize) -> Result<Vec<Child>, ManifestError> {
    let mut children: Vec<Child> = Vec::with_capacity(count);
    for _ in 0..count {
        let last = read_key(reader, children.last().map(|child| &child.last))?;
        let files = reader
            .varint_up_to(FILES_MAX, "a number of files")
            .map_err(malformed)?;
        let bytes = reader.varint_up_to(EXACT_INTEGER_MAX, "a number of bytes");
        let totals = Totals {
            files,
            bytes: bytes.map_err(malformed)?,
        };
        let id = NodeId::from_bytes(reader.array().map_err(malformed)?);
        children.push(Child { last, id, totals });
    }
    Ok(children)
}

/// A new node: its id and bytes, ready to be stored or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// The id.
    pub id: NodeId,
    /// The canonical bytes that hash to it.
    pub bytes: Arc<[u8]>,
}

impl NewNode {
    pub(crate) fn of(node: &Node) -> Self {
        let bytes = node.encode();
        Self {
            id: NodeId::of(&bytes),
            bytes: bytes.into(),
        }
    }
}
