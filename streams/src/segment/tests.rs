use data_encoding::HEXLOWER;
use pmx_core::limits::EXACT_INTEGER_MAX;
use proptest::prelude::*;

use super::*;
use crate::limits::STREAM_APPEND_BYTES_MAX;

const TRAILER: usize = 50;

/// A segment of these messages that begins at `first`.
fn segment(kind: StreamKind, first: u64, messages: &[Vec<u8>]) -> Segment {
    let mut builder = SegmentBuilder::new(kind, first);
    for message in messages {
        builder.push(message).unwrap();
    }
    builder.finish().unwrap()
}

/// Reads as a stream does: locates, fetches the range, extracts.
fn read(segment: &Segment, from: u64, to: u64, budget: usize) -> Option<(Vec<u8>, u64)> {
    let span = segment.index.locate(from, to, budget)?;
    let range = span.bytes.start as usize..span.bytes.end as usize;
    let mut body = Vec::new();
    let end = segment
        .index
        .extract(&span, &segment.bytes[range], &mut body);
    Some((body, end.unwrap().end))
}

/// The expected result of a read, by a scan of all messages.
fn naive(
    kind: StreamKind,
    first: u64,
    messages: &[Vec<u8>],
    (from, to): (u64, u64),
    budget: usize,
) -> Option<(Vec<u8>, u64)> {
    let (mut body, mut position, mut end) = (Vec::new(), first, None);
    if from < first {
        return None;
    }
    for message in messages {
        let start = position;
        position += match kind {
            StreamKind::Bytes => message.len() as u64,
            StreamKind::Json => 1,
        };
        let is_full = end.is_some() && body.len() >= budget;
        if position <= from || start >= to || from >= to || is_full {
            continue;
        }
        end = Some(position.min(to));
        match kind {
            StreamKind::Bytes => {
                let (from, to) = (from.max(start) - start, position.min(to) - start);
                body.extend_from_slice(&message[from as usize..to as usize]);
            }
            StreamKind::Json => {
                if !body.is_empty() {
                    body.push(b',');
                }
                body.extend_from_slice(message);
            }
        }
    }
    Some((body, end?))
}

fn kinds() -> impl Strategy<Value = StreamKind> {
    prop_oneof![Just(StreamKind::Bytes), Just(StreamKind::Json)]
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![6 => 1..300usize, 2 => 1..40_000usize, 1 => 60_000..150_000usize];
    let message = (any::<u8>(), len).prop_map(|(seed, len)| {
        let byte = |at: usize| (at as u8).wrapping_mul(31) ^ seed;
        (0..len).map(byte).collect()
    });
    prop::collection::vec(message, 1..40)
}

/// A part of `whole`, in 65,536ths of it.
fn part(whole: u64, fraction: u64) -> u64 {
    (whole * fraction) >> 16
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn reads_agree_with_a_list_of_messages(
        kind in kinds(),
        first in prop_oneof![Just(0), 0..1u64 << 40],
        messages in messages(),
        ranges in prop::collection::vec((0..72_000u64, 0..72_000u64, 0..120_000usize), 12),
    ) {
        let segment = segment(kind, first, &messages);
        let len = segment.index.end() - first;
        for (from, to, budget) in ranges {
            let range = (first + part(len, from), first + part(len, to));
            let expected = naive(kind, first, &messages, range, budget);
            prop_assert_eq!(read(&segment, range.0, range.1, budget), expected);
            prop_assert!(read(&segment, first.wrapping_sub(1), range.1, budget).is_none());
        }
    }

    #[test]
    fn extract_of_a_whole_span_begins_at_a_message(
        messages in messages(),
        at in 0..65_536u64,
    ) {
        let segment = segment(StreamKind::Bytes, 7, &messages);
        let end = segment.index.end();
        let from = 7 + part(end - 7, at).min(end - 8);
        let span = segment.index.locate(from, u64::MAX, usize::MAX).unwrap().whole();
        let range = span.bytes.start as usize..span.bytes.end as usize;
        let mut body = Vec::new();
        let cut = segment.index.extract(&span, &segment.bytes[range], &mut body).unwrap();
        let mut start = 7;
        for message in &messages {
            if start + message.len() as u64 > from {
                break;
            }
            start += message.len() as u64;
        }
        prop_assert_eq!(cut, start..end);
        let whole = naive(StreamKind::Bytes, 7, &messages, (start, u64::MAX), usize::MAX);
        prop_assert_eq!(Some((body, end)), whole);
    }

    #[test]
    fn extract_of_any_budgets_joins_to_the_whole(
        kind in kinds(),
        messages in messages(),
        budget in prop_oneof![Just(0), Just(1), 0..200_000usize],
    ) {
        let segment = segment(kind, 7, &messages);
        let mut body = Vec::new();
        let mut position = 7;
        while let Some(span) = segment.index.locate(position, u64::MAX, budget) {
            let range = span.bytes.start as usize..span.bytes.end as usize;
            let cut = segment.index.extract(&span, &segment.bytes[range], &mut body).unwrap();
            prop_assert!(cut.start == position && cut.end > position);
            position = cut.end;
        }
        let whole = naive(kind, 7, &messages, (7, u64::MAX), usize::MAX);
        prop_assert_eq!(Some((body, position)), whole);
    }

    #[test]
    fn locate_bounds_the_span_by_its_budget(
        messages in messages(),
        from in 0..65_536u64,
        budget in 0..200_000usize,
    ) {
        let segment = segment(StreamKind::Json, 0, &messages);
        let from = part(messages.len() as u64, from);
        let span = segment.index.locate(from, u64::MAX, budget).unwrap();
        let longest = messages.iter().map(Vec::len).max().unwrap_or(0) as u64;
        let block = STREAM_BLOCK_BYTES.max(longest + 4);
        let heads = 4 * messages.len() as u64;
        prop_assert!(span.bytes.end - span.bytes.start <= budget as u64 + 2 * block + heads);
    }

    #[test]
    fn index_decodes_from_footer_and_object(
        kind in kinds(),
        first in 0..1u64 << 40,
        messages in messages(),
    ) {
        let segment = segment(kind, first, &messages);
        let len = segment.bytes.len() as u64;
        prop_assert_eq!(&SegmentIndex::decode(&segment.index.encode()), &Ok(segment.index.clone()));
        prop_assert_eq!(&open(&segment.bytes), &Ok(segment.index.clone()));
        prop_assert_eq!(&SegmentIndex::from_object_tail(&segment.bytes, len), &Ok(segment.index));
    }

    #[test]
    fn extract_and_open_detect_every_flipped_bit(
        kind in kinds(),
        messages in messages(),
        at in 0..65_536u64,
        bit in 0..8u8,
    ) {
        let Segment { mut bytes, index } = segment(kind, 0, &messages);
        let at = part(bytes.len() as u64, at);
        bytes[at as usize] ^= 1 << bit;
        prop_assert!(open(&bytes).is_err());
        let whole = index.locate(0, u64::MAX, usize::MAX).unwrap();
        let mut body = b"before".to_vec();
        let cut = index.extract(&whole, &bytes[..index.frames_bytes() as usize], &mut body);
        if at < index.frames_bytes() {
            let Err(SegmentError::BlockDamaged { at: block }) = cut else {
                return Err(TestCaseError::fail(format!("{cut:?}")));
            };
            prop_assert!(block <= at);
            prop_assert_eq!(body, b"before");
        } else {
            prop_assert!(cut.is_ok());
        }
    }

    #[test]
    fn decode_accepts_only_footers_that_a_builder_writes(
        blocks in prop::collection::vec((0..3u64, prop_oneof![0..9u64, 65_500..65_600u64]), 0..4),
        wrong in prop_oneof![4 => Just(0), 1 => 1..3u64],
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = |&(messages, payload): &(u64, u64)| 4 * messages + payload;
        let could_be = wrong == 0
            && !blocks.is_empty()
            && blocks.iter().all(|&(messages, payload)| messages > 0 && payload >= messages)
            && blocks.iter().all(|block| block.0 == 1 || bytes(block) <= STREAM_BLOCK_BYTES)
            && blocks.windows(2).all(|two| bytes(&two[0]) + bytes(&two[1]) > STREAM_BLOCK_BYTES);
        let messages: u64 = blocks.iter().map(|block| block.0).sum();
        let footer = sealed(&entries(&blocks), 1, [3, 3 + messages + wrong, messages]);
        match SegmentIndex::decode(&footer) {
            Ok(index) => prop_assert!(could_be && index.encode() == footer),
            Err(refusal) => prop_assert!(!could_be, "{}", refusal),
        }
        prop_assert!(open(&noise).is_err());
    }
}

/// A footer with a valid checksum and any content.
fn sealed(entries: &[u8], kind: u8, numbers: [u64; 3]) -> Vec<u8> {
    let mut footer = entries.to_vec();
    footer.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    footer.push(kind);
    for number in numbers {
        footer.extend_from_slice(&number.to_be_bytes());
    }
    let context = "pmx-sync 2026-11 stream segment footer v1";
    let checksum = blake3::derive_key(context, &footer);
    footer.extend_from_slice(&checksum[..16]);
    footer.extend_from_slice(b"PMXS\x01");
    footer
}

/// The entries of a footer: messages and bytes of each block.
fn entries(blocks: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    pmx_core::encode::write_varint(&mut out, blocks.len() as u64);
    for &(messages, payload) in blocks {
        pmx_core::encode::write_varint(&mut out, messages);
        pmx_core::encode::write_varint(&mut out, payload);
        out.extend_from_slice(&[0; 8]);
    }
    out
}

#[test]
fn decode_refuses_footers_that_no_builder_writes() {
    let json = |blocks: &[(u64, u64)], numbers| sealed(&entries(blocks), 1, numbers);
    let good = json(&[(2, 10)], [5, 7, 2]);
    assert!(SegmentIndex::decode(&good).is_ok());
    let overlong = [&[1, 0x82, 0][..], &[10], &[0; 8]].concat();
    let trailing = [entries(&[(2, 10)]), vec![0]].concat();
    let big = STREAM_APPEND_BYTES_MAX as u64;
    let far = EXACT_INTEGER_MAX;
    for (why, footer) in [
        ("no block", json(&[], [5, 5, 0])),
        ("an empty block", json(&[(0, 0)], [5, 5, 0])),
        ("empty messages", json(&[(2, 1)], [5, 7, 2])),
        ("no message, but bytes", json(&[(0, 1)], [5, 5, 0])),
        (
            "two blocks that fit in one",
            json(&[(1, 10), (1, 10)], [5, 7, 2]),
        ),
        ("a block that is too long", json(&[(2, 65_600)], [5, 7, 2])),
        (
            "a message that is too long",
            json(&[(1, big + 1)], [5, 6, 1]),
        ),
        ("too many frames", json(&[(1, big); 5], [5, 10, 5])),
        (
            "more blocks than there may be",
            sealed(&[0x82, 0x10], 1, [5, 7, 2]),
        ),
        (
            "an integer that is not the shortest",
            sealed(&overlong, 1, [5, 7, 2]),
        ),
        ("bytes after the blocks", sealed(&trailing, 1, [5, 7, 2])),
        (
            "blocks cut short",
            sealed(&entries(&[(2, 10)])[..6], 1, [5, 7, 2]),
        ),
        (
            "an end that is not its blocks'",
            json(&[(2, 10)], [5, 8, 2]),
        ),
        (
            "bytes counted as messages",
            sealed(&entries(&[(2, 10)]), 0, [5, 7, 2]),
        ),
        (
            "a count that is not its blocks'",
            json(&[(2, 10)], [5, 7, 3]),
        ),
        ("another kind", sealed(&entries(&[(2, 10)]), 2, [5, 7, 2])),
        (
            "a position beyond the last",
            json(&[(2, 10)], [far, far + 2, 2]),
        ),
        (
            "a position that overflows",
            json(&[(2, 10)], [u64::MAX, 1, 2]),
        ),
        ("bytes before the footer", [vec![0], good.clone()].concat()),
        ("bytes after the footer", [good.clone(), vec![0]].concat()),
        ("nothing", Vec::new()),
        ("half", good[good.len() / 2..].to_vec()),
    ] {
        assert!(SegmentIndex::decode(&footer).is_err(), "{why} was accepted");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(SegmentIndex::decode(&bad).is_err(), "byte {at} is free");
    }
}

#[test]
fn extract_and_open_locate_damage() {
    let messages = vec![vec![b'a'; 40_000], vec![b'b'; 40_000], vec![b'c'; 40_000]];
    let Segment { bytes, index } = segment(StreamKind::Json, 0, &messages);
    let second = 40_004;
    let mut damaged = bytes.clone();
    damaged[second + 9] ^= 1;
    let span = index.locate(0, 3, usize::MAX).unwrap();
    let mut body = Vec::new();
    let frames = &damaged[..3 * second];
    let cut = index.extract(&span, frames, &mut body);
    let at = second as u64;
    assert_eq!(cut, Err(SegmentError::BlockDamaged { at }));
    assert_eq!(open(&damaged), Err(SegmentError::BlockDamaged { at }));
    // A read of undamaged blocks succeeds.
    let span = index.locate(0, 1, usize::MAX).unwrap();
    assert_eq!(
        index.extract(&span, &damaged[..second], &mut body),
        Ok(0..1)
    );

    let cut = index.extract(&span, &damaged[..7], &mut body);
    let (expected, found) = (at, 7);
    assert_eq!(cut, Err(SegmentError::RangeLength { expected, found }));
    let shorter = SegmentIndex::from_object_tail(&bytes[1..], bytes.len() as u64 - 1);
    assert!(matches!(shorter, Err(SegmentError::ObjectLength { .. })));
}

/// Blocks with valid checksums that contradict the footer: not damage, but a defect or an attack.
#[test]
fn extract_refuses_frames_that_contradict_their_footer() {
    let object = |frames: &[u8], messages: u64, payload: u64| {
        let mut entries = vec![1];
        pmx_core::encode::write_varint(&mut entries, messages);
        pmx_core::encode::write_varint(&mut entries, payload);
        let sum = blake3::derive_key("pmx-sync 2026-11 stream segment block v1", frames);
        entries.extend_from_slice(&sum[..8]);
        [frames, &sealed(&entries, 1, [0, messages, messages])].concat()
    };
    let good = object(b"\0\0\0\x01a\0\0\0\x02bc", 2, 3);
    assert!(open(&good).is_ok());
    for (why, frames) in [
        ("a length beyond the block", b"\0\0\0\x01a\0\0\0\x03bc"),
        (
            "a length of half the address space",
            b"\0\0\0\x01a\xff\xff\xff\xffbc",
        ),
        ("an empty message", b"\0\0\0\0\0\0\0\0\0\0\0"),
        ("one message instead of two", b"\0\0\0\x07aaaaaaa"),
        ("half a head at the end", b"\0\0\0\x04aaaa\0\0\0"),
    ] {
        let bad = object(frames, 2, 3);
        let refusal = open(&bad).expect_err(why);
        assert!(matches!(refusal, SegmentError::Frame { .. }), "{why}");
        let index = SegmentIndex::from_object_tail(&bad, bad.len() as u64).unwrap();
        let span = index.locate(0, 2, usize::MAX).unwrap();
        let cut = index.extract(&span, frames, &mut Vec::new());
        assert!(matches!(cut, Err(SegmentError::Frame { .. })), "{why}");
    }
}

/// Frames in other blocks than a builder forms: readable, but not canonical.
#[test]
fn open_refuses_blocks_that_are_not_canonical() {
    let frame = |len: usize| [&(len as u32).to_be_bytes()[..], &vec![b'x'; len]].concat();
    let blocks = [frame(30_000), [frame(20_000), frame(40_000)].concat()];
    let mut footer = vec![2];
    for (block, messages) in blocks.iter().zip([1, 2]) {
        pmx_core::encode::write_varint(&mut footer, messages);
        pmx_core::encode::write_varint(&mut footer, block.len() as u64 - 4 * messages);
        let sum = blake3::derive_key("pmx-sync 2026-11 stream segment block v1", block);
        footer.extend_from_slice(&sum[..8]);
    }
    let object = [blocks.concat(), sealed(&footer, 1, [0, 3, 3])].concat();
    assert!(SegmentIndex::from_object_tail(&object, object.len() as u64).is_ok());
    assert!(matches!(open(&object), Err(SegmentError::Footer(_))));
}

#[test]
fn from_object_tail_returns_the_needed_length() {
    let messages = vec![vec![b'x'; 50_000]; 600];
    let Segment { bytes, index } = segment(StreamKind::Bytes, 9, &messages);
    let len = bytes.len() as u64;
    let tail = &bytes[bytes.len() - SegmentIndex::TAIL_BYTES..];
    let refusal = SegmentIndex::from_object_tail(tail, len).expect_err("600 blocks fit in 4 KiB");
    let SegmentError::TailTooShort { needed, .. } = refusal else {
        panic!("{refusal}");
    };
    let tail = &bytes[bytes.len() - needed..];
    let found = SegmentIndex::from_object_tail(tail, len);
    assert_eq!(found.as_ref(), Ok(&index));
    let (_, shorter) = tail.split_at(1);
    assert!(SegmentIndex::from_object_tail(shorter, len).is_err());
}

#[test]
fn builder_refuses_messages_that_no_stream_has() {
    let mut builder = SegmentBuilder::new(StreamKind::Bytes, EXACT_INTEGER_MAX - 3);
    assert_eq!(builder.push(b""), Err(BuildError::Empty));
    assert_eq!(builder.push(b"1234"), Err(BuildError::Beyond));
    assert_eq!(builder.push(b"123"), Ok(()));
    assert_eq!(builder.push(b"4"), Err(BuildError::Beyond));
    assert_eq!(builder.end(), EXACT_INTEGER_MAX);
    assert_eq!(
        builder.finish().map(|made| made.index.end()),
        Ok(EXACT_INTEGER_MAX)
    );
    let nothing = SegmentBuilder::new(StreamKind::Json, 0).finish();
    assert_eq!(nothing, Err(BuildError::NoMessage));
    let refused = SegmentBuilder::new(StreamKind::Json, u64::MAX).push(b"1");
    assert_eq!(refused, Err(BuildError::Beyond));

    let long = vec![0; STREAM_APPEND_BYTES_MAX + 1];
    let mut builder = SegmentBuilder::new(StreamKind::Json, 0);
    let refused = builder.push(&long);
    assert_eq!(refused, Err(BuildError::MessageTooLong(long.len())));
    let (_, longest) = long.split_at(1);
    for _ in 0..3 {
        builder.push(longest).unwrap();
    }
    assert_eq!(builder.push(longest), Err(BuildError::Full));
    let Segment { bytes, index } = builder.finish().unwrap();
    assert_eq!((open(&bytes), index.messages()), (Ok(index.clone()), 3));
}

/// The most blocks that a segment can have: short ones between long ones that they don't fit into.
#[test]
fn builder_stays_within_all_limits_at_once() {
    let mut builder = SegmentBuilder::new(StreamKind::Json, 0);
    let (small, large) = (vec![b'1'], vec![b'2'; STREAM_BLOCK_BYTES as usize - 8]);
    let pushed = (0..).take_while(|at| builder.push([&small, &large][at % 2]).is_ok());
    let pushed = pushed.count() as u64;
    let Segment { bytes, index } = builder.finish().unwrap();
    assert!(index.blocks().len() <= BLOCKS_MAX);
    assert!(index.blocks().len() * 2 > BLOCKS_MAX);
    assert_eq!(index.messages(), pushed);
    assert_eq!(
        SegmentIndex::from_object_tail(&bytes, bytes.len() as u64),
        Ok(index)
    );
}

#[test]
fn segment_encoding_is_stable() {
    let messages = [b"{\"a\":1}".to_vec(), b"[]".to_vec()];
    let json = segment(StreamKind::Json, 5, &messages);
    insta::assert_snapshot!(lines(&json), @r"
    000000077b2261223a317d000000025b5d
    0102097e23d7c9c4f885af
    0000000b01000000000000000500000000000000070000000000000002
    03af2849908f847e53a63cdf49677521504d585301
    ");
    let bytes = segment(
        StreamKind::Bytes,
        1 << 40,
        &[b"hello, ".to_vec(), b"world".to_vec()],
    );
    insta::assert_snapshot!(lines(&bytes), @r"
    0000000768656c6c6f2c2000000005776f726c64
    01020c5c5fa21b6b8d0a10
    0000000b000000010000000000000001000000000c0000000000000002
    dfdaf76801d442d3b40447fc480b882d504d585301
    ");
}

/// The frames, the entries, the numbers and the end of the trailer, a line each.
fn lines(segment: &Segment) -> String {
    let (frames, footer) = segment
        .bytes
        .split_at(segment.index.frames_bytes() as usize);
    let (entries, trailer) = footer.split_at(footer.len() - TRAILER);
    let (numbers, end) = trailer.split_at(29);
    [frames, entries, numbers, end]
        .map(|part| HEXLOWER.encode(part))
        .join("\n")
}
