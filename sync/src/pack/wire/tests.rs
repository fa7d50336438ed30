//! Wire packs: what the receiver accepts and refuses.

use std::collections::BTreeSet;

use pmx_core::code::Code;
use pmx_core::codec::{CodecError, Level};
use pmx_core::encode::write_varint;
use pmx_core::id::{BlobId, Root};
use proptest::prelude::*;

use super::*;
use crate::limits::PREFIX_ROWS_MAX;

const SOLID: PackCoding = PackCoding::Zstd(Level::WIRE);

fn pack(blobs: &[&[u8]], coding: PackCoding) -> Vec<u8> {
    let mut builder = PackBuilder::new();
    for blob in blobs {
        builder.push(blob).unwrap();
    }
    let packed = builder.finish(&mut Encoder::new(), coding).unwrap();
    assert!(builder.is_empty());
    packed.into_bytes()
}

fn ids(wire: &[u8]) -> Result<Vec<BlobId>, PackError> {
    let pack = verify(wire, &mut Decoder::new())?;
    for blob in pack.blobs() {
        assert_eq!(blob.id(), BlobId::of(blob.bytes()), "believed unhashed");
    }
    Ok(pack.blobs().map(|blob| blob.id()).collect())
}

const PAGES: [&[u8]; 4] = [
    b"<html><head><title>one</title></head><body>words, words, words, one</body></html>",
    b"",
    b"<html><head><title>two</title></head><body>words, words, words, two</body></html>",
    b"z",
];

#[test]
fn wire_pack_format_is_the_documented_one() {
    let wire = pack(&[b"ab", b"", b"c"], PackCoding::Stored);
    assert_eq!(wire, b"PMXW\x01\x00\x03\x02\x00\x01abc");
    let wire = pack(&PAGES, SOLID);
    assert_eq!(&wire[..11], b"PMXW\x01\x01\x04\x51\x00\x51\x01");
    assert!(wire.len() < PAGES.concat().len());
}

#[test]
fn wire_pack_that_zstd_can_not_shrink_is_stored() {
    assert_eq!(pack(&[b"q"], SOLID), b"PMXW\x01\x00\x01\x01q");
    assert_eq!(pack(&[b""], SOLID), b"PMXW\x01\x00\x01\x00");
    assert_eq!(ids(&pack(&[b""], SOLID)), Ok(vec![BlobId::of(b"")]));
    let nothing = PackBuilder::new().finish(&mut Encoder::new(), SOLID);
    assert_eq!(nothing, None);
}

fn head(flags: u8, numbers: &[u64], body: &[u8]) -> Vec<u8> {
    let mut wire = b"PMXW\x01".to_vec();
    wire.push(flags);
    for number in numbers {
        write_varint(&mut wire, *number);
    }
    wire.extend_from_slice(body);
    wire
}

#[track_caller]
fn refuse(wire: &[u8], error: impl Into<PackError>, code: Code) {
    let refused = verify(wire, &mut Decoder::new()).expect_err("it was accepted");
    assert_eq!(refused.code(), code);
    assert_eq!(refused, error.into());
}

#[test]
fn wire_pack_heads_are_refused_with_a_reason() {
    let code = Code::PackMalformed;
    refuse(b"", Malformed::Truncated, code);
    refuse(b"PMXR\x01\x00\x01\x00", PackError::Magic, code);
    refuse(b"PMXW\x02\x00\x01\x00", PackError::Version(2), code);
    refuse(&head(2, &[1, 0, 0], b""), PackError::Flags(2), code);
    refuse(&head(4, &[1, 0], b""), PackError::Flags(4), code);
    refuse(&head(0, &[0], b""), PackError::Empty, code);
    refuse(&head(0, &[32_768], &[0; 9]), Malformed::Truncated, code);
    let overlong = b"PMXW\x01\x00\x81\x00\x00";
    refuse(overlong, Malformed::Overlong, code);
}

/// A site's pages before and after a change of their common text.
fn versions() -> [Vec<Vec<u8>>; 2] {
    [1, 2].map(|version| {
        let page = |number: u32| {
            let own: Vec<u32> = (0..40).map(|word| number * 7919 % (word + 11)).collect();
            format!("<html><title>{number}</title>{own:?}<footer>version {version}</footer></html>")
        };
        (0..200).map(|number| page(number).into_bytes()).collect()
    })
}

fn base() -> Root {
    Root::from_bytes([5; 32])
}

fn prefix(blobs: &[Vec<u8>]) -> Prefix {
    let mut prefix = Prefix::of(base());
    for (row, blob) in (10..).zip(blobs) {
        assert!(prefix.push(row, blob));
    }
    prefix
}

fn pack_with_prefix(prefix: &Prefix, blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = PackBuilder::new();
    for blob in blobs {
        builder.push(blob).unwrap();
    }
    let mut encoder = Encoder::new();
    let packed = builder.build_with_prefix(prefix, &mut encoder, Level::WIRE);
    let packed = packed.or_else(|| builder.plain(&mut encoder, SOLID));
    packed.unwrap().into_bytes()
}

#[test]
fn wire_pack_with_prefix_holds_the_difference_to_its_base() {
    let [before, after] = versions();
    let prefix = prefix(&before);
    let wire = pack_with_prefix(&prefix, &after);
    let alone: Vec<&[u8]> = after.iter().map(Vec::as_slice).collect();
    assert!(wire.len() < pack(&alone, SOLID).len() / 2, "{}", wire.len());
    let reference = reference_of(&wire).unwrap().unwrap();
    assert_eq!(reference.base, base());
    assert_eq!(reference.rows.runs(), [(10, 200)]);
    let pack = verify_with_prefix(&wire, Some(&prefix), &mut Decoder::new()).unwrap();
    let ids: Vec<BlobId> = pack.blobs().map(|blob| blob.id()).collect();
    let expected: Vec<BlobId> = after.iter().map(|blob| BlobId::of(blob)).collect();
    assert_eq!(ids, expected);
    // Without its prefix the receiver refuses the pack; with another prefix the blobs differ.
    refuse(&wire, PackError::Prefix, Code::PrefixMissing);
    let mut other = Prefix::of(base());
    for (row, blob) in (10..).zip(&before) {
        let mut rotted = blob.clone();
        rotted.reverse();
        assert!(other.push(row, &rotted));
    }
    if let Ok(pack) = verify_with_prefix(&wire, Some(&other), &mut Decoder::new()) {
        assert!(pack.blobs().any(|blob| !expected.contains(&blob.id())));
    }
    // An empty prefix makes no reference.
    let plain = pack_with_prefix(&Prefix::of(base()), &after);
    assert_eq!(reference_of(&plain), Ok(None));
}

#[test]
fn open_reuses_memory_whatever_it_held() {
    let [before, after] = versions();
    let alone: Vec<&[u8]> = after.iter().map(Vec::as_slice).collect();
    let mut decoder = Decoder::new();
    let mut memory = vec![7; 100];
    for coding in [SOLID, PackCoding::Stored] {
        let opened = open(&pack(&alone, coding), memory, &mut decoder).unwrap();
        for (at, blob) in after.iter().enumerate() {
            assert_eq!(opened.blob(at), Some(&blob[..]));
        }
        assert_eq!(opened.blob(after.len()), None);
        memory = opened.into_memory();
    }
    let behind = pack_with_prefix(&prefix(&before), &after);
    let refused = open(&behind, memory, &mut decoder).unwrap_err();
    assert_eq!(refused, PackError::Prefix);
}

#[test]
fn references_have_one_spelling() {
    let behind = |numbers: &[u64]| {
        let mut wire = b"PMXW\x01\x03\x01\x01".to_vec();
        wire.extend_from_slice(base().as_bytes());
        for number in numbers {
            write_varint(&mut wire, *number);
        }
        reference_of(&wire).map(|found| found.unwrap().rows.runs().to_vec())
    };
    assert_eq!(behind(&[2, 0, 1, 3, 2]), Ok(vec![(0, 1), (4, 2)]));
    let rows = |rows| PackError::TooManyRows {
        rows,
        max: PREFIX_ROWS_MAX as u64,
    };
    for (numbers, error) in [
        (&[0][..], PackError::Rows),
        (&[1, 0, 0], PackError::Rows),
        (&[2, 0, 1, 0, 1], PackError::Rows),
        (&[1, 0, 32_769], rows(32_769)),
        (&[2, 0, 32_768, 1, 1], rows(32_769)),
        (&[32_769], rows(32_769)),
        (&[1, u64::MAX, 1], PackError::Rows),
        (&[9, 0, 1], Malformed::Truncated.into()),
        (&[1, 0], Malformed::Truncated.into()),
    ] {
        assert_eq!(behind(numbers), Err(error), "{numbers:?}");
    }
}

#[test]
fn wire_pack_limits_are_checked_before_allocation() {
    let max = PACK_RAW_BYTES_MAX;
    let count = u64::from(u32::MAX);
    let many = head(0, &[count], &[0; 9]);
    assert_eq!(many.len(), 20);
    let too_many = PackError::TooManyBlobs {
        count,
        max: PACK_BLOBS_MAX as u64,
    };
    refuse(&many, too_many, Code::TooLarge);
    for size in [max + 1, u64::MAX] {
        let too_large = PackError::BlobTooLarge { size, max };
        refuse(&head(0, &[1, size], b""), too_large, Code::TooLarge);
    }
    let too_large = PackError::TooLarge { raw: max + 1, max };
    refuse(&head(1, &[2, max, 1], b""), too_large, Code::TooLarge);
}

#[test]
fn wire_pack_bodies_are_refused_with_a_reason() {
    for (declared, body) in [(2, &b"a"[..]), (0, b"a"), (1, b"ab")] {
        let actual = body.len() as u64;
        let error = PackError::BodyLength { declared, actual };
        refuse(&head(0, &[1, declared], body), error, Code::PackMalformed);
    }
    let repeated = PackError::Repeated(BlobId::of(b"a"));
    refuse(&head(0, &[2, 1, 1], b"aa"), repeated, Code::PackMalformed);
    let frame = Encoder::new().solid(&[b'a'; 20], Level::WIRE);
    let one_too_few = CodecError::ContentSize {
        declared: 20,
        expected: 21,
    };
    let code = Code::Compression;
    refuse(&head(1, &[2, 20, 1], &frame), one_too_few, code);
    refuse(&head(1, &[1, 0], b""), CodecError::Truncated, code);
    let two = [&frame[..], &frame].concat();
    refuse(&head(1, &[1, 20], &two), CodecError::SecondFrame, code);
}

#[test]
fn pack_builder_holds_its_limits() {
    let mut builder = PackBuilder::new();
    let blob = vec![0; PART_BYTES as usize + 1];
    assert!(matches!(
        builder.push(&blob),
        Err(PackError::BlobTooLarge { .. })
    ));
    builder.push(&blob[..PACK_RAW_BYTES_MAX as usize]).unwrap();
    assert!(matches!(
        builder.push(b"a"),
        Err(PackError::TooLarge { .. })
    ));
    builder.finish(&mut Encoder::new(), SOLID).unwrap();
    for _ in 0..PACK_BLOBS_MAX {
        builder.push(b"").unwrap();
    }
    assert!(matches!(
        builder.push(b""),
        Err(PackError::TooManyBlobs { .. })
    ));
}

#[test]
fn wire_pack_refuses_every_flip_and_truncation() {
    for wire in [pack(&PAGES, SOLID), pack(&PAGES, PackCoding::Stored)] {
        let honest = ids(&wire).unwrap();
        for end in 0..wire.len() {
            assert!(ids(&wire[..end]).is_err(), "cut at {end}");
        }
        for at in 0..wire.len() {
            for flip in 1..=255u8 {
                let mut flipped = wire.clone();
                flipped[at] ^= flip;
                // A frame can encode the same content in several ways: then the ids are equal. Any
                // other accepted pack has other ids, which no root references.
                match ids(&flipped) {
                    Ok(found) if found == honest => assert!(at > 11, "{at} {flip:#x}"),
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
}

#[test]
fn flip_in_a_stored_body_changes_one_id() {
    let wire = pack(&PAGES, PackCoding::Stored);
    let honest = ids(&wire).unwrap();
    for at in 11..wire.len() {
        let mut flipped = wire.clone();
        flipped[at] ^= 0x20;
        let found = ids(&flipped).unwrap();
        let changed = found.iter().zip(&honest).filter(|(a, b)| a != b);
        assert_eq!(changed.count(), 1, "{at}");
    }
}

proptest! {
    #[test]
    fn wire_pack_round_trips(
        blobs in prop::collection::btree_set(prop::collection::vec(0u8..3, 0..600), 1..40),
        stored: bool,
    ) {
        let blobs: BTreeSet<Vec<u8>> = blobs;
        let coding = if stored { PackCoding::Stored } else { SOLID };
        let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
        let verified = verify(&pack(&blobs, coding), &mut Decoder::new()).unwrap();
        let found: Vec<&[u8]> = verified.blobs().map(|blob| blob.bytes()).collect();
        prop_assert_eq!(found, blobs.clone());
        prop_assert_eq!(verified.count(), blobs.len());
        let expected: Vec<_> = blobs.iter().map(|blob| BlobId::of(blob)).collect();
        let ids: Vec<_> = verified.blobs().map(|blob| blob.id()).collect();
        prop_assert_eq!(ids, expected);
    }

    #[test]
    fn wire_pack_verify_never_panics(
        flags in 0u8..5,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let wire = head(flags, &[], &bytes);
        let _ = ids(&wire);
        let _ = ids(&bytes);
    }
}
