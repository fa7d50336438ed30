//! Part table: the locations of the parts of a stored blob.

use pmx_core::encode::{ByteReader, write_varint};
use pmx_core::hash::Hash;
use pmx_core::id::BlobId;
use pmx_core::location::{Codec, Location};

use super::{BlobParts, ChainingValue, PARTS_MAX, Part, PartError};

/// The locations of the parts of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTable {
    locations: Vec<Location>,
    /// Empty, or one for each location.
    values: Vec<ChainingValue>,
}

impl PartTable {
    /// A table of the locations of all `parts`, in order.
    pub fn new(parts: BlobParts, locations: Vec<Location>) -> Result<Self, PartError> {
        if locations.len() != parts.count() as usize {
            return Err(PartError::Count {
                actual: locations.len() as u64,
                expected: parts.count(),
            });
        }
        for (part, location) in parts.all().zip(&locations) {
            check_location(part, location)?;
        }
        let values = Vec::new();
        Ok(Self { locations, values })
    }

    /// Adds the chaining values of all parts to the table, so that each can be verified alone.
    pub fn with_values(self, values: Vec<ChainingValue>) -> Result<Self, PartError> {
        if values.len() != self.locations.len() {
            return Err(PartError::Count {
                actual: values.len() as u64,
                expected: self.locations.len() as u32,
            });
        }
        Ok(Self { values, ..self })
    }

    /// The chaining value of a part, if the table has it.
    pub fn value(&self, part: Part) -> Option<&ChainingValue> {
        self.values.get(part.number() as usize)
    }

    /// Whether the chaining values, if the table has them, merge to a blob's id.
    pub fn is_of(&self, parts: BlobParts, blob: &BlobId) -> bool {
        self.values.is_empty() || parts.merge(&self.values).is_ok_and(|found| found == *blob)
    }

    /// The locations, in order.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// The location of a part.
    pub fn location(&self, part: Part) -> Option<&Location> {
        self.locations.get(part.number() as usize)
    }

    /// The codec of the blob as a whole.
    pub fn codec(&self) -> Codec {
        if self.locations.iter().all(|part| part.codec == Codec::Zstd) {
            Codec::ZstdParts
        } else {
            Codec::Parts
        }
    }

    /// Appends the canonical encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_varint(out, self.locations.len() as u64);
        for location in &self.locations {
            location.encode(out);
        }
        for value in &self.values {
            out.extend_from_slice(value.as_bytes());
        }
    }

    /// Reads the canonical encoding of the table of `parts`, which is all of `bytes`.
    pub fn decode(bytes: &[u8], parts: BlobParts) -> Result<Self, PartError> {
        let mut reader = ByteReader::new(bytes);
        let count = reader.varint_up_to(u64::from(PARTS_MAX), "the count of parts")?;
        if count != u64::from(parts.count()) {
            return Err(PartError::Count {
                actual: count,
                expected: parts.count(),
            });
        }
        let locations: Result<Vec<_>, _> =
            (0..count).map(|_| Location::decode(&mut reader)).collect();
        let table = Self::new(parts, locations?)?;
        if reader.remaining() as u64 != count * Hash::LEN as u64 {
            reader.end()?;
            return Ok(table);
        }
        let values: Result<Vec<_>, _> = (0..count)
            .map(|_| reader.array().map(ChainingValue::kept))
            .collect();
        let values = values?;
        reader.end()?;
        table.with_values(values)
    }
}

fn check_location(part: Part, location: &Location) -> Result<(), PartError> {
    let stored = location.extent.len;
    let possible = match location.codec {
        Codec::Stored => stored == part.len(),
        Codec::Zstd => 0 < stored && stored < part.len(),
        Codec::Parts | Codec::ZstdParts => false,
    };
    if !possible {
        return Err(PartError::Location {
            number: part.number(),
        });
    }
    Ok(())
}
