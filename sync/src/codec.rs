//! The only place that touches zstd: frames out, and frames in that are distrusted first.
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
    /// What a client uses for solid packs.
    pub const WIRE: Self = Self(3);
    /// What a server uses for frames at rest.
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
}

impl Encoder {
    /// A context of its own, to be kept and used again.
    pub fn new() -> Self {
        Self {
            context: CCtx::create(),
            settings: None,
        }
    }

    /// Compresses one blob to a frame of its own, fit for rest.
    pub fn frame(&mut self, bytes: &[u8], level: Level) -> Vec<u8> {
        let mut out = Vec::new();
        self.append_frame(&mut out, bytes, level);
        out
    }

    /// Appends what [`Self::frame`] returns to `out`.
    pub(crate) fn append_frame(&mut self, out: &mut Vec<u8>, bytes: &[u8], level: Level) {
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
        out.shrink_to_fit();
        out
    }

    fn append(&mut self, out: &mut Vec<u8>, bytes: &[u8], settings: Settings) {
        if self.settings != Some(settings) {
            settings.apply(&mut self.context);
            self.settings = Some(settings);
        }
        let start = out.len();
        out.resize(start + zstd_safe::compress_bound(bytes.len()), 0);
        let written = self.context.compress2(&mut out[start..], bytes);
        let written = written.expect("the output has room for the worst case");
        out.truncate(start + written);
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

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
}

impl Settings {
    fn apply(self, context: &mut CCtx<'static>) {
        let mut parameters = vec![
            CParameter::CompressionLevel(i32::from(self.level.number())),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        match self.shape {
            Shape::Frame => {}
            Shape::Solid { window_log } => parameters.extend([
                CParameter::WindowLog(window_log),
                CParameter::EnableLongDistanceMatching(true),
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
        let header = FrameHeader::read(bytes)?;
        if header.content_bytes != expected {
            return Err(CodecError::ContentSize {
                declared: header.content_bytes,
                expected,
            });
        }
        self.decode(bytes, header, bounds)
    }

    /// Decodes exactly one frame of any content size within `bounds`.
    pub fn frame_up_to(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Vec<u8>, CodecError> {
        let header = FrameHeader::read(bytes)?;
        self.decode(bytes, header, bounds)
    }

    fn decode(
        &mut self,
        bytes: &[u8],
        header: FrameHeader,
        bounds: Bounds,
    ) -> Result<Vec<u8>, CodecError> {
        header.check(bounds)?;
        check_alone(bytes)?;
        let mut raw = vec![0; header.content_bytes as usize];
        let written = self.context.decompress(&mut raw[..], bytes);
        match written.map_err(corrupt)? {
            written if written == raw.len() => Ok(raw),
            _ => Err(CodecError::Corrupt {
                reason: "the content ends too early",
            }),
        }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RAW: &[u8] = b"the same words, the same words, the same words, and some more of them";

    fn zstd(bytes: &[u8], parameters: &[CParameter]) -> Vec<u8> {
        let mut context = CCtx::create();
        for parameter in parameters {
            context.set_parameter(*parameter).unwrap();
        }
        let mut out = vec![0; zstd_safe::compress_bound(bytes.len())];
        let written = context.compress2(&mut out[..], bytes).unwrap();
        out.truncate(written);
        out
    }

    fn join(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    /// A header with this window descriptor and a content size of four bytes, then one raw block.
    fn with_window(window: u8) -> Vec<u8> {
        let mut frame = MAGIC.to_le_bytes().to_vec();
        frame.extend([0b1000_0000, window]);
        frame.extend(4u32.to_le_bytes());
        frame.extend([(4 << 3) | 1, 0, 0]);
        frame.extend(b"abcd");
        frame
    }

    /// One gigabyte of zeros: blocks of 128 KiB, each a single repeated byte.
    fn bomb(declared: u64) -> Vec<u8> {
        let mut frame = MAGIC.to_le_bytes().to_vec();
        frame.extend([0b1100_0000, (17 - 10) << 3]);
        frame.extend(declared.to_le_bytes());
        for block in 1..=8_192u32 {
            let head = (131_072 << 3) | (1 << 1) | u32::from(block == 8_192);
            frame.extend(&head.to_le_bytes()[..3]);
            frame.push(0);
        }
        frame
    }

    #[track_caller]
    fn refuse(frame: &[u8], expected: u64, bounds: Bounds, error: CodecError) {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.frame(frame, expected, bounds), Err(error));
        assert_eq!(error.code(), Code::Compression);
        // The context itself is about 160 KiB; a window would add at least what it asks for.
        assert!(decoder.context.sizeof() < 512 * 1024);
    }

    #[test]
    fn windows_are_read_as_the_rfc_says() {
        for (descriptor, bytes) in [
            (0, 1_024),
            (1, 1_152),
            (7, 1_920),
            (8, 2_048),
            ((23 - 10) << 3, 8 << 20),
            ((24 - 10) << 3, 16 << 20),
            (0xff, (1 << 41) + 7 * (1 << 38)),
        ] {
            assert_eq!(window_bytes(descriptor), bytes, "{descriptor:#x}");
        }
    }

    #[test]
    fn large_windows_are_refused() {
        let mut decoder = Decoder::new();
        for log in 10..=24 {
            let frame = with_window((log - 10) << 3);
            assert_eq!(decoder.frame(&frame, 4, Bounds::WIRE).unwrap(), b"abcd");
        }
        for (log, bounds) in [
            (24, Bounds::REST),
            (25, Bounds::WIRE),
            (27, Bounds::WIRE),
            (28, Bounds::WIRE),
            (29, Bounds::WIRE),
            (30, Bounds::WIRE),
            (31, Bounds::WIRE),
            (41, Bounds::WIRE),
        ] {
            let error = CodecError::Window {
                declared: 1 << log,
                allowed: bounds.window_max(),
            };
            refuse(&with_window((log - 10) << 3), 4, bounds, error);
        }
        // One step of the mantissa above the bound.
        let error = CodecError::Window {
            declared: 9 << 20,
            allowed: 8 << 20,
        };
        refuse(&with_window(((23 - 10) << 3) | 1), 4, Bounds::REST, error);
    }

    #[test]
    fn bombs_are_refused_honest_or_lying() {
        let honest = 1 << 30;
        assert!(bomb(honest).len() < 33 * 1024);
        let error = CodecError::TooLarge {
            declared: honest,
            allowed: 8 << 20,
        };
        refuse(&bomb(honest), honest, Bounds::WIRE, error);
        let error = CodecError::ContentSize {
            declared: honest,
            expected: 1 << 20,
        };
        refuse(&bomb(honest), 1 << 20, Bounds::WIRE, error);
        let lying = CodecError::Corrupt {
            reason: "Destination buffer is too small",
        };
        refuse(&bomb(1 << 20), 1 << 20, Bounds::WIRE, lying);
        // It is a real bomb: with what it declares allowed, it goes off.
        let generous = Bounds {
            window_log_max: 24,
            raw_bytes_max: 1 << 30,
        };
        let decoded = Decoder::new().frame(&bomb(honest), honest, generous);
        assert_eq!(decoded.map(|raw| raw.len()), Ok(1 << 30));
    }

    #[test]
    fn everything_but_one_plain_frame_is_refused() {
        let len = RAW.len() as u64;
        let good = zstd(RAW, &[]);
        let skippable = join(&[&0x184D_2A53u32.to_le_bytes(), &[4, 0, 0, 0], b"skip"]);
        let mut dictionary = good.clone();
        dictionary[4] |= 1;
        dictionary.insert(5, 7);
        let mut reserved = good.clone();
        reserved[4] |= 0b1000;
        let mut unused = good.clone();
        unused[4] |= 0b1_0000;
        let mut checksum = zstd(RAW, &[CParameter::ChecksumFlag(true)]);
        assert_eq!(
            Decoder::new().frame(&checksum, len, Bounds::REST).unwrap(),
            RAW
        );
        *checksum.last_mut().unwrap() ^= 1;
        let unsized_frame = zstd(RAW, &[CParameter::ContentSizeFlag(false)]);
        let size = |declared: u64, expected: u64| CodecError::ContentSize { declared, expected };
        for (name, frame, expected, error) in [
            ("nothing", vec![], len, CodecError::Truncated),
            (
                "raw claimed as zstd",
                RAW.to_vec(),
                len,
                CodecError::NotZstd {
                    magic: u32::from_le_bytes(*b"the "),
                },
            ),
            (
                "legacy",
                join(&[&0xFD2F_B527u32.to_le_bytes(), &good[4..]]),
                len,
                CodecError::Legacy,
            ),
            ("skippable", skippable.clone(), len, CodecError::Skippable),
            (
                "skippable, then a frame",
                join(&[&skippable, &good]),
                len,
                CodecError::Skippable,
            ),
            (
                "a frame, then skippable",
                join(&[&good, &skippable]),
                len,
                CodecError::SecondFrame,
            ),
            (
                "two frames",
                join(&[&good, &good]),
                len,
                CodecError::SecondFrame,
            ),
            (
                "two frames as one",
                join(&[&good, &good]),
                2 * len,
                size(len, 2 * len),
            ),
            (
                "trailing junk",
                join(&[&good, b"junk!"]),
                len,
                CodecError::Trailing { bytes: 5 },
            ),
            (
                "a trailing zero",
                join(&[&good, &[0]]),
                len,
                CodecError::Trailing { bytes: 1 },
            ),
            ("dictionary", dictionary, len, CodecError::Dictionary),
            ("reserved bit", reserved, len, CodecError::ReservedBits),
            ("unused bit", unused, len, CodecError::ReservedBits),
            (
                "no content size",
                unsized_frame,
                len,
                CodecError::NoContentSize,
            ),
            ("one too many", good.clone(), len - 1, size(len, len - 1)),
            ("one too few", good.clone(), len + 1, size(len, len + 1)),
            ("empty", zstd(b"", &[]), 0, CodecError::Empty),
            (
                "empty for something",
                zstd(b"", &[]),
                len,
                size(0, len),
            ),
        ] {
            let decoded = Decoder::new().frame(&frame, expected, Bounds::REST);
            assert_eq!(decoded, Err(error), "{name}");
        }
        refuse(
            &checksum,
            len,
            Bounds::REST,
            CodecError::Corrupt {
                reason: "Restored data doesn't match checksum",
            },
        );
    }

    #[test]
    fn a_content_size_that_lies_by_one_is_refused() {
        // Single segment, content size in one byte, right behind the descriptor.
        let good = zstd(RAW, &[]);
        assert_eq!(usize::from(good[5]), RAW.len());
        for lie in [good[5] - 1, good[5] + 1] {
            let mut frame = good.clone();
            frame[5] = lie;
            let decoded = Decoder::new().frame(&frame, u64::from(lie), Bounds::REST);
            assert!(matches!(decoded, Err(CodecError::Corrupt { .. })), "{lie}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let good = zstd(RAW, &[]);
        for end in 0..good.len() {
            let decoded = Decoder::new().frame(&good[..end], RAW.len() as u64, Bounds::REST);
            assert!(decoded.is_err(), "{end}");
        }
    }

    #[test]
    fn the_hardest_level_stays_within_the_windows() {
        let raw: Vec<u8> = (0..PART_BYTES as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 27) as u8)
            .collect();
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let level = Level::new(19).unwrap();
        assert_eq!(Level::new(0), None);
        assert_eq!(Level::new(20), None);
        let frame = encoder.frame(&raw[..1 << 20], level);
        assert!(decoder.frame(&frame, 1 << 20, Bounds::REST).is_ok());
        for level in [Level::WIRE, Level::REST] {
            let frame = encoder.frame(&raw, level);
            assert!(decoder.frame(&frame, PART_BYTES, Bounds::REST).unwrap() == raw);
            let solid = encoder.solid(&raw, level);
            assert!(decoder.frame(&solid, PART_BYTES, Bounds::WIRE).unwrap() == raw);
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_whatever_the_context_did_before(
            blobs in prop::collection::vec(prop::collection::vec(0u8..4, 1..2_000), 1..8),
            level in 1u8..=9,
        ) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            let level = Level::new(level).unwrap();
            for blob in &blobs {
                let len = blob.len() as u64;
                let frame = encoder.frame(blob, level);
                prop_assert_eq!(&frame, &Encoder::new().frame(blob, level));
                prop_assert_eq!(&decoder.frame(&frame, len, Bounds::REST).unwrap(), blob);
                let solid = encoder.solid(blob, level);
                prop_assert_eq!(&decoder.frame_up_to(&solid, Bounds::WIRE).unwrap(), blob);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), expected in 0u64..99) {
            let framed = join(&[&MAGIC.to_le_bytes(), &bytes]);
            let mut decoder = Decoder::new();
            for input in [&bytes, &framed] {
                if let Ok(raw) = decoder.frame(input, expected, Bounds::REST) {
                    prop_assert_eq!(raw.len() as u64, expected);
                }
            }
        }
    }
}
