use http::Request;
use pmx_core::time::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::limits::{STREAM_NAME_BYTES_MAX, STREAM_TOKEN_BYTES_MAX};

fn head(method: &str, address: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn outcome(method: &str, query: &str, headers: &[(&str, &str)]) -> Result<StreamRequest, String> {
    let address = format!("/v1/stream/a{query}");
    StreamRequest::parse(&head(method, &address, headers)).map_err(|error| error.to_string())
}

fn get_of(query: &str, headers: &[(&str, &str)]) -> Result<Get, String> {
    match outcome("GET", query, headers)? {
        StreamRequest::Get(get) => Ok(get),
        StreamRequest::Create(_)
        | StreamRequest::Append(_)
        | StreamRequest::Delete
        | StreamRequest::Head => unreachable!(),
    }
}

#[test]
fn name_of_returns_the_name_below_the_base_path() {
    let long = format!("/v1/stream/{}", "x".repeat(STREAM_NAME_BYTES_MAX + 1));
    for (address, expected) in [
        ("/v1/stream/a", Some(Ok("a"))),
        ("/v1/stream/a/b%20c?offset=-1", Some(Ok("a/b%20c"))),
        ("http://x/v1/stream/a", Some(Ok("a"))),
        ("/v1/stream/", Some(Err(()))),
        (&long, Some(Err(()))),
        ("/v1/stream", None),
        ("/v1/streams/a", None),
        ("/", None),
    ] {
        let found = name_of(&address.parse().unwrap());
        let found = found.map(|name| name.map_err(drop).map(String::from));
        let expected = expected.map(|name| name.map(str::to_owned));
        assert_eq!(found, expected, "{address}");
    }
    let reserved = |name| is_reserved(&StreamName::parse(name).unwrap());
    assert!(reserved("__ds") && reserved("__ds/x"));
    assert!(!reserved("__ds2") && !reserved("a/__ds"));
}

#[test]
fn parse_get_reads_the_offset() {
    let at = |position| Ok(From::At(Offset::at(position)));
    let none = "\"offset\" in the query: it is none of this server's";
    for (query, expected) in [
        ("", Ok(From::Start)),
        ("?offset=-1", Ok(From::Start)),
        ("?offset=now", Ok(From::Now)),
        ("?offset=0000000000000000_0000000000000007", at(7)),
        ("?offset=0_7", at(7)),
        ("?offset=0%5F7", at(7)),
        ("?offset=0_7&live=long-poll", at(7)),
        ("?live=sse&offset=now", Ok(From::Now)),
        ("?offset=", Err(none)),
        ("?offset=x", Err(none)),
        ("?offset=0_7,8", Err(none)),
        ("?offset=0_7%00", Err(none)),
        ("?offset=+0_7", Err(none)),
        ("?offset=../x", Err(none)),
        (
            "?offset=0_1&offset=0_1",
            Err("\"offset\" in the query: it is there twice"),
        ),
        (
            "?live=sse",
            Err("\"offset\" in the query: a live reader has to say one"),
        ),
        (
            "?live=long-poll",
            Err("\"offset\" in the query: a live reader has to say one"),
        ),
        (
            "?live=ever&offset=-1",
            Err("\"live\" in the query: it is neither long-poll nor sse"),
        ),
    ] {
        let found = get_of(query, &[]).map(|get| get.read.from);
        assert_eq!(found, expected.map_err(str::to_owned), "{query}");
    }
}

#[test]
fn parse_get_prefers_last_event_id_for_events() {
    let id = ("last-event-id", "0000000000000000_0000000000000009");
    let from = |query, headers: &[_]| get_of(query, headers).unwrap().read.from;
    let nine = From::At(Offset::at(9));
    assert_eq!(from("?live=sse&offset=-1", &[id]), nine);
    assert_eq!(from("?live=long-poll&offset=-1", &[id]), From::Start);
    assert_eq!(from("?offset=-1", &[id]), From::Start);
    let foreign = ("last-event-id", "from elsewhere");
    assert_eq!(from("?live=sse&offset=now", &[foreign]), From::Now);
}

#[test]
fn parse_put_reads_media_type_and_expiry() {
    let header = |name: &str, why: &str| Err(format!("the header {name}: {why}"));
    let exact = "it is no whole number below 2^53";
    for (headers, expected) in [
        (&[][..], Ok((None, None, false))),
        (
            &[("content-type", "text/plain")],
            Ok((Some("text/plain"), None, false)),
        ),
        (
            &[("content-type", "Text/Plain; charset=utf-8")],
            Ok((Some("Text/Plain; charset=utf-8"), None, false)),
        ),
        (&[("content-type", "nonsense")], Ok((None, None, false))),
        (&[("content-type", " ")], Ok((None, None, false))),
        (&[("stream-closed", "true")], Ok((None, None, true))),
        (&[("stream-closed", "false")], Ok((None, None, false))),
        (
            &[("stream-ttl", "0")],
            Ok((None, Some(Expiry::Idle(0)), false)),
        ),
        (
            &[("stream-ttl", "3600")],
            Ok((None, Some(Expiry::Idle(3_600)), false)),
        ),
        (
            &[("stream-expires-at", "1970-01-01T00:00:01Z")],
            Ok((None, Some(Expiry::At(Timestamp::from_millis(1_000))), false)),
        ),
        (&[("stream-ttl", "")], header("stream-ttl", exact)),
        (&[("stream-ttl", "-1")], header("stream-ttl", exact)),
        (&[("stream-ttl", "+60")], header("stream-ttl", exact)),
        (&[("stream-ttl", "60.5")], header("stream-ttl", exact)),
        (&[("stream-ttl", "1e3")], header("stream-ttl", exact)),
        (
            &[("stream-ttl", "99999999999999999999")],
            header("stream-ttl", exact),
        ),
        (
            &[("stream-ttl", "007")],
            header("stream-ttl", "it begins with a zero"),
        ),
        (
            &[("stream-ttl", "7"), ("stream-ttl", "7")],
            header("stream-ttl", "it is there twice"),
        ),
        (
            &[
                ("stream-ttl", "7"),
                ("stream-expires-at", "1970-01-01T00:00:01Z"),
            ],
            header(
                "stream-ttl",
                "a stream has this or Stream-Expires-At, not both",
            ),
        ),
        (
            &[("stream-expires-at", "tomorrow")],
            header("stream-expires-at", "it is no date and time of RFC 3339"),
        ),
    ] {
        let found = outcome("PUT", "", headers).map(|call| match call {
            StreamRequest::Create(create) => create,
            StreamRequest::Append(_)
            | StreamRequest::Delete
            | StreamRequest::Head
            | StreamRequest::Get(_) => unreachable!(),
        });
        let found = found.map(|it| (it.media_type, it.expiry, it.closed));
        let expected =
            expected.map(|(media, expiry, closed)| (media.map(MediaType::new), expiry, closed));
        assert_eq!(found, expected, "{headers:?}");
    }
}

#[test]
fn parse_put_reads_the_fork() {
    let (from, at, beyond) = (
        "stream-forked-from",
        "stream-fork-offset",
        "stream-fork-sub-offset",
    );
    let source = (from, "/v1/stream/s/t");
    let fork = |at: Option<u64>, beyond| {
        Ok(Fork {
            source: StreamName::parse("s/t").unwrap(),
            at: at.map(Offset::at),
            beyond,
        })
    };
    for (headers, expected) in [
        (&[source][..], fork(None, 0)),
        (&[source, (at, "0_7")], fork(Some(7), 0)),
        (&[source, (at, "0_7"), (beyond, "3")], fork(Some(7), 3)),
        (&[source, (beyond, "0")], fork(None, 0)),
        (&[source, (at, "-1")], Err(at)),
        (&[source, (at, "now")], Err(at)),
        (&[source, (beyond, "")], Err(beyond)),
        (&[source, (beyond, "03")], Err(beyond)),
        (&[source, (beyond, "-3")], Err(beyond)),
        (&[(beyond, "0")], Err(beyond)),
        (&[(at, "0_7")], Err(at)),
        (&[(from, "s")], Err(from)),
        (&[(from, "/v1/stream/")], Err(from)),
        (&[(from, "http://elsewhere/v1/stream/s")], Err(from)),
    ] {
        match (outcome("PUT", "", headers), expected) {
            (Ok(StreamRequest::Create(create)), Ok(fork)) => {
                assert_eq!(create.fork, Some(fork), "{headers:?}");
            }
            (Err(why), Err(name)) => assert_names(&why, name, headers),
            (found, expected) => panic!("{headers:?}: {found:?}, not {expected:?}"),
        }
    }
}

/// Asserts that an error names a header.
fn assert_names(why: &str, name: &str, headers: &[(&str, &str)]) {
    let start = format!("the header {name}: ");
    assert!(why.starts_with(&start), "{headers:?}: {why}");
}

#[test]
fn parse_post_reads_the_producer() {
    let long = "x".repeat(STREAM_TOKEN_BYTES_MAX + 1);
    let whole = |id: &str, epoch, seq| {
        let id = id.to_owned();
        Ok(Some(Producer { id, epoch, seq }))
    };
    for (id, epoch, seq, expected) in [
        (None, None, None, Ok(None)),
        (Some("p"), Some("0"), Some("7"), whole("p", 0, 7)),
        (Some("p"), Some("00"), Some("07"), whole("p", 0, 7)),
        (
            Some("\u{fc}"),
            Some("0"),
            Some("9007199254740991"),
            whole("\u{fc}", 0, (1 << 53) - 1),
        ),
        (Some("p"), Some("0"), None, Err("producer-id")),
        (Some("p"), None, None, Err("producer-id")),
        (None, Some("0"), Some("0"), Err("producer-id")),
        (Some(""), Some("0"), Some("0"), Err("producer-id")),
        (Some(&long), Some("0"), Some("0"), Err("producer-id")),
        (Some("p"), Some("-1"), Some("0"), Err("producer-epoch")),
        (Some("p"), Some("1abc"), Some("0"), Err("producer-epoch")),
        (
            Some("p"),
            Some("9007199254740992"),
            Some("0"),
            Err("producer-epoch"),
        ),
        (Some("p"), Some("0"), Some("1e3"), Err("producer-seq")),
        (Some("p"), Some("0"), Some(""), Err("producer-seq")),
    ] {
        let given = [
            ("producer-id", id),
            ("producer-epoch", epoch),
            ("producer-seq", seq),
        ];
        let headers: Vec<_> = given
            .iter()
            .filter_map(|(n, v)| Some((*n, (*v)?)))
            .collect();
        match (outcome("POST", "", &headers), expected) {
            (Ok(StreamRequest::Append(append)), Ok(producer)) => {
                assert_eq!(append.producer, producer);
            }
            (Err(why), Err(name)) => assert_names(&why, name, &headers),
            (found, expected) => panic!("{headers:?}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn parse_knows_methods_and_their_bodies() {
    let body = Bytes::from_static(b"x");
    for (method, most) in [
        ("PUT", STREAM_APPEND_BYTES_MAX),
        ("POST", STREAM_APPEND_BYTES_MAX),
        ("GET", 0),
        ("HEAD", 0),
        ("DELETE", 0),
    ] {
        let call = outcome(method, "", &[]).unwrap();
        assert_eq!(call.body_bytes_max(), most, "{method}");
        let kept = match call.with_body(body.clone()) {
            StreamRequest::Create(create) => create.body,
            StreamRequest::Append(append) => append.body,
            StreamRequest::Delete | StreamRequest::Head | StreamRequest::Get(_) => Bytes::new(),
        };
        assert_eq!(kept.is_empty(), most == 0, "{method}");
    }
    for method in ["PATCH", "OPTIONS", "TRACE", "BREW"] {
        let refused = outcome(method, "", &[]).unwrap_err();
        assert!(refused.ends_with(&format!("not {method}")), "{refused}");
    }
}

proptest! {
    #[test]
    fn parse_never_panics(
        method in "PUT|POST|GET|DELETE|HEAD",
        query in "[ -\"$-~]{0,60}",
        name in "stream-ttl|stream-expires-at|stream-forked-from|stream-fork-offset|producer-id|\
                 stream-fork-sub-offset|producer-epoch|content-type|stream-seq|if-none-match",
        value in "[ -~\u{80}-\u{ff}]{0,40}",
    ) {
        let address = format!("/v1/stream/a?offset={}", query.replace(' ', "%20"));
        let mut request = Request::builder().method(method.as_str());
        if let Ok(uri) = address.parse::<Uri>() {
            request = request.uri(uri);
        }
        let request = request.header(name, value.as_bytes()).body(()).unwrap();
        let _parsed_or_refused = StreamRequest::parse(&request.into_parts().0);
    }
}
