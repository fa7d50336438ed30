//! Index node: a manifest node whose rows also locate each stored child and blob.
//!
//! ```text
//! node     = version level count objects body
//! objects  = varint number of objects, each 16 bytes (in order of first use)
//! leaf     = media types as in a manifest node, then each row:
//!            key, varint media index, varint size, 32 bytes blob id, place
//! interior = each row: key, varint files, varint bytes, 32 bytes node id, place
//! place    = 1 byte codec (leaf only), varint object index, varint offset, varint length
//! ```
//!
//! Without its places an index node is a manifest node. A reader knows the id of the node that it
//! reads, so it hashes the manifest node and detects corrupt bytes.

use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::id::{BlobId, NodeId, ObjectId};
use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::location::{Codec, Extent, Location};

use crate::limits::{BLOB_BYTES_MAX, FILES_MAX, LEVELS_MAX, NODE_ROWS_MAX};
use crate::manifest::{
    Child, Entry, KeyWriter, ManifestError, MediaReader, MediaTable, Node, Row, Totals, read_key,
    read_media_table,
};

const VERSION: u8 = 1;

/// A manifest node with the places of its children or blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexNode {
    /// Files and the locations of their blobs.
    Leaf(Vec<(Row, Location)>),
    /// Subtrees and the extents of their index nodes.
    Interior {
        /// Level of the node.
        level: u8,
        /// The subtrees.
        children: Vec<(Child, Extent)>,
    },
}

impl IndexNode {
    /// Encodes the index node.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let mut objects = Objects::default();
        let mut rows = Vec::new();
        let mut keys = KeyWriter::default();
        match self {
            Self::Leaf(files) => {
                out.push(0);
                write_varint(&mut out, files.len() as u64);
                let media = MediaTable::of(files.iter().map(|(row, _)| &row.entry.media));
                media.encode(&mut rows);
                for (row, location) in files {
                    keys.write(&row.path, &mut rows);
                    write_varint(&mut rows, media.index(&row.entry.media).unwrap_or(0));
                    write_varint(&mut rows, row.entry.size);
                    rows.extend_from_slice(row.entry.blob.as_bytes());
                    rows.push(location.codec.tag());
                    objects.write(&location.extent, &mut rows);
                }
            }
            Self::Interior { level, children } => {
                out.push(*level);
                write_varint(&mut out, children.len() as u64);
                for (child, extent) in children {
                    keys.write(&child.last, &mut rows);
                    write_varint(&mut rows, child.totals.files);
                    write_varint(&mut rows, child.totals.bytes);
                    rows.extend_from_slice(child.id.as_bytes());
                    objects.write(extent, &mut rows);
                }
            }
        }
        write_varint(&mut out, objects.known.len() as u64);
        for object in &objects.known {
            out.extend_from_slice(object.as_bytes());
        }
        out.extend_from_slice(&rows);
        out
    }

    /// Reads the index node of the manifest node `id`, and verifies that id.
    pub fn decode(bytes: &[u8], id: NodeId) -> Result<Self, ManifestError> {
        let index_node = read(&mut ByteReader::new(bytes)).map_err(|error| match error {
            ReadError::Malformed(source) => ManifestError::Malformed {
                what: "a serving index node",
                source,
            },
            ReadError::Manifest(error) => error,
        })?;
        if NodeId::of(&index_node.node().encode()) == id {
            Ok(index_node)
        } else {
            Err(ManifestError::WrongId(id))
        }
    }

    /// The manifest node: the index node without its places.
    pub fn node(&self) -> Node {
        match self {
            Self::Leaf(files) => Node::Leaf(files.iter().map(|(row, _)| row.clone()).collect()),
            Self::Interior { level, children } => Node::Interior {
                level: *level,
                children: children.iter().map(|(child, _)| child.clone()).collect(),
            },
        }
    }
}

/// Objects in the order of their first use.
#[derive(Default)]
struct Objects {
    known: Vec<ObjectId>,
}

impl Objects {
    fn write(&mut self, extent: &Extent, out: &mut Vec<u8>) {
        let at = self.known.iter().rposition(|known| *known == extent.object);
        let at = at.unwrap_or_else(|| {
            self.known.push(extent.object);
            self.known.len() - 1
        });
        write_varint(out, at as u64);
        write_varint(out, extent.offset);
        write_varint(out, extent.len);
    }
}

enum ReadError {
    Malformed(Malformed),
    Manifest(ManifestError),
}

impl From<Malformed> for ReadError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<ManifestError> for ReadError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

fn read(reader: &mut ByteReader<'_>) -> Result<IndexNode, ReadError> {
    match reader.byte()? {
        VERSION => {}
        value => {
            return Err(Malformed::Unknown {
                what: "version",
                value: value.into(),
            }
            .into());
        }
    }
    let level = reader.byte()?;
    let count = reader.varint_up_to(NODE_ROWS_MAX as u64, "a row count")? as usize;
    let objects = reader.varint_up_to(count as u64, "a number of objects")?;
    let objects: Vec<ObjectId> = (0..objects)
        .map(|_| reader.array().map(ObjectId::from_bytes))
        .collect::<Result<_, Malformed>>()?;
    let index_node = match level {
        0 => IndexNode::Leaf(read_files(reader, count, &objects)?),
        1..=LEVELS_MAX => IndexNode::Interior {
            level,
            children: read_children(reader, count, &objects)?,
        },
        value => {
            return Err(Malformed::Unknown {
                what: "level",
                value: value.into(),
            }
            .into());
        }
    };
    reader.end()?;
    Ok(index_node)
}

fn read_files(
    reader: &mut ByteReader<'_>,
    count: usize,
    objects: &[ObjectId],
) -> Result<Vec<(Row, Location)>, ReadError> {
    let mut media = MediaReader::new(read_media_table(reader, count)?);
    let mut files: Vec<(Row, Location)> = Vec::with_capacity(count);
    for _ in 0..count {
        let path = read_key(reader, files.last().map(|(row, _)| &row.path))?;
        let media = media.at(reader.varint()?)?;
        let size = reader.varint_up_to(BLOB_BYTES_MAX, "a blob's size")?;
        let blob = BlobId::from_bytes(reader.array()?);
        let codec = Codec::from_tag(reader.byte()?)?;
        let extent = read_extent(reader, objects)?;
        let row = Row {
            path,
            entry: Entry { blob, size, media },
        };
        files.push((row, Location { extent, codec }));
    }
    media.end()?;
    Ok(files)
}

fn read_children(
    reader: &mut ByteReader<'_>,
    count: usize,
    objects: &[ObjectId],
) -> Result<Vec<(Child, Extent)>, ReadError> {
    let mut children: Vec<(Child, Extent)> = Vec::with_capacity(count);
    for _ in 0..count {
        let last = read_key(reader, children.last().map(|(child, _)| &child.last))?;
        let files = reader.varint_up_to(FILES_MAX, "a number of files")?;
        let bytes = reader.varint_up_to(EXACT_INTEGER_MAX, "a number of bytes")?;
        let id = NodeId::from_bytes(reader.array()?);
        let totals = Totals { files, bytes };
        children.push((Child { last, id, totals }, read_extent(reader, objects)?));
    }
    Ok(children)
}

fn read_extent(reader: &mut ByteReader<'_>, objects: &[ObjectId]) -> Result<Extent, ReadError> {
    let at = reader.varint()?;
    let object = usize::try_from(at).ok().and_then(|at| objects.get(at));
    let object = *object.ok_or(Malformed::Unknown {
        what: "object",
        value: at,
    })?;
    Ok(Extent {
        object,
        offset: reader.varint_up_to(EXACT_INTEGER_MAX, "an offset")?,
        len: reader.varint_up_to(EXACT_INTEGER_MAX, "a length")?,
    })
}
