//! Frames: what the decoder accepts and refuses.

use proptest::prelude::*;
use zstd_safe::{CCtx, CParameter};

use crate::code::Code;
use crate::codec::header::{MAGIC, window_bytes};
use crate::codec::*;

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
    // The context itself is about 160 KiB; a window would add at least its own size.
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
        (24, Bounds::STORED),
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
    refuse(&with_window(((23 - 10) << 3) | 1), 4, Bounds::STORED, error);
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
    // The test's frame is a real bomb: with bounds that allow it, it unfolds.
    let generous = Bounds {
        window_log_max: 24,
        raw_bytes_max: 1 << 30,
    };
    let decoded = Decoder::new().frame(&bomb(honest), honest, generous);
    assert_eq!(decoded.map(|raw| raw.len()), Ok(1 << 30));
}

#[test]
fn decoder_refuses_all_but_one_plain_frame() {
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
        Decoder::new()
            .frame(&checksum, len, Bounds::STORED)
            .unwrap(),
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
        ("empty for something", zstd(b"", &[]), len, size(0, len)),
    ] {
        let decoded = Decoder::new().frame(&frame, expected, Bounds::STORED);
        assert_eq!(decoded, Err(error), "{name}");
    }
    refuse(
        &checksum,
        len,
        Bounds::STORED,
        CodecError::Corrupt {
            reason: "Restored data doesn't match checksum",
        },
    );
}

#[test]
fn content_size_that_lies_by_one_is_refused() {
    // Single segment, content size in one byte, directly after the descriptor.
    let good = zstd(RAW, &[]);
    assert_eq!(usize::from(good[5]), RAW.len());
    for lie in [good[5] - 1, good[5] + 1] {
        let mut frame = good.clone();
        frame[5] = lie;
        let decoded = Decoder::new().frame(&frame, u64::from(lie), Bounds::STORED);
        assert!(matches!(decoded, Err(CodecError::Corrupt { .. })), "{lie}");
    }
}

#[test]
fn decoder_refuses_every_truncation() {
    let good = zstd(RAW, &[]);
    for end in 0..good.len() {
        let decoded = Decoder::new().frame(&good[..end], RAW.len() as u64, Bounds::STORED);
        assert!(decoded.is_err(), "{end}");
    }
}

#[test]
fn hardest_level_stays_within_the_windows() {
    let raw: Vec<u8> = (0..PART_BYTES as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 27) as u8)
        .collect();
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let level = Level::new(19).unwrap();
    assert_eq!(Level::new(0), None);
    assert_eq!(Level::new(20), None);
    let frame = encoder.frame(&raw[..1 << 20], level);
    assert!(decoder.frame(&frame, 1 << 20, Bounds::STORED).is_ok());
    for level in [Level::WIRE, Level::STORED] {
        let frame = encoder.frame(&raw, level);
        assert!(decoder.frame(&frame, PART_BYTES, Bounds::STORED).unwrap() == raw);
        let solid = encoder.solid(&raw, level);
        assert!(decoder.frame(&solid, PART_BYTES, Bounds::WIRE).unwrap() == raw);
    }
}

proptest! {
    #[test]
    fn frames_come_back_whatever_the_context_did_before(
        blobs in prop::collection::vec(prop::collection::vec(0u8..4, 1..2_000), 1..8),
        level in 1u8..=9,
        used in prop::collection::vec(any::<u8>(), 0..4_000),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let level = Level::new(level).unwrap();
        for blob in &blobs {
            let len = blob.len() as u64;
            let frame = encoder.frame(blob, level);
            prop_assert_eq!(&frame, &Encoder::new().frame(blob, level));
            prop_assert_eq!(&decoder.frame(&frame, len, Bounds::STORED).unwrap(), blob);
            let memory = used.clone();
            let again = decoder.frame_in(memory, &frame, len, Bounds::STORED);
            prop_assert_eq!(&again.unwrap(), blob);
            let solid = encoder.solid(blob, level);
            prop_assert_eq!(&decoder.frame_up_to(&solid, Bounds::WIRE).unwrap(), blob);
        }
    }

    #[test]
    fn decoder_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        expected in 0u64..99,
    ) {
        let framed = join(&[&MAGIC.to_le_bytes(), &bytes]);
        let mut decoder = Decoder::new();
        for input in [&bytes, &framed] {
            if let Ok(raw) = decoder.frame(input, expected, Bounds::STORED) {
                prop_assert_eq!(raw.len() as u64, expected);
            }
        }
    }
}
