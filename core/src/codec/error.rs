//! Codec errors: why the decoder refuses a frame.

use thiserror::Error;

use crate::code::Code;

/// The bytes are not one plain zstd frame within its bounds.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The frame ends inside its header.
    #[error("the zstd frame ends inside its header")]
    Truncated,
    /// The magic number is not zstd's.
    #[error("not a zstd frame: it begins with {magic:#010x}, not 0xfd2fb528")]
    NotZstd {
        /// The first four bytes, little-endian.
        magic: u32,
    },
    /// A format of zstd before 0.8.
    #[error("a zstd frame of a version before 0.8 is not read")]
    Legacy,
    /// A frame for other uses, which decoders skip.
    #[error("a skippable frame holds nothing, and none is allowed")]
    Skippable,
    /// A bit of the frame header that must be zero.
    #[error("the zstd frame header has reserved bits set")]
    ReservedBits,
    /// The frame needs a dictionary.
    #[error("the zstd frame names a dictionary, and none is allowed")]
    Dictionary,
    /// The frame does not declare its content size.
    #[error("the zstd frame does not declare its content size")]
    NoContentSize,
    /// The frame has no content. An empty blob is stored, not compressed.
    #[error("the zstd frame is empty")]
    Empty,
    /// The frame's content has not the expected length.
    #[error("the zstd frame declares {declared} bytes of content where {expected} are expected")]
    ContentSize {
        /// Bytes that the frame declares.
        declared: u64,
        /// Bytes that the surrounding format declares.
        expected: u64,
    },
    /// The content exceeds its bound.
    #[error("the zstd frame declares {declared} bytes of content, above the limit of {allowed}")]
    TooLarge {
        /// Bytes that the frame declares.
        declared: u64,
        /// The bound.
        allowed: u64,
    },
    /// The window exceeds its bound.
    #[error("the zstd frame asks for a window of {declared} bytes, above the limit of {allowed}")]
    Window {
        /// Bytes that the frame asks for.
        declared: u64,
        /// The bound.
        allowed: u64,
    },
    /// A second frame follows.
    #[error("a second frame follows the zstd frame")]
    SecondFrame,
    /// Other bytes follow.
    #[error("{bytes} bytes follow the zstd frame")]
    Trailing {
        /// The number of bytes.
        bytes: usize,
    },
    /// zstd itself refused the frame.
    #[error("zstd can't decode the frame: {reason}")]
    Corrupt {
        /// zstd's name of the error.
        reason: &'static str,
    },
}

impl CodecError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        Code::Compression
    }
}
