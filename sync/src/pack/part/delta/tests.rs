//! Part deltas: what the receiver accepts and refuses.

use pmx_core::code::Code;
use pmx_core::codec::{Encoder, Level};
use pmx_core::id::NodeId;
use proptest::prelude::*;

use super::super::FLAG_COPIES;
use super::*;
use crate::pack::PackCoding;
use crate::pack::part::{Arrived, BlobParts, WirePart, open, verify};

const SOLID: PackCoding = PackCoding::Zstd(Level::STORED);

fn base() -> Root {
    NodeId::of(b"base")
}

/// A short last part: 200 bytes of text.
fn short() -> (Part, Vec<u8>) {
    let part = BlobParts::of(PART_BYTES + 200).unwrap().part(1).unwrap();
    (
        part,
        (0..200)
            .map(|at| b"abcdefg"[at % 7] ^ (at as u8 / 50))
            .collect(),
    )
}

/// Offset of the copied source: far into a blob, across the edge of two of its parts.
const START: u64 = 2 * PART_BYTES - 100;

fn run(at: u64, from: u64, len: u64) -> Run {
    Run { at, from, len }
}

/// A delta that copies all but ten bytes in the middle and the last five, and the source bytes.
fn edited(bytes: &[u8]) -> (PartDelta, Vec<u8>) {
    let (part, _) = short();
    let mut copies = PartDelta::of(part, base(), 7);
    assert!(copies.push(run(0, START, 90)));
    assert!(copies.push(run(100, START + 130, 95)));
    let old = [&bytes[..90], &[b'-'; 40], &bytes[100..195]].concat();
    (copies, old)
}

/// A part with copies; `None` if it has none.
fn pending_of(wire: &[u8], part: Part) -> Result<Option<PendingPart>, PartError> {
    match open(wire, part, &mut Decoder::new())? {
        Arrived::Pending(pending) => Ok(Some(pending)),
        Arrived::Whole(_) => Ok(None),
    }
}

fn finished(wire: &[u8], old: &[u8]) -> Result<VerifiedPart, PartError> {
    let (part, _) = short();
    let pending = pending_of(wire, part)?;
    let mut pending = pending.ok_or(PartError::Copies)?;
    pending.fill(START, old, PackKind::Stored);
    pending.finish()
}

#[test]
fn part_delta_of_runs_and_literals_makes_the_part() {
    let (part, bytes) = short();
    let (copies, old) = edited(&bytes);
    assert_eq!((copies.bytes(), copies.touched()), (185, &[1, 2][..]));
    for coding in [SOLID, PackCoding::Stored] {
        let wire =
            WirePart::build_with_delta(&copies, &bytes, &mut Encoder::new(), coding).unwrap();
        let verified = finished(&wire.bytes, &old).unwrap();
        assert_eq!(verified.raw(), bytes);
        assert_eq!(verified.chaining_value(), wire.chaining_value);
        assert_eq!(verified.part(), part);
        let alone = verify(&wire.bytes, part, &mut Decoder::new());
        assert_eq!(alone, Err(PartError::Copies));
        assert_eq!(PartError::Copies.code(), Code::PrefixMissing);
    }
    let plain = WirePart::of(part, &bytes, &mut Encoder::new(), SOLID).unwrap();
    assert!(matches!(pending_of(&plain.bytes, part), Ok(None)));
    let none = PartDelta::of(part, base(), 7);
    let same = WirePart::build_with_delta(&none, &bytes, &mut Encoder::new(), SOLID);
    assert_eq!(same, Ok(plain), "a part that copies nothing is a plain one");
}

#[test]
fn part_delta_keeps_the_kind_of_its_body() {
    let (part, bytes) = short();
    let mut copies = PartDelta::of(part, base(), 7);
    assert!(copies.push(run(0, START, 200)));
    for kind in [PackKind::Stored, PackKind::Solid] {
        let wire = WirePart::build_with_delta(&copies, &bytes, &mut Encoder::new(), SOLID).unwrap();
        assert_eq!(wire.bytes[5], FLAG_COPIES, "nothing is left to compress");
        assert!(wire.bytes.len() < 90);
        let mut pending = pending_of(&wire.bytes, part).unwrap().unwrap();
        // The test fills one part of the base's blob after the other, in any order.
        pending.fill(START + 100, &bytes[100..], kind);
        pending.fill(START, &bytes[..100], PackKind::Stored);
        assert_eq!(pending.finish().unwrap().kind, kind);
    }
}

#[test]
fn pending_part_reads_only_what_it_copies() {
    let (_, bytes) = short();
    let (copies, _) = edited(&bytes);
    let wire = WirePart::build_with_delta(&copies, &bytes, &mut Encoder::new(), SOLID).unwrap();
    let (part, _) = short();
    let pending = pending_of(&wire.bytes, part).unwrap().unwrap();
    let p = PART_BYTES;
    for (asked, needed) in [
        (0..p, 0..0),
        (p..2 * p, START..START + 90),
        (2 * p..3 * p, START + 130..START + 225),
        (0..9 * p, START..START + 225),
    ] {
        assert_eq!(pending.needs(asked.clone()), needed, "{asked:?}");
    }
}

#[test]
fn pending_part_refuses_another_base() {
    let (_, bytes) = short();
    let (copies, old) = edited(&bytes);
    let wire = WirePart::build_with_delta(&copies, &bytes, &mut Encoder::new(), SOLID).unwrap();
    let copied = PartError::Copied { number: 1 };
    assert_eq!(copied.code(), Code::PrefixMissing);
    for at in (0..90).chain(130..225) {
        let mut spoilt = old.clone();
        spoilt[at] ^= 1;
        assert_eq!(finished(&wire.bytes, &spoilt), Err(copied), "{at}");
    }
    // Bytes that no run copies do not matter; a source that ends too early leaves the part
    // incomplete.
    let mut other = old.clone();
    other[100] ^= 1;
    assert!(finished(&wire.bytes, &other).is_ok());
    assert_eq!(finished(&wire.bytes, &old[..200]), Err(copied));
}

#[test]
fn part_delta_refuses_every_flip_and_truncation() {
    let (_, bytes) = short();
    let (copies, old) = edited(&bytes);
    for coding in [SOLID, PackCoding::Stored] {
        let wire =
            WirePart::build_with_delta(&copies, &bytes, &mut Encoder::new(), coding).unwrap();
        for end in 0..wire.bytes.len() {
            assert!(finished(&wire.bytes[..end], &old).is_err(), "cut at {end}");
        }
        for at in 0..wire.bytes.len() {
            for flip in 1..=255u8 {
                let mut flipped = wire.bytes.clone();
                flipped[at] ^= flip;
                // Root and rank say where to find the source, which this test does not check.
                let is_name = (8..41).contains(&at);
                if let Ok(found) = finished(&flipped, &old) {
                    assert_eq!(found.raw(), bytes, "{at} {flip:#x}");
                    assert!(is_name, "{at} {flip:#x}");
                }
            }
        }
    }
}

#[test]
fn runs_have_one_spelling_and_bounds() {
    let (part, bytes) = short();
    let p = PART_BYTES;
    let wire = |count: u64, runs: &[(u64, u64, u64)], body: usize| {
        let value = ChainingValue::of(part, &bytes).unwrap();
        let mut wire = b"PMXP\x01\x02\xc8\x01".to_vec();
        wire.extend_from_slice(base().as_bytes());
        wire.push(7);
        wire.extend_from_slice(value.as_bytes());
        write_varint(&mut wire, count);
        for (literal, from, len) in runs {
            write_varint(&mut wire, *literal);
            write_varint(&mut wire, *from);
            write_varint(&mut wire, *len);
        }
        wire.extend_from_slice(&vec![b'x'; body]);
        pending_of(&wire, part).map(|pending| pending.unwrap().copies)
    };
    let good: [&[_]; 5] = [
        &[(0, 0, 200)],
        &[(10, 5, 90), (0, 5, 90)],
        &[(0, 0, 100), (0, 101, 100)],
        &[(0, BLOB_BYTES_MAX - 200, 200)],
        &[(0, p - 1, 2), (0, 2 * p, 2)],
    ];
    for runs in good {
        let copied: u64 = runs.iter().map(|(_, _, len)| len).sum();
        let read = wire(runs.len() as u64, runs, 200 - copied as usize).unwrap();
        assert_eq!(read.bytes(), copied, "{runs:?}");
    }
    let bad: [(u64, &[_]); 11] = [
        (0, &[]),
        (1, &[(0, 0, 0)]),
        (1, &[(1, 0, 200)]),
        (1, &[(201, 0, 1)]),
        (1, &[(u64::MAX, 0, 1)]),
        (1, &[(0, 0, u64::MAX)]),
        (1, &[(0, BLOB_BYTES_MAX - 199, 200)]),
        (1, &[(0, u64::MAX, 2)]),
        (2, &[(0, 0, 100), (0, 100, 100)]),
        (2, &[(0, p - 1, 2), (0, 3 * p - 1, 2)]),
        (COPIES_MAX as u64 + 1, &[(0, 0, 200)]),
    ];
    for (count, runs) in bad {
        let refused = wire(count, runs, 0).unwrap_err();
        assert_eq!(refused, PartError::Runs, "{runs:?}");
        assert_eq!(refused.code(), Code::PackMalformed);
    }
    let few = wire(2, &[(0, 0, 190)], 0).unwrap_err();
    assert_eq!(few, Malformed::Truncated.into());
    for body in [9, 11] {
        let length = wire(1, &[(0, 0, 190)], body).unwrap_err();
        assert!(matches!(length, PartError::Length { expected: 10, .. }));
    }
}

#[test]
fn part_delta_takes_as_many_runs_as_are_allowed() {
    let part = BlobParts::of(PART_BYTES + 1).unwrap().part(0).unwrap();
    let mut copies = PartDelta::of(part, base(), 0);
    for number in 0..COPIES_MAX as u64 {
        assert!(copies.push(run(2 * number, 3 * number, 1)));
    }
    let next = 2 * COPIES_MAX as u64;
    assert!(!copies.push(run(next, 0, 1)));
    assert!(!copies.push(run(0, 0, 1)), "runs are in order");
    let bytes = vec![b'a'; PART_BYTES as usize];
    let wire = WirePart::build_with_delta(&copies, &bytes, &mut Encoder::new(), SOLID).unwrap();
    let mut pending = pending_of(&wire.bytes, part).unwrap().unwrap();
    pending.fill(0, &bytes, PackKind::Solid);
    assert!(pending.finish().unwrap().raw() == bytes);
}

proptest! {
    #[test]
    fn part_delta_round_trips(
        pieces in prop::collection::vec((0u64..20, 0u64..300, 0u64..40), 0..12),
        stored: bool,
    ) {
        let (part, mut bytes) = short();
        let old: Vec<u8> = (0..400u32).map(|at| (at * at / 7) as u8).collect();
        let mut copies = PartDelta::of(part, base(), 1);
        let mut at = 0;
        for (literal, from, len) in pieces {
            if copies.push(run(at + literal, START + from, len)) {
                let to = (at + literal) as usize;
                let source = &old[from as usize..(from + len) as usize];
                bytes[to..to + len as usize].copy_from_slice(source);
                at += literal + len;
            }
        }
        let coding = if stored { PackCoding::Stored } else { SOLID };
        let mut encoder = Encoder::new();
        let wire = WirePart::build_with_delta(&copies, &bytes, &mut encoder, coding).unwrap();
        if copies.is_empty() {
            prop_assert!(verify(&wire.bytes, part, &mut Decoder::new()).is_ok());
        } else {
            let read = pending_of(&wire.bytes, part).unwrap().unwrap();
            prop_assert_eq!(read.copies(), &copies);
            let found = finished(&wire.bytes, &old).unwrap();
            prop_assert_eq!(found.raw(), &bytes[..]);
        }
    }

    #[test]
    fn part_delta_never_panics(
        flags in 2u8..4,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (part, _) = short();
        for head in [&[][..], &[1; 65], &[1; 66]] {
            let wire = [b"PMXP\x01", &[flags, 0xc8, 1][..], head, &bytes].concat();
            if let Ok(Some(mut pending)) = pending_of(&wire, part) {
                pending.fill(0, &bytes, PackKind::Stored);
                let _ = pending.needs(0..u64::MAX);
                let _ = pending.finish();
            }
        }
    }
}
