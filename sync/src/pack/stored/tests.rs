//! Stored packs: what the reader accepts and refuses.

use proptest::prelude::*;

use super::*;
use crate::pack::{PackCoding, wire};

fn pack(blobs: &[&[u8]], coding: PackCoding) -> VerifiedPack {
    let mut builder = wire::PackBuilder::new();
    for blob in blobs {
        builder.push(blob).unwrap();
    }
    let packed = builder.finish(&mut Encoder::new(), coding).unwrap();
    wire::verify(packed.bytes(), &mut Decoder::new()).unwrap()
}

fn solid(blobs: &[&[u8]]) -> VerifiedPack {
    pack(blobs, PackCoding::Zstd(Level::WIRE))
}

const PAGE: &[u8] = b"<p>words and words and words and words and words and words</p>";
const NOISE: &[u8] = b"\x8f\x1b\xd3\x42\x97\xe5\x06\x7c";

fn object() -> StoredPack {
    solid(&[PAGE, b"", NOISE]).rest(&mut Encoder::new(), Level::STORED)
}

#[test]
fn stored_pack_format_is_the_documented_one() {
    let StoredPack { bytes, toc } =
        pack(&[b"ab", b"c"], PackCoding::Stored).rest(&mut Encoder::new(), Level::STORED);
    let mut expected = b"abc\x02".to_vec();
    expected.extend_from_slice(BlobId::of(b"ab").as_bytes());
    expected.extend_from_slice(&[0, 2, 2]);
    expected.extend_from_slice(BlobId::of(b"c").as_bytes());
    expected.extend_from_slice(&[0, 1, 1]);
    let seal = Hash::of(&expected);
    expected.extend_from_slice(seal.as_bytes());
    expected.extend_from_slice(b"\x47\0\0\0PMXR\x01");
    assert_eq!(bytes, expected);
    assert_eq!(toc.stored_bytes(), 3);
}

#[test]
fn stored_blobs_are_coded_as_suits_each() {
    let coded: Vec<_> = object()
        .toc
        .entries()
        .iter()
        .map(|entry| (entry.codec, entry.raw, entry.stored < entry.raw))
        .collect();
    assert_eq!(
        coded,
        [
            (Codec::Zstd, PAGE.len() as u64, true),
            (Codec::Stored, 0, false),
            (Codec::Stored, 8, false),
        ]
    );
    // A page in a stored pack is not compressed: its sender knew its media type.
    let stored = pack(&[PAGE], PackCoding::Stored).rest(&mut Encoder::new(), Level::STORED);
    assert_eq!(stored.toc.entries()[0].codec, Codec::Stored);
}

#[test]
fn table_of_contents_is_read_from_the_tail() {
    let StoredPack { bytes, toc } = object();
    let len = bytes.len() as u64;
    let needed = bytes.len() - toc.stored_bytes() as usize;
    for start in 0..bytes.len() {
        let found = Toc::from_object_tail(&bytes[start..], len);
        match bytes.len() - start {
            have if have < FOOTER_BYTES => {
                let needed = FOOTER_BYTES;
                assert_eq!(found, Err(StoredPackError::TailTooShort { needed }));
            }
            have if have < needed => {
                assert_eq!(found, Err(StoredPackError::TailTooShort { needed }));
            }
            _ => assert_eq!(found.as_ref(), Ok(&toc)),
        }
    }
    for wrong in [len - 1, len + 1] {
        let found = Toc::from_object_tail(&bytes, wrong);
        assert!(matches!(found, Err(StoredPackError::Length { .. })));
    }
}

fn toc_of(count: u64, entries: &[(&[u8], u8, u64, u64)]) -> Vec<u8> {
    let mut toc = Vec::new();
    write_varint(&mut toc, count);
    for (blob, tag, stored, raw) in entries {
        toc.extend_from_slice(BlobId::of(blob).as_bytes());
        toc.push(*tag);
        write_varint(&mut toc, *stored);
        write_varint(&mut toc, *raw);
    }
    toc
}

#[test]
fn table_of_contents_has_one_spelling() {
    let max = PART_BYTES;
    for (count, entries, reason) in [
        (0, vec![], "not canonical: an object has at least one blob"),
        (
            u64::from(u32::MAX),
            vec![],
            "the count of blobs is 4294967295, above the limit of 32768",
        ),
        (2, vec![(&b"a"[..], 0, 1, 1)], "the bytes end too early"),
        (
            1,
            vec![(b"a", 0, 1, 2)],
            "not canonical: stored bytes of another length",
        ),
        (
            1,
            vec![(b"a", 1, 2, 2)],
            "not canonical: a frame that does not save anything",
        ),
        (
            1,
            vec![(b"a", 1, 0, 2)],
            "not canonical: a frame that does not save anything",
        ),
        (
            1,
            vec![(b"a", 2, 1, 1)],
            "not canonical: parts have objects of their own",
        ),
        (1, vec![(b"a", 9, 1, 1)], "unknown codec 9"),
        (
            1,
            vec![(b"a", 1, 1, max + 1)],
            "a raw length is 8388609, above the limit of 8388608",
        ),
        (
            2,
            vec![(b"a", 1, 1, max), (b"b", 0, 1, 1)],
            "the raw length of all blobs is 8388609, above the limit of 8388608",
        ),
        (
            2,
            vec![(b"a", 0, 1, 1), (b"a", 0, 1, 1)],
            "not canonical: a blob occurs twice",
        ),
        (
            1,
            vec![(b"a", 0, 1, 1), (b"b", 0, 1, 1)],
            "35 bytes follow the end",
        ),
    ] {
        let found = Toc::decode(&toc_of(count, &entries));
        assert_eq!(found.unwrap_err().to_string(), reason);
    }
}

/// Reads an object as a scrubber does, and each blob as a reader does.
fn scrub(object: &[u8]) -> Result<(), StoredPackError> {
    let toc = open_object(object)?;
    read_all(object, &toc)
}

fn read_all(object: &[u8], toc: &Toc) -> Result<(), StoredPackError> {
    for entry in toc.entries() {
        let stored = entry.slice(object).expect("the table fits the object");
        verify_at_rest(stored, entry, &mut Decoder::new())?;
    }
    Ok(())
}

#[test]
fn stored_pack_refuses_every_flip_and_truncation() {
    let StoredPack { bytes, toc } = object();
    assert_eq!(scrub(&bytes), Ok(()));
    for end in 0..bytes.len() {
        assert!(scrub(&bytes[..end]).is_err(), "cut at {end}");
        assert!(
            scrub(&bytes[bytes.len() - end..]).is_err(),
            "only the last {end}"
        );
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let error = scrub(&flipped).unwrap_err();
            assert_eq!(error.code(), Code::Corrupt, "{at} {bit}");
            // Even without the seal, a served blob equals the written one.
            for entry in toc.entries() {
                let stored = entry.slice(&flipped).unwrap();
                let mut decoder = Decoder::new();
                if verify_at_rest(stored, entry, &mut decoder).is_ok() {
                    let raw = open_frame(stored, entry.codec, entry.raw, &mut decoder);
                    assert_eq!(BlobId::of(&raw.unwrap()), entry.blob);
                }
            }
        }
    }
}

#[test]
fn tables_of_parts_are_not_frames() {
    for codec in [Codec::Parts, Codec::ZstdParts] {
        let opened = open_frame(b"", codec, 0, &mut Decoder::new());
        assert_eq!(opened, Err(StoredPackError::Parts));
    }
}

proptest! {
    #[test]
    fn stored_pack_round_trips(
        blobs in prop::collection::btree_set(prop::collection::vec(0u8..9, 0..900), 1..30),
        stored: bool,
    ) {
        let coding = if stored { PackCoding::Stored } else { PackCoding::Zstd(Level::WIRE) };
        let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
        let StoredPack { bytes, toc } =
            pack(&blobs, coding).rest(&mut Encoder::new(), Level::STORED);
        prop_assert_eq!(open_object(&bytes), Ok(toc.clone()));
        prop_assert_eq!(read_all(&bytes, &toc), Ok(()));
        prop_assert_eq!(toc.entries().len(), blobs.len());
        let mut decoder = Decoder::new();
        for (entry, blob) in toc.entries().iter().zip(&blobs) {
            let stored = entry.slice(&bytes).unwrap();
            let raw = open_frame(stored, entry.codec, entry.raw, &mut decoder).unwrap();
            prop_assert_eq!(&raw[..], *blob);
            prop_assert_eq!(entry.blob, BlobId::of(blob));
        }
        let mut encoded = Vec::new();
        toc.encode(&mut encoded);
        prop_assert_eq!(Toc::decode(&encoded), Ok(toc));
    }

    #[test]
    fn table_of_contents_that_decodes_encodes_to_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut counted = vec![1];
        counted.extend(&bytes);
        for bytes in [bytes, counted] {
            if let Ok(toc) = Toc::decode(&bytes) {
                let mut again = Vec::new();
                toc.encode(&mut again);
                prop_assert_eq!(again, bytes.clone());
            }
            let _ = open_object(&bytes);
        }
    }
}
