//! Zstd codec: the only place that encodes frames, and that decodes untrusted ones within bounds.
//!
//! A zstd frame can demand far more memory than its size. Eighteen bytes may ask for a window of
//! 128 MiB, and 32 KiB may unfold to a gigabyte. A second frame may hide after the first. So a
//! [`Decoder`] reads the frame header itself (RFC 8878, section 3.1.1.1) and compares all of it
//! with the caller's expectations before it allocates memory. It accepts only one plain frame. The
//! header has the expected content size, a window within [`Bounds`] and no dictionary, and no bytes
//! follow the frame. The decoder then decodes the frame in one shot into exactly that many bytes,
//! which needs no window buffer. [`Encoder`] writes only such frames.
//!
//! Codecs reuse contexts, because setting one up costs more than compressing a small page.

mod encoder;
mod error;
mod header;

use zstd_safe::DCtx;

pub use encoder::Encoder;
pub use error::CodecError;

use header::{FrameHeader, check_alone};

use crate::limits::{
    PACK_RAW_BYTES_MAX, PART_BYTES, REST_WINDOW_LOG_MAX, SECTION_RAW_BYTES_MAX, WIRE_WINDOW_LOG_MAX,
};

/// Compression level: 1 (fastest) to 19. Above that zstd needs windows that the decoder refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// A client's level for solid packs when time matters.
    pub const WIRE: Self = Self(3);
    /// A client's level for solid packs when bytes matter: a tenth fewer for three times the CPU.
    /// It pays if the link carries less than 15 Mbit/s for each core that compresses. Long-distance
    /// matching at level 3 costs as much and saves less.
    pub const WIRE_SMALL: Self = Self(5);

    /// The level with a reference prefix, on a fast line. Every level finds the matches in the
    /// prefix, and this one takes a third less time than [`Self::WIRE`].
    pub const WIRE_WITH_PREFIX: Self = Self(2);
    /// A server's level for stored frames: level 3 would save 4 % for a third more CPU.
    pub const STORED: Self = Self(1);

    /// A level from 1 to 19; `None` otherwise.
    pub const fn new(level: u8) -> Option<Self> {
        match level {
            1..=19 => Some(Self(level)),
            _ => None,
        }
    }

    /// The number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Bounds of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// log2 of the largest window, in bytes.
    pub window_log_max: u32,
    /// The largest content, in bytes.
    pub raw_bytes_max: u64,
}

impl Bounds {
    /// A pack or a part on the wire.
    pub const WIRE: Self = Self {
        window_log_max: WIRE_WINDOW_LOG_MAX,
        raw_bytes_max: PACK_RAW_BYTES_MAX,
    };
    /// A stored frame: RFC 9659 lets a browser refuse a larger window.
    pub const STORED: Self = Self {
        window_log_max: REST_WINDOW_LOG_MAX,
        raw_bytes_max: PART_BYTES,
    };
    /// Nodes, an outline or a patch in a request.
    pub const SECTION: Self = Self {
        window_log_max: WIRE_WINDOW_LOG_MAX,
        raw_bytes_max: SECTION_RAW_BYTES_MAX as u64,
    };

    const fn window_max(self) -> u64 {
        1 << self.window_log_max
    }
}

/// Decoder of untrusted frames.
pub struct Decoder {
    context: DCtx<'static>,
}

impl Decoder {
    /// A decoder with its own context, for reuse.
    pub fn new() -> Self {
        Self {
            context: DCtx::create(),
        }
    }

    /// Decodes exactly one frame whose content must be `expected` bytes long.
    pub fn frame(
        &mut self,
        bytes: &[u8],
        expected: u64,
        bounds: Bounds,
    ) -> Result<Vec<u8>, CodecError> {
        self.frame_in(Vec::new(), bytes, expected, bounds)
    }

    /// Decodes into reused memory, whose content is overwritten: mapping megabytes anew takes as
    /// long as decoding into them.
    pub fn frame_in(
        &mut self,
        memory: Vec<u8>,
        bytes: &[u8],
        expected: u64,
        bounds: Bounds,
    ) -> Result<Vec<u8>, CodecError> {
        let header = FrameHeader::read_expecting(bytes, expected)?;
        self.decode(bytes, header, bounds, memory)
    }

    /// Decodes exactly one frame that was compressed with `prefix`, and whose content must be
    /// `expected` bytes long. With another prefix the result differs or fails: the caller hashes
    /// the result.
    pub fn decompress_with_prefix(
        &mut self,
        prefix: &[u8],
        bytes: &[u8],
        expected: u64,
        bounds: Bounds,
    ) -> Result<Vec<u8>, CodecError> {
        let header = FrameHeader::read_expecting(bytes, expected)?;
        header.check(bounds)?;
        check_alone(bytes)?;
        // The context borrows the prefix, so it serves only this frame.
        let mut context = DCtx::create();
        context.ref_prefix(prefix).map_err(corrupt)?;
        decoded(&mut context, bytes, header, Vec::new())
    }

    /// Decodes exactly one frame of any content size within `bounds`.
    pub fn frame_up_to(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Vec<u8>, CodecError> {
        let header = FrameHeader::read(bytes)?;
        self.decode(bytes, header, bounds, Vec::new())
    }

    fn decode(
        &mut self,
        bytes: &[u8],
        header: FrameHeader,
        bounds: Bounds,
        memory: Vec<u8>,
    ) -> Result<Vec<u8>, CodecError> {
        header.check(bounds)?;
        check_alone(bytes)?;
        decoded(&mut self.context, bytes, header, memory)
    }
}

fn decoded(
    context: &mut DCtx<'_>,
    bytes: &[u8],
    header: FrameHeader,
    memory: Vec<u8>,
) -> Result<Vec<u8>, CodecError> {
    let mut raw = memory;
    let len = header.content_bytes as usize;
    if raw.capacity() < len {
        // Untouched zeros cost nothing.
        raw = vec![0; len];
    }
    raw.resize(len, 0);
    let written = context.decompress(&mut raw[..], bytes);
    match written.map_err(corrupt)? {
        written if written == raw.len() => Ok(raw),
        _ => Err(CodecError::Corrupt {
            reason: "the content ends too early",
        }),
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

fn corrupt(code: zstd_safe::ErrorCode) -> CodecError {
    CodecError::Corrupt {
        reason: zstd_safe::get_error_name(code),
    }
}

#[cfg(test)]
mod tests;
