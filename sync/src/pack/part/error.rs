//! Errors of parts and part tables.

use pmx_core::code::Code;
use pmx_core::codec::CodecError;
use pmx_core::encode::Malformed;
use pmx_core::limits::PART_BYTES;
use thiserror::Error;

use crate::limits::BLOB_BYTES_MAX;

/// The bytes are not the expected part.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartError {
    /// A blob of this size is not divided into parts.
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
    /// The number of parts is not the blob's.
    #[error("{actual} parts where the blob has {expected}")]
    Count {
        /// The actual number.
        actual: u64,
        /// The expected number.
        expected: u32,
    },
    /// The length is not the part's.
    #[error("part {number} has {actual} bytes where {expected} are expected")]
    Length {
        /// The number of the part, from 0.
        number: u32,
        /// The actual length.
        actual: u64,
        /// The expected length.
        expected: u64,
    },
    /// The magic is not that of a part.
    #[error("not a part: it does not begin with PMXP")]
    Magic,
    /// A version that this program does not know.
    #[error("the part has version {0}; this program reads version 1")]
    Version(u8),
    /// A flag that this program does not know.
    #[error("the part has unknown flags: {0:#010b}")]
    Flags(u8),
    /// The part copies from a blob that is not available.
    #[error("the part copies from a blob that is not available here; send it without")]
    Copies,
    /// The runs are not canonical, or exceed a bound.
    #[error("the part copies nothing, out of order, in too many runs or from too many places")]
    Runs,
    /// The copied bytes differ from those that the sender expected.
    #[error("part {number} does not copy what it should; send it without")]
    Copied {
        /// The number of the part, from 0.
        number: u32,
    },
    /// A part cannot have this location.
    #[error("the table of parts gives part {number} a codec or a length that it can't have")]
    Location {
        /// The number of the part, from 0.
        number: u32,
    },
    /// The head or the table is malformed.
    #[error("reading a part or a table of parts")]
    Head(#[from] Malformed),
    /// The body does not decode.
    #[error("decoding the body of a part")]
    Body(#[from] CodecError),
}

impl PartError {
    /// The stable code of the error in a received part.
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
