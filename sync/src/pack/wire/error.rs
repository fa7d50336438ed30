//! Pack errors: how the bytes of a pack fail, and the code of each failure.

use pmx_core::code::Code;
use pmx_core::codec::CodecError;
use pmx_core::encode::Malformed;
use pmx_core::id::BlobId;
use thiserror::Error;

/// The bytes are not a pack, or the blobs do not fit one.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// The magic is not that of a pack.
    #[error("not a pack: it does not begin with PMXW")]
    Magic,
    /// A version that this program does not know.
    #[error("the pack has version {0}; this program reads version 1")]
    Version(u8),
    /// A flag that this program does not know.
    #[error("the pack has unknown flags: {0:#010b}")]
    Flags(u8),
    /// The pack refers to blobs that are not available.
    #[error("the pack refers to blobs that are not available here; send it without")]
    Prefix,
    /// The referenced rows are not canonical, or there are none.
    #[error("the pack refers to rows of its base out of order, twice, or to none")]
    Rows,
    /// The pack refers to too many rows.
    #[error("the pack refers to {rows} rows of its base, above the limit of {max}")]
    TooManyRows {
        /// The number of rows, up to the first run over the bound.
        rows: u64,
        /// The bound.
        max: u64,
    },
    /// A pack without blobs.
    #[error("the pack has no blobs")]
    Empty,
    /// More blobs than a pack may have.
    #[error("the pack has {count} blobs, above the limit of {max}")]
    TooManyBlobs {
        /// The number of blobs.
        count: u64,
        /// The bound.
        max: u64,
    },
    /// A blob that must be uploaded in parts.
    #[error("a blob of the pack has {size} bytes, above the limit of {max}")]
    BlobTooLarge {
        /// Its bytes.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// The blobs exceed the size of one pack.
    #[error("the blobs of the pack have {raw} bytes and more, above the limit of {max}")]
    TooLarge {
        /// Bytes of the blobs up to the first over the bound.
        raw: u64,
        /// The bound.
        max: u64,
    },
    /// The body is shorter or longer than the blobs.
    #[error("the pack declares {declared} bytes of blobs, but {actual} follow")]
    BodyLength {
        /// Sum of the declared sizes.
        declared: u64,
        /// Actual bytes of the body.
        actual: u64,
    },
    /// The pack has a blob twice.
    #[error("the pack holds blob {0} twice")]
    Repeated(BlobId),
    /// The head is malformed.
    #[error("reading the head of a pack")]
    Head(#[from] Malformed),
    /// The body does not decode.
    #[error("decoding the body of a pack")]
    Body(#[from] CodecError),
}

impl PackError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Magic
            | Self::Version(_)
            | Self::Flags(_)
            | Self::Rows
            | Self::Empty
            | Self::BodyLength { .. }
            | Self::Repeated(_)
            | Self::Head(_) => Code::PackMalformed,
            Self::TooManyBlobs { .. }
            | Self::TooManyRows { .. }
            | Self::BlobTooLarge { .. }
            | Self::TooLarge { .. } => Code::TooLarge,
            Self::Prefix => Code::PrefixMissing,
            Self::Body(error) => error.code(),
        }
    }
}
