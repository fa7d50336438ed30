//! Location of stored bytes: a range of an immutable object, and its coding.

use serde::{Deserialize, Serialize};

use crate::encode::{ByteReader, Malformed, write_varint};
use crate::id::ObjectId;
use crate::limits::EXACT_INTEGER_MAX;

/// Storage codec of a blob's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// Uncompressed.
    Stored,
    /// One zstd frame (RFC 8878) with its content size and a window of at most 8 MiB.
    Zstd,
    /// A table of parts, for a blob above 8 MiB: see `pack::part`. Parts may have different codecs.
    Parts,
    /// A table of parts that are all zstd frames: together they are one legal zstd stream.
    ZstdParts,
}

impl Codec {
    /// The number that encodings use.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Zstd => 1,
            Self::Parts => 2,
            Self::ZstdParts => 3,
        }
    }

    /// The codec with this number.
    pub const fn from_tag(tag: u8) -> Result<Self, Malformed> {
        match tag {
            0 => Ok(Self::Stored),
            1 => Ok(Self::Zstd),
            2 => Ok(Self::Parts),
            3 => Ok(Self::ZstdParts),
            _ => Err(Malformed::Unknown {
                what: "codec",
                value: tag as u64,
            }),
        }
    }
}

/// A range of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// The object.
    pub object: ObjectId,
    /// The offset of the first byte.
    pub offset: u64,
    /// The number of bytes.
    pub len: u64,
}

impl Extent {
    /// Appends the canonical encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.object.as_bytes());
        write_varint(out, self.offset);
        write_varint(out, self.len);
    }

    /// Reads the canonical encoding.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            object: ObjectId::from_bytes(reader.array()?),
            offset: reader.varint_up_to(EXACT_INTEGER_MAX, "an offset")?,
            len: reader.varint_up_to(EXACT_INTEGER_MAX, "a length")?,
        })
    }
}

/// Location of a stored blob, or of a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The range of the stored bytes.
    pub extent: Extent,
    /// The codec of the bytes.
    pub codec: Codec,
}

impl Location {
    /// Appends the canonical encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.codec.tag());
        self.extent.encode(out);
    }

    /// Reads the canonical encoding.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self, Malformed> {
        let codec = Codec::from_tag(reader.byte()?)?;
        Ok(Self {
            codec,
            extent: Extent::decode(reader)?,
        })
    }
}
