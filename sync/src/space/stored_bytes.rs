//! Stored bytes: whether they are those that the id of their blob names.

use bytes::Bytes;
use pmx_core::codec::{Bounds, Decoder};
use pmx_core::id::BlobId;
use pmx_core::location::Codec;

use super::blob_index::StoredBlob;
use crate::pack::part::{BlobParts, PartError, PartTable};

/// What is wrong with stored bytes.
pub(super) enum Fault {
    /// The object does not exist.
    Absent,
    /// The object ends before it.
    Short,
    /// The bytes are not those that the id names.
    Rotten(String),
}

/// Compares stored bytes with the id of their blob.
pub(super) fn hashed(
    blob: &BlobId,
    stored: &StoredBlob,
    bytes: Option<Bytes>,
    decoder: &mut Decoder,
) -> Result<(), Fault> {
    let bytes = bytes.ok_or(Fault::Short)?;
    let found = match stored.location.codec {
        Codec::Zstd => {
            let decoded = decoder.frame(&bytes, stored.raw, Bounds::STORED);
            BlobId::of(&decoded.map_err(|error| Fault::Rotten(error.to_string()))?)
        }
        Codec::Stored | Codec::Parts | Codec::ZstdParts => BlobId::of(&bytes),
    };
    if found == *blob {
        Ok(())
    } else {
        Err(Fault::Rotten("its bytes have another hash".into()))
    }
}

/// Reads the table of parts of a big blob.
pub(super) fn open_table(bytes: &[u8], blob: &BlobId, size: u64) -> Result<PartTable, Fault> {
    let rotten = |error: PartError| Fault::Rotten(format!("its table of parts: {error}"));
    let parts = BlobParts::of(size).map_err(rotten)?;
    let table = PartTable::decode(bytes, parts).map_err(rotten)?;
    if table.is_of(parts, blob) {
        Ok(table)
    } else {
        Err(Fault::Rotten("its parts do not merge to its id".into()))
    }
}
