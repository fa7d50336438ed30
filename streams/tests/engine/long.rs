//! Long streams, with the default configuration.

use bytes::Bytes;
use pmx_core::sql::Sql as _;
use pmx_streams::segment::{SegmentBuilder, StreamKind};
use pmx_streams::{Append, Create, EngineConfig, From, MediaType, Offset, Read, Refusal};

use super::model::at;
use super::world::{Faults, World};

fn create(media: &str) -> Create {
    Create {
        media_type: Some(MediaType::new(media)),
        expiry: None,
        expiry_text: None,
        closed: false,
        body: Bytes::new(),
        fork: None,
    }
}

fn append(media: &str, body: impl Into<Bytes>) -> Append {
    Append {
        media_type: Some(MediaType::new(media)),
        body: body.into(),
        seq: None,
        producer: None,
        close: false,
    }
}

/// All pages, joined.
fn whole(world: &World<'_>) -> (usize, Vec<u8>) {
    let (mut from, mut all, mut pages) = (From::Start, Vec::new(), 0);
    loop {
        let page = world.read(0, &Read { from }, at(0)).unwrap();
        if pages > 0 && page.view.media_type.is_json() {
            all.push(b',');
        }
        all.extend_from_slice(&page.body);
        pages += 1;
        if page.is_up_to_date() {
            return (pages, all);
        }
        from = From::At(page.end);
    }
}

/// A reader gets the same bytes from the log and from segments.
fn check_hot_and_cold(media: &str, bodies: impl Iterator<Item = Bytes>, expected: &[u8]) {
    let faults = Faults::default();
    let world = World::new(EngineConfig::default(), &faults);
    world.create(0, &create(media), at(0)).unwrap();
    for body in bodies {
        world.append(0, &append(media, body), at(0)).unwrap();
    }
    let (pages, hot) = whole(&world);
    assert!(hot == expected, "from the log in {pages} pages");
    world.jobs(0, at(0)).unwrap();
    assert!(world.rows("stream_segment") > 0);
    let (pages, cold) = whole(&world);
    assert!(cold == expected, "from segments in {pages} pages");
}

#[test]
fn reads_of_many_small_messages_agree_hot_and_cold() {
    let event = |n: usize| format!("{{\"number\":{n},\"text\":\"{}\"}}", "x".repeat(160));
    let events: Vec<String> = (0..20_000).map(event).collect();
    let expected = events.join(",");
    let bodies = events.into_iter().map(Bytes::from);
    check_hot_and_cold("application/json", bodies, expected.as_bytes());
}

#[test]
fn reads_of_messages_longer_than_a_row_agree_hot_and_cold() {
    let event = |n: usize| format!("\"{n}{}\"", "\u{e9}".repeat(1_500_000 * (n % 4)));
    let events: Vec<String> = (0..9).map(event).collect();
    let expected = events.join(",");
    let bodies = events.into_iter().map(Bytes::from);
    check_hot_and_cold("application/json", bodies, expected.as_bytes());
}

#[test]
fn reads_of_one_body_of_many_messages_agree_hot_and_cold() {
    let all = (0..1_000_000).map(|n| n.to_string()).collect::<Vec<_>>();
    let expected = all.join(",");
    let bodies = [Bytes::from(format!("[{expected}]"))].into_iter();
    check_hot_and_cold("application/json", bodies, expected.as_bytes());
}

#[test]
fn reads_of_bytes_up_to_the_longest_body_agree_hot_and_cold() {
    let byte = |n: usize| (n * n / 7 + n / 251) as u8;
    let long: Vec<u8> = (0..16 * 1024 * 1024).map(byte).collect();
    let bodies = [&long[..], &long[..1], &long[7..70_000], &long[..3_000_000]];
    let expected = bodies.concat();
    let bodies = bodies.map(Bytes::copy_from_slice).into_iter();
    check_hot_and_cold("application/octet-stream", bodies, &expected);
}

#[test]
fn append_of_a_too_long_body_is_refused_and_writes_nothing() {
    let faults = Faults::default();
    let world = World::new(EngineConfig::default(), &faults);
    world.create(0, &create("text/plain"), at(0)).unwrap();
    let limit = EngineConfig::default().append_bytes_max;
    let refused = world.append(0, &append("text/plain", vec![b'x'; limit + 1]), at(0));
    let (bytes, limit) = (limit as u64 + 1, limit as u64);
    assert_eq!(refused, Err(Refusal::TooLarge { bytes, limit }));
    assert_eq!(world.rows("stream_log"), 0);
}

/// Segments of the first version have frames of 64 KiB - 4 bytes that are parts of appends, so a
/// read begins at the exact offset.
#[test]
fn segments_of_the_first_version_are_read_from_any_byte() {
    let faults = Faults::default();
    let engine_config = EngineConfig {
        segment_messages: 1,
        read_bytes: 50_000,
        ..EngineConfig::default()
    };
    let world = World::new(engine_config, &faults);
    world.create(0, &create("text/plain"), at(0)).unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    world
        .append(0, &append("text/plain", bytes.clone()), at(0))
        .unwrap();
    world.jobs(0, at(0)).unwrap();
    let mut builder = SegmentBuilder::new(StreamKind::Bytes, 0);
    for frame in bytes.chunks(64 * 1024 - 4) {
        builder.push(frame).unwrap();
    }
    let old = builder.finish().unwrap();
    for object in world.cold.objects.borrow_mut().values_mut() {
        *object = old.bytes.clone().into();
    }
    let update = "UPDATE stream_segment SET footer = ?, appends = 0";
    world.sql.run(update, &[old.index.encode().into()]).unwrap();
    assert!(whole(&world).1 == bytes);
    for position in [1, 65_531, 65_532, 65_533, 131_065, 199_999] {
        let from = From::At(Offset::at(position));
        let page = world.read(0, &Read { from }, at(0)).unwrap();
        assert_eq!(page.start, Offset::at(position));
        let end = page.end.position() as usize;
        assert!(page.body == bytes[position as usize..end] && page.body.len() <= 50_000);
    }
}

#[test]
fn rotation_without_memory_is_postponed() {
    let media = "application/octet-stream";
    let faults = Faults::default();
    let world = World::new(EngineConfig::default(), &faults);
    world.create(0, &create(media), at(0)).unwrap();
    let body = Bytes::from(vec![7; 5 * 1024 * 1024]);
    world
        .append(0, &append(media, body.clone()), at(0))
        .unwrap();
    let jobs = world.jobs_without_memory(0, at(0)).unwrap();
    assert_eq!(jobs.next, Some(at(1_000)), "the alarm retries");
    assert_eq!(world.rows("stream_segment"), 0);
    assert!(whole(&world).1 == body, "from the log");
    // Not before.
    world.jobs(0, at(999)).unwrap();
    assert_eq!(world.rows("stream_segment"), 0);
    let jobs = world.jobs(0, at(1_000)).unwrap();
    assert_eq!((world.rows("stream_segment"), jobs.next), (1, None));
    assert!(whole(&world).1 == body, "from the segment");
}
