//! Streams of the usual shape, long enough to fill it.

use bytes::Bytes;
use pmx_sync::stream::{Append, Create, From, MediaType, Read, Refusal, Shape};

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

/// What a reader gets does not depend on where it lies.
fn check_hot_and_cold(media: &str, bodies: impl Iterator<Item = Bytes>, expected: &[u8]) {
    let faults = Faults::default();
    let world = World::new(Shape::default(), &faults);
    world.create(0, &create(media), at(0)).unwrap();
    for body in bodies {
        world.append(0, &append(media, body), at(0)).unwrap();
    }
    let (pages, hot) = whole(&world);
    assert!(hot == expected, "from the log in {pages} pages");
    world.chores(0, at(0)).unwrap();
    assert!(world.rows("stream_segment") > 0);
    let (pages, cold) = whole(&world);
    assert!(cold == expected, "from segments in {pages} pages");
}

#[test]
fn many_small_messages() {
    let event = |n: usize| format!("{{\"number\":{n},\"text\":\"{}\"}}", "x".repeat(160));
    let events: Vec<String> = (0..20_000).map(event).collect();
    let expected = events.join(",");
    let bodies = events.into_iter().map(Bytes::from);
    check_hot_and_cold("application/json", bodies, expected.as_bytes());
}

#[test]
fn messages_longer_than_a_row() {
    let event = |n: usize| format!("\"{n}{}\"", "\u{e9}".repeat(1_500_000 * (n % 4)));
    let events: Vec<String> = (0..9).map(event).collect();
    let expected = events.join(",");
    let bodies = events.into_iter().map(Bytes::from);
    check_hot_and_cold("application/json", bodies, expected.as_bytes());
}

#[test]
fn one_body_of_many_messages() {
    let all = (0..1_000_000).map(|n| n.to_string()).collect::<Vec<_>>();
    let expected = all.join(",");
    let bodies = [Bytes::from(format!("[{expected}]"))].into_iter();
    check_hot_and_cold("application/json", bodies, expected.as_bytes());
}

#[test]
fn bytes_of_all_values_and_of_the_longest_body() {
    let byte = |n: usize| (n * n / 7 + n / 251) as u8;
    let long: Vec<u8> = (0..16 * 1024 * 1024).map(byte).collect();
    let bodies = [&long[..], &long[..1], &long[7..70_000], &long[..3_000_000]];
    let expected = bodies.concat();
    let bodies = bodies.map(Bytes::copy_from_slice).into_iter();
    check_hot_and_cold("application/octet-stream", bodies, &expected);
}

#[test]
fn a_body_that_is_too_long_is_refused_and_leaves_nothing() {
    let faults = Faults::default();
    let world = World::new(Shape::default(), &faults);
    world.create(0, &create("text/plain"), at(0)).unwrap();
    let limit = Shape::default().append_bytes_max;
    let refused = world.append(0, &append("text/plain", vec![b'x'; limit + 1]), at(0));
    let (bytes, limit) = (limit as u64 + 1, limit as u64);
    assert_eq!(refused, Err(Refusal::TooLarge { bytes, limit }));
    assert_eq!(world.rows("stream_log"), 0);
}
