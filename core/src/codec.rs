//! Zstd codec: the only place that encodes frames, and that decodes untrusted ones within bounds.
//!
//! A zstd frame can ask its reader for memory it never earns: eighteen bytes may demand a window
//! of 128 MiB, 32 KiB may unfold to a gigabyte, and a second frame may hide behind the first. So
//! a [`Decoder`] reads the frame header itself (RFC 8878, section 3.1.1.1) and compares all of it
//! with what the caller expects before anything is allocated. What is accepted is one plain frame:
//! its content size written and as expected, its window within [`Bounds`], no dictionary, nothing
//! behind it. It is then decoded in one shot into exactly that many bytes, which needs no window
//! buffer at all. [`Encoder`] writes such frames and no others.
//!
//! Contexts are reused, because setting one up costs more than compressing a small page.

use thiserror::Error;
use zstd_safe::{CCtx, CParameter, DCtx, ResetDirective};

use crate::code::Code;
use crate::limits::{
    PACK_RAW_BYTES_MAX, PART_BYTES, REST_WINDOW_LOG_MAX, SECTION_RAW_BYTES_MAX, WIRE_WINDOW_LOG_MAX,
};

/// How hard zstd tries: 1 (fastest) to 19. Above that zstd wants windows we would refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// What a client uses for solid packs when time counts.
    pub const WIRE: Self = Self(3);
    /// What a client uses for solid packs when bytes count: a tenth fewer for three times the CPU,
    /// which pays if the link carries less than 15 Mbit/s for each core that compresses.
    /// Long-distance matching at level 3 costs as much and saves less.
    pub const WIRE_SMALL: Self = Self(5);

    /// Behind a base, on a fast line: what is found there is found at any level, and this takes a
    /// third less time than [`Self::WIRE`].
    pub const WIRE_BEHIND: Self = Self(2);
    /// What a server uses for frames at rest: level 3 would save 4 % for a third more CPU.
    pub const REST: Self = Self(1);

    /// A level from 1 to 19, or nothing.
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

/// What a frame may ask for.
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
    /// A frame at rest: what RFC 9659 lets a browser insist on.
    pub const REST: Self = Self {
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

/// Writes frames: content size always, checksum and dictionary never.
pub struct Encoder {
    context: CCtx<'static>,
    settings: Option<Settings>,
    /// Room for the worst case of the largest input so far, kept so that it is not cleared and
    /// mapped anew each time.
    room: Vec<u8>,
}

impl Encoder {
    /// A context of its own, to be kept and used again.
    pub fn new() -> Self {
        Self {
            context: CCtx::create(),
            settings: None,
            room: Vec::new(),
        }
    }

    /// Compresses one blob to a frame of its own, fit for rest.
    pub fn frame(&mut self, bytes: &[u8], level: Level) -> Vec<u8> {
        let mut out = Vec::new();
        self.append_frame(&mut out, bytes, level);
        out
    }

    /// Appends what [`Self::frame`] returns to `out`.
    pub fn append_frame(&mut self, out: &mut Vec<u8>, bytes: &[u8], level: Level) {
        let settings = Settings {
            level,
            shape: Shape::Frame,
        };
        self.append(out, bytes, settings);
    }

    /// Compresses many things at once, for the wire: every byte may refer to every earlier one,
    /// so that what pages have in common is sent once.
    pub fn solid(&mut self, bytes: &[u8], level: Level) -> Vec<u8> {
        let mut out = Vec::new();
        let settings = Settings {
            level,
            shape: Shape::Solid {
                window_log: window_log(bytes.len()),
            },
        };
        self.append(&mut out, bytes, settings);
        out
    }

    /// Compresses many things at once behind others that the receiver has: what they have in common
    /// is not sent. Only who has the same prefix, to the byte, can decode it.
    ///
    /// zstd's reference prefix (`ZSTD_CCtx_refPrefix`), with long-distance matching, because an old
    /// page lies megabytes before its new version.
    pub fn compress_with_prefix(&mut self, prefix: &[u8], bytes: &[u8], level: Level) -> Vec<u8> {
        // The context borrows the prefix, so it is one for this frame.
        let mut context = CCtx::create();
        let settings = Settings {
            level,
            shape: Shape::Behind {
                window_log: window_log(prefix.len() + bytes.len()),
            },
        };
        settings.apply(&mut context);
        let referred = context.ref_prefix(prefix);
        referred.expect("no frame is in progress");
        let worst = zstd_safe::compress_bound(bytes.len());
        if self.room.len() < worst {
            self.room.resize(worst, 0);
        }
        let written = context.compress2(&mut self.room[..], bytes);
        let written = written.expect("there is room for the worst case");
        self.room[..written].to_vec()
    }

    fn append(&mut self, out: &mut Vec<u8>, bytes: &[u8], settings: Settings) {
        if self.settings != Some(settings) {
            settings.apply(&mut self.context);
            self.settings = Some(settings);
        }
        let worst = zstd_safe::compress_bound(bytes.len());
        if self.room.len() < worst {
            self.room.resize(worst, 0);
        }
        let written = self.context.compress2(&mut self.room[..], bytes);
        let written = written.expect("there is room for the worst case");
        out.extend_from_slice(&self.room[..written]);
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that must be the same before long-distance matching looks closer. What it is for is whole
/// pages; shorter pieces are found nearby. With zstd's own 64, a fiftieth more is sent.
const FAR_MATCH_BYTES: u32 = 128;

/// log2 of how many places with the same hash long-distance matching compares. Pages share much, so
/// each of zstd's own 8 is compared over kilobytes: 4 take a tenth less time, for 5 % more bytes.
const FAR_CANDIDATES_LOG: u32 = 2;

/// What a context is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    level: Level,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Frame,
    Solid { window_log: u32 },
    Behind { window_log: u32 },
}

impl Settings {
    fn apply(self, context: &mut CCtx<'_>) {
        let mut parameters = vec![
            CParameter::CompressionLevel(i32::from(self.level.number())),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        match self.shape {
            Shape::Frame => {}
            Shape::Solid { window_log } => parameters.push(CParameter::WindowLog(window_log)),
            Shape::Behind { window_log } => parameters.extend([
                CParameter::WindowLog(window_log),
                CParameter::EnableLongDistanceMatching(true),
                CParameter::LdmMinMatch(FAR_MATCH_BYTES),
                CParameter::LdmBucketSizeLog(FAR_CANDIDATES_LOG),
            ]),
        }
        let reset = context.reset(ResetDirective::SessionAndParameters);
        reset.expect("no frame is in progress");
        for parameter in parameters {
            let set = context.set_parameter(parameter);
            set.expect("levels and windows are within zstd's own bounds");
        }
    }
}

/// The smallest window that holds `len` bytes, within zstd's lower and our upper bound.
fn window_log(len: usize) -> u32 {
    len.next_power_of_two()
        .trailing_zeros()
        .clamp(10, WIRE_WINDOW_LOG_MAX)
}

/// Reads frames that come from outside.
pub struct Decoder {
    context: DCtx<'static>,
}

impl Decoder {
    /// A context of its own, to be kept and used again.
    pub fn new() -> Self {
        Self {
            context: DCtx::create(),
        }
    }

    /// Decodes exactly one frame whose content is known to be `expected` bytes long.
    pub fn frame(
        &mut self,
        bytes: &[u8],
        expected: u64,
        bounds: Bounds,
    ) -> Result<Vec<u8>, CodecError> {
        self.frame_in(Vec::new(), bytes, expected, bounds)
    }

    /// The same into memory that was used before, whatever it holds: mapping megabytes anew takes
    /// as long as decoding into them.
    pub fn frame_in(
        &mut self,
        memory: Vec<u8>,
        bytes: &[u8],
        expected: u64,
        bounds: Bounds,
    ) -> Result<Vec<u8>, CodecError> {
        let header = FrameHeader::read(bytes)?;
        header.expect(expected)?;
        self.decode(bytes, header, bounds, memory)
    }

    /// Decodes exactly one frame that was compressed behind `prefix`, whose content is known to be
    /// `expected` bytes long. With another prefix the result differs or fails: the caller
    /// hashes what comes out.
    pub fn decompress_with_prefix(
        &mut self,
        prefix: &[u8],
        bytes: &[u8],
        expected: u64,
        bounds: Bounds,
    ) -> Result<Vec<u8>, CodecError> {
        let header = FrameHeader::read(bytes)?;
        header.expect(expected)?;
        header.check(bounds)?;
        check_alone(bytes)?;
        // The context borrows the prefix, so it is one for this frame.
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
        // Zeros that were never touched cost nothing.
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

const MAGIC: u32 = 0xFD2F_B528;
const SKIPPABLE_MAGICS: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;
/// The formats of zstd 0.1 to 0.7, never frozen, each with a magic number of its own.
const LEGACY_MAGICS: std::ops::RangeInclusive<u32> = 0xFD2F_B522..=0xFD2F_B527;
const LEGACY_MAGIC_FIRST: u32 = 0x1EB5_2FFD;

/// The fields of a frame header (RFC 8878, section 3.1.1.1) that ask for memory.
#[derive(Debug, Clone, Copy)]
struct FrameHeader {
    window_bytes: u64,
    content_bytes: u64,
}

impl FrameHeader {
    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
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

    const fn expect(self, expected: u64) -> Result<(), CodecError> {
        let declared = self.content_bytes;
        if declared == expected {
            Ok(())
        } else {
            Err(CodecError::ContentSize { declared, expected })
        }
    }

    fn check(self, bounds: Bounds) -> Result<(), CodecError> {
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
fn window_bytes(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 0b111)
}

fn field<const N: usize>(bytes: &[u8]) -> Result<[u8; N], CodecError> {
    bytes
        .first_chunk::<N>()
        .copied()
        .ok_or(CodecError::Truncated)
}

/// Decoders may go on with a second frame or silently ignore it: neither is what was meant.
fn check_alone(bytes: &[u8]) -> Result<(), CodecError> {
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

fn corrupt(code: zstd_safe::ErrorCode) -> CodecError {
    CodecError::Corrupt {
        reason: zstd_safe::get_error_name(code),
    }
}

/// The bytes are not one plain zstd frame within its bounds.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The frame ends inside its header.
    #[error("the zstd frame ends inside its header")]
    Truncated,
    /// The first four bytes are something else.
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
    /// The frame wants a dictionary.
    #[error("the zstd frame names a dictionary, and none is allowed")]
    Dictionary,
    /// The frame does not say how long its content is.
    #[error("the zstd frame does not declare its content size")]
    NoContentSize,
    /// The frame has no content. What is empty is stored, not compressed.
    #[error("the zstd frame is empty")]
    Empty,
    /// The frame's content is not as long as what it stands for.
    #[error("the zstd frame declares {declared} bytes of content where {expected} are expected")]
    ContentSize {
        /// Bytes that the frame declares.
        declared: u64,
        /// Bytes that the surrounding format declares.
        expected: u64,
    },
    /// The content passes its bound.
    #[error("the zstd frame declares {declared} bytes of content, above the limit of {allowed}")]
    TooLarge {
        /// Bytes that the frame declares.
        declared: u64,
        /// The bound.
        allowed: u64,
    },
    /// The window passes its bound.
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
        /// How many.
        bytes: usize,
    },
    /// zstd itself refused the frame.
    #[error("zstd can't decode the frame: {reason}")]
    Corrupt {
        /// zstd's name for it.
        reason: &'static str,
    },
}

impl CodecError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        Code::Compression
    }
}

#[cfg(test)]
mod tests;
