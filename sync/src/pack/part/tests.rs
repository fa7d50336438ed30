//! Parts: what the receiver accepts and refuses.

use pmx_core::code::Code;
use pmx_core::codec::{CodecError, Level};
use pmx_core::encode::Malformed;
use pmx_core::id::ObjectId;
use pmx_core::location::{Codec, Extent, Location};
use proptest::prelude::*;

use super::*;
use crate::pack::stored::open_frame;

const SOLID: PackCoding = PackCoding::Zstd(Level::STORED);

fn text(len: usize) -> Vec<u8> {
    let words = (0..).flat_map(|line: u32| format!("line {line} of it\n").into_bytes());
    words.take(len).collect()
}

#[test]
fn big_blobs_come_back_part_by_part() {
    let blob = text(2 * PART_BYTES as usize + 1);
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for len in [
        PART_BYTES + 1,
        2 * PART_BYTES - 1,
        2 * PART_BYTES,
        2 * PART_BYTES + 1,
    ] {
        let blob = &blob[..len as usize];
        let parts = BlobParts::of(len).unwrap();
        let mut values = Vec::new();
        for part in parts.all() {
            let bytes = &blob[part.offset() as usize..][..part.len() as usize];
            let coding = if part.number() == 1 {
                PackCoding::Stored
            } else {
                SOLID
            };
            let wire = WirePart::of(part, bytes, &mut encoder, coding).unwrap();
            let verified = verify(&wire.bytes, part, &mut decoder).unwrap();
            assert_eq!(verified.part(), part);
            assert_eq!(verified.chaining_value(), wire.chaining_value);
            assert!(verified.raw() == bytes);
            values.push(verified.chaining_value());
            let rest = verified.rest(&mut encoder, Level::STORED);
            let opened = open_frame(&rest.bytes, rest.codec, part.len(), &mut decoder);
            assert!(opened.unwrap() == bytes);
            assert_eq!(rest.codec == Codec::Stored, wire.bytes[5] == 0);
        }
        assert_eq!(parts.merge(&values), Ok(BlobId::of(blob)), "{len}");
        let last = values.len() - 1;
        values.swap(0, last);
        assert_ne!(parts.merge(&values), Ok(BlobId::of(blob)), "{len}");
    }
}

#[test]
fn blob_divides_into_aligned_parts() {
    for (size, count, last) in [
        (PART_BYTES + 1, 2, 1),
        (2 * PART_BYTES, 2, PART_BYTES),
        (2 * PART_BYTES + 1, 3, 1),
        (BLOB_BYTES_MAX, PARTS_MAX, PART_BYTES),
    ] {
        let parts = BlobParts::of(size).unwrap();
        assert_eq!((parts.size(), parts.count()), (size, count));
        assert_eq!(parts.part(count - 1).unwrap().len(), last);
        assert_eq!(parts.part(0).unwrap().len(), PART_BYTES);
        let number = count;
        assert_eq!(parts.part(count), Err(PartError::Number { number, count }));
    }
    for (size, code) in [
        (0, Code::PackMalformed),
        (PART_BYTES, Code::PackMalformed),
        (BLOB_BYTES_MAX + 1, Code::TooLarge),
        (u64::MAX, Code::TooLarge),
    ] {
        assert_eq!(BlobParts::of(size), Err(PartError::Size { size }));
        assert_eq!(PartError::Size { size }.code(), code);
    }
}

#[test]
fn range_touches_only_its_parts() {
    let p = PART_BYTES;
    let parts = BlobParts::of(3 * p + 10).unwrap();
    for (range, expected) in [
        (0..0, vec![]),
        (5..5, vec![]),
        (0..1, vec![(0, 0..1)]),
        (p - 1..p, vec![(0, p - 1..p)]),
        (p..p + 1, vec![(1, 0..1)]),
        (p - 1..p + 1, vec![(0, p - 1..p), (1, 0..1)]),
        (p..3 * p, vec![(1, 0..p), (2, 0..p)]),
        (3 * p + 9..u64::MAX, vec![(3, 9..10)]),
        (3 * p + 10..u64::MAX, vec![]),
    ] {
        let touched: Vec<_> = parts
            .touching(range.clone())
            .map(|(part, range)| (part.number(), range))
            .collect();
        assert_eq!(touched, expected, "{range:?}");
    }
}

/// A short last part, which is small on the wire.
fn short() -> (Part, Vec<u8>) {
    let part = BlobParts::of(PART_BYTES + 200).unwrap().part(1).unwrap();
    (part, text(200))
}

#[test]
fn part_verify_refuses_every_flip_and_truncation() {
    let (part, bytes) = short();
    for coding in [SOLID, PackCoding::Stored] {
        let wire = WirePart::of(part, &bytes, &mut Encoder::new(), coding).unwrap();
        for end in 0..wire.bytes.len() {
            let cut = verify(&wire.bytes[..end], part, &mut Decoder::new());
            assert!(cut.is_err(), "cut at {end}");
        }
        for at in 0..wire.bytes.len() {
            for flip in 1..=255u8 {
                let mut flipped = wire.bytes.clone();
                flipped[at] ^= flip;
                if let Ok(found) = verify(&flipped, part, &mut Decoder::new()) {
                    let same = found.chaining_value() == wire.chaining_value;
                    assert_eq!(same, found.raw() == bytes, "{at} {flip:#x}");
                    assert!(at >= 8, "{at} {flip:#x}");
                    assert!(!same || coding == SOLID, "{at} {flip:#x}");
                }
            }
        }
    }
}

#[test]
fn part_verify_names_each_refusal() {
    let (part, bytes) = short();
    let wire = WirePart::of(part, &bytes, &mut Encoder::new(), PackCoding::Stored).unwrap();
    assert_eq!(&wire.bytes[..8], b"PMXP\x01\x00\xc8\x01");
    let change = |at: usize, to: u8| {
        let mut wire = wire.bytes.clone();
        wire[at] = to;
        wire
    };
    let length = |actual| PartError::Length {
        number: 1,
        actual,
        expected: 200,
    };
    for (wire, error, code) in [
        (change(3, b'W'), PartError::Magic, Code::PackMalformed),
        (change(4, 2), PartError::Version(2), Code::PackMalformed),
        (change(5, 4), PartError::Flags(4), Code::PackMalformed),
        (change(6, 0xc9), length(201), Code::PackMalformed),
        (wire.bytes[..207].to_vec(), length(199), Code::PackMalformed),
        (
            change(5, 1),
            CodecError::NotZstd {
                magic: u32::from_le_bytes(*b"line"),
            }
            .into(),
            Code::Compression,
        ),
        (
            b"PMXP".to_vec(),
            Malformed::Truncated.into(),
            Code::PackMalformed,
        ),
    ] {
        let refused = verify(&wire, part, &mut Decoder::new()).unwrap_err();
        assert_eq!((refused, refused.code()), (error, code));
    }
    let other = BlobParts::of(PART_BYTES + 1).unwrap().part(1).unwrap();
    let refused = WirePart::of(other, &bytes, &mut Encoder::new(), SOLID).unwrap_err();
    assert!(matches!(refused, PartError::Length { expected: 1, .. }));
    let few = BlobParts::of(3 * PART_BYTES).unwrap().merge(&[]);
    let (actual, expected) = (0, 3);
    assert_eq!(few, Err(PartError::Count { actual, expected }));
}

fn location(codec: Codec, len: u64) -> Location {
    let object = ObjectId::from_bytes([7; 16]);
    let extent = Extent {
        object,
        offset: 3,
        len,
    };
    Location { extent, codec }
}

#[test]
fn part_tables_are_canonical() {
    let parts = BlobParts::of(PART_BYTES + 9).unwrap();
    for (second, codec) in [
        (location(Codec::Stored, 9), Codec::Parts),
        (location(Codec::Zstd, 8), Codec::ZstdParts),
    ] {
        let first = location(Codec::Zstd, PART_BYTES - 1);
        let table = PartTable::new(parts, vec![first, second]).unwrap();
        assert_eq!(table.codec(), codec);
        assert_eq!(table.location(parts.part(1).unwrap()), Some(&second));
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert_eq!(PartTable::decode(&bytes, parts), Ok(table));
        for end in 0..bytes.len() {
            assert!(PartTable::decode(&bytes[..end], parts).is_err(), "{end}");
        }
        bytes.push(0);
        let trailing = PartTable::decode(&bytes, parts);
        assert_eq!(trailing, Err(Malformed::Trailing(1).into()));
        let other = BlobParts::of(2 * PART_BYTES + 9).unwrap();
        let wrong = PartTable::decode(&bytes, other);
        assert!(matches!(wrong, Err(PartError::Count { .. })));
    }
    for bad in [
        location(Codec::Stored, 8),
        location(Codec::Zstd, 9),
        location(Codec::Zstd, 0),
        location(Codec::Parts, 9),
        location(Codec::ZstdParts, 8),
    ] {
        let first = location(Codec::Stored, PART_BYTES);
        let table = PartTable::new(parts, vec![first, bad]);
        assert_eq!(table, Err(PartError::Location { number: 1 }));
    }
    let mut many = Vec::new();
    write_varint(&mut many, u64::from(u32::MAX));
    many.resize(20, 0);
    let refused = PartTable::decode(&many, parts);
    assert!(matches!(
        refused,
        Err(PartError::Head(Malformed::TooLarge { .. }))
    ));
}

proptest! {
    /// The tree does not depend on the size of a part, so small ones show its shape.
    #[test]
    fn merged_subtrees_are_the_hash(
        part_log in 10u32..14,
        parts in 2usize..40,
        last in prop_oneof![Just(0usize), Just(1), 0usize..16_384],
    ) {
        let part = 1 << part_log;
        let blob = text((parts - 1) * part + last % part + 1);
        let values: Vec<_> = blob
            .chunks(part)
            .zip(0..)
            .map(|(bytes, number)| subtree(number * part as u64, bytes))
            .collect();
        prop_assert_eq!(merge_root(&values), BlobId::of(&blob));
        let exact = &blob[..(parts - 1) * part];
        if parts > 2 {
            prop_assert_eq!(merge_root(&values[..parts - 1]), BlobId::of(exact));
        }
    }

    #[test]
    fn ranges_are_covered_once(
        size in PART_BYTES + 1..9 * PART_BYTES,
        start in 0..9 * PART_BYTES,
        len in 0..9 * PART_BYTES,
    ) {
        let mut next = start;
        for (part, range) in BlobParts::of(size).unwrap().touching(start..start + len) {
            prop_assert_eq!(part.offset() + range.start, next);
            prop_assert!(!range.is_empty() && range.end <= part.len());
            next = part.offset() + range.end;
        }
        prop_assert_eq!(next.max(start), (start + len).min(size).max(start));
    }

    #[test]
    fn part_verify_never_panics(
        flags in 0u8..3,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (part, _) = short();
        let wire = [b"PMXP\x01", &[flags, 0xc8, 1][..], &bytes].concat();
        let _ = verify(&wire, part, &mut Decoder::new());
        let _ = verify(&bytes, part, &mut Decoder::new());
        let _ = PartTable::decode(&bytes, BlobParts::of(2 * PART_BYTES).unwrap());
    }
}
