//! Errors of parts and part tables.

use pmx_core::code::Code;
use pmx_core::codec::CodecError;
use pmx_core::encode::Malformed;
use pmx_core::limits::PART_BYTES;
use thiserror::Error;

use crate::limits::BLOB_BYTES_MAX;

/// The bytes are not the part they should be.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartError {
    /// A blob of this size does not travel in parts.
    #[error(
        "a blob of {size} bytes has no parts: it must be above {PART_BYTES} and at most {BLOB_BYTES_MAX}"
    )]
    Size {
        /// Bytes of the blob.
        size: u64,
    },
    /// The blob has no such part.
    #[error("there is no part {number}: the blob has {count}")]
    Number {
        /// The number, from 0.
        number: u32,
        /// Parts of the blob.
        count: u32,
    },
    /// Not as many parts as the blob has.
    #[error("{actual} parts where the blob has {expected}")]
    Count {
        /// How many.
        actual: u64,
        /// How many there should be.
        expected: u32,
    },
    /// Not as many bytes as the part has.
    #[error("part {number} has {actual} bytes where {expected} are expected")]
    Length {
        /// The number of the part, from 0.
        number: u32,
        /// How many bytes.
        actual: u64,
        /// How many there should be.
        expected: u64,
    },
    /// Another kind of body.
    #[error("not a part: it does not begin with PMXP")]
    Magic,
    /// A version that this program does not know.
    #[error("the part has version {0}; this program reads version 1")]
    Version(u8),
    /// A flag that this program does not know.
    #[error("the part has unknown flags: {0:#010b}")]
    Flags(u8),
    /// The part copies from a blob that is not available.
    #[error("the part copies from a blob that is not at hand here; send it without")]
    Copies,
    /// It copies in a way that has another spelling, or beyond a bound.
    #[error("the part copies nothing, out of order, in too many runs or from too many places")]
    Runs,
    /// With what it copies it is something else.
    #[error("part {number} does not copy what it should; send it without")]
    Copied {
        /// The number of the part, from 0.
        number: u32,
    },
    /// A part can't lie like this.
    #[error("the table of parts gives part {number} a codec or a length that it can't have")]
    Location {
        /// The number of the part, from 0.
        number: u32,
    },
    /// The head or the table can't be read.
    #[error("reading a part or a table of parts")]
    Head(#[from] Malformed),
    /// The body can't be decoded.
    #[error("decoding the body of a part")]
    Body(#[from] CodecError),
}

impl PartError {
    /// The stable code, if this came off the wire.
    pub const fn code(&self) -> Code {
        match self {
            Self::Size { size } if *size > BLOB_BYTES_MAX => Code::TooLarge,
            Self::Size { .. }
            | Self::Number { .. }
            | Self::Count { .. }
            | Self::Length { .. }
            | Self::Magic
            | Self::Version(_)
            | Self::Flags(_)
            | Self::Runs
            | Self::Location { .. }
            | Self::Head(_) => Code::PackMalformed,
            Self::Copies | Self::Copied { .. } => Code::PrefixMissing,
            Self::Body(error) => error.code(),
        }
    }
}
