//! Frame header (RFC 8878, section 3.1.1.1): checked before the decoder allocates anything.

use super::{Bounds, CodecError, corrupt};

pub(super) const MAGIC: u32 = 0xFD2F_B528;

const SKIPPABLE_MAGICS: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// The formats of zstd 0.1 to 0.7, never frozen, each with its own magic number.
const LEGACY_MAGICS: std::ops::RangeInclusive<u32> = 0xFD2F_B522..=0xFD2F_B527;

const LEGACY_MAGIC_FIRST: u32 = 0x1EB5_2FFD;

/// The fields of a frame header (RFC 8878, section 3.1.1.1) that ask for memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    pub(super) window_bytes: u64,
    pub(super) content_bytes: u64,
}

impl FrameHeader {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        let (magic, rest) = bytes
            .split_first_chunk::<4>()
            .ok_or(CodecError::Truncated)?;
        check_magic(u32::from_le_bytes(*magic))?;
        let (&descriptor, rest) = rest.split_first().ok_or(CodecError::Truncated)?;
        if descriptor & 0b0001_1000 != 0 {
            return Err(CodecError::ReservedBits);
        }
        if descriptor & 0b11 != 0 {
            return Err(CodecError::Dictionary);
        }
        let single_segment = descriptor & 0b0010_0000 != 0;
        let (window_bytes, rest) = if single_segment {
            (None, rest)
        } else {
            let (&window, rest) = rest.split_first().ok_or(CodecError::Truncated)?;
            (Some(window_bytes(window)), rest)
        };
        let content_bytes = match (descriptor >> 6, single_segment) {
            (0, false) => return Err(CodecError::NoContentSize),
            (0, true) => u64::from(field::<1>(rest)?[0]),
            (1, _) => u64::from(u16::from_le_bytes(field(rest)?)) + 256,
            (2, _) => u64::from(u32::from_le_bytes(field(rest)?)),
            (_, _) => u64::from_le_bytes(field(rest)?),
        };
        Ok(Self {
            window_bytes: window_bytes.unwrap_or(content_bytes),
            content_bytes,
        })
    }

    /// Reads the header of a frame whose content must be `expected` bytes long.
    pub(super) fn read_expecting(bytes: &[u8], expected: u64) -> Result<Self, CodecError> {
        let header = Self::read(bytes)?;
        header.expect(expected)?;
        Ok(header)
    }

    const fn expect(self, expected: u64) -> Result<(), CodecError> {
        let declared = self.content_bytes;
        if declared == expected {
            Ok(())
        } else {
            Err(CodecError::ContentSize { declared, expected })
        }
    }

    pub(super) fn check(self, bounds: Bounds) -> Result<(), CodecError> {
        if self.content_bytes == 0 {
            return Err(CodecError::Empty);
        }
        if self.content_bytes > bounds.raw_bytes_max {
            return Err(CodecError::TooLarge {
                declared: self.content_bytes,
                allowed: bounds.raw_bytes_max,
            });
        }
        if self.window_bytes > bounds.window_max() {
            return Err(CodecError::Window {
                declared: self.window_bytes,
                allowed: bounds.window_max(),
            });
        }
        Ok(())
    }
}

fn check_magic(magic: u32) -> Result<(), CodecError> {
    match magic {
        MAGIC => Ok(()),
        magic if SKIPPABLE_MAGICS.contains(&magic) => Err(CodecError::Skippable),
        magic if LEGACY_MAGICS.contains(&magic) || magic == LEGACY_MAGIC_FIRST => {
            Err(CodecError::Legacy)
        }
        magic => Err(CodecError::NotZstd { magic }),
    }
}

/// RFC 8878, section 3.1.1.1.2: an exponent of five bits over a mantissa of three.
pub(super) fn window_bytes(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 0b111)
}

fn field<const N: usize>(bytes: &[u8]) -> Result<[u8; N], CodecError> {
    bytes
        .first_chunk::<N>()
        .copied()
        .ok_or(CodecError::Truncated)
}

/// Refuses bytes after the frame: some decoders decode a second frame, others ignore it.
pub(super) fn check_alone(bytes: &[u8]) -> Result<(), CodecError> {
    let end = zstd_safe::find_frame_compressed_size(bytes).map_err(corrupt)?;
    let behind = &bytes[end..];
    match behind.first_chunk::<4>().map(|m| u32::from_le_bytes(*m)) {
        _ if behind.is_empty() => Ok(()),
        Some(magic) if magic == MAGIC || SKIPPABLE_MAGICS.contains(&magic) => {
            Err(CodecError::SecondFrame)
        }
        _ => Err(CodecError::Trailing {
            bytes: behind.len(),
        }),
    }
}
