//! References of an index node: the objects that a reader of the node may have to read.
//!
//! ```text
//! references = varint count, objects (16 bytes each), varint count, big blobs (32 bytes each)
//! ```
//!
//! Both lists ascend. The objects of a big blob's parts are in the table `big`: a file may have
//! thousands of them.

use std::collections::BTreeSet;

use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::id::{BlobId, ObjectId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_core::sql::SqlError;

use crate::index::IndexNode;
use crate::limits::NODE_ROWS_MAX;

/// What an index node refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// Its own object, and those with its children or blobs.
    pub(crate) objects: BTreeSet<ObjectId>,
    /// Blobs in parts.
    pub(crate) big: BTreeSet<BlobId>,
}

impl References {
    /// Collects the references of an index node that lies at `own`.
    pub(crate) fn of(node: &IndexNode, own: &Extent) -> Self {
        let mut references = Self::default();
        references.objects.insert(own.object);
        match node {
            IndexNode::Leaf(rows) => {
                for (row, location) in rows {
                    references.objects.insert(location.extent.object);
                    if is_table(location) {
                        references.big.insert(row.entry.blob);
                    }
                }
            }
            IndexNode::Interior { children, .. } => {
                let objects = children.iter().map(|(_, extent)| extent.object);
                references.objects.extend(objects);
            }
        }
        references
    }

    /// Encodes the references.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.objects.len() * 16 + self.big.len() * 32);
        write_varint(&mut out, self.objects.len() as u64);
        for object in &self.objects {
            out.extend_from_slice(object.as_bytes());
        }
        write_varint(&mut out, self.big.len() as u64);
        for blob in &self.big {
            out.extend_from_slice(blob.as_bytes());
        }
        out
    }

    /// Reads the references of a row.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SqlError> {
        let read = read(&mut ByteReader::new(bytes));
        read.map_err(|error| SqlError(format!("the references of a node: {error}")))
    }
}

fn read(reader: &mut ByteReader<'_>) -> Result<References, Malformed> {
    // A node refers to its own object, and to one for each row.
    let most = NODE_ROWS_MAX as u64 + 1;
    let mut references = References::default();
    for _ in 0..reader.varint_up_to(most, "the count of objects")? {
        references
            .objects
            .insert(ObjectId::from_bytes(reader.array()?));
    }
    for _ in 0..reader.varint_up_to(most, "the count of big blobs")? {
        references.big.insert(BlobId::from_bytes(reader.array()?));
    }
    reader.end()?;
    Ok(references)
}

/// Whether a location is that of a table of parts.
pub(super) const fn is_table(location: &Location) -> bool {
    matches!(location.codec, Codec::Parts | Codec::ZstdParts)
}
