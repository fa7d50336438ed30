use http::Request;
use insta::assert_snapshot;
use pmx_core::time::Timestamp;

use super::super::StreamSettings;
use super::super::request::{LiveMode, StreamRequest};
use super::*;
use crate::MediaType;

fn a_view(media_type: &str, next: u64, closed: bool) -> StreamProperties {
    StreamProperties {
        media_type: MediaType::new(media_type),
        next: Offset::at(next),
        closed,
        expiry: Expiry::Never,
        expiry_text: None,
        generation: "9a".repeat(16),
    }
}

fn a_page(view: StreamProperties, start: u64, end: u64, body: &'static str) -> Page {
    Page {
        view,
        start: Offset::at(start),
        end: Offset::at(end),
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn asked(query: &str, headers: &[(&str, &str)]) -> Get {
    let mut request = Request::builder().uri(format!("/v1/stream/a{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match StreamRequest::parse(&request.body(()).unwrap().into_parts().0) {
        Ok(StreamRequest::Get(get)) => get,
        other => panic!("{other:?}"),
    }
}

fn cursor() -> LiveCursor {
    LiveCursor::at(Timestamp::from_millis(1_728_432_000_000 + 140_000))
}

/// Status, headers in the order of their names, body.
fn rendered<B: AsRef<[u8]>>(answer: &Response<B>) -> String {
    let headers = answer.headers().iter();
    let mut lines: Vec<String> = headers
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines.insert(0, answer.status().as_u16().to_string());
    lines.push(String::from_utf8_lossy(answer.body().as_ref()).into_owned());
    lines.join("\n").trim_end().to_owned()
}

#[test]
fn created_and_appended_set_status_and_tail() {
    let view = a_view("Text/Plain;x=y", 5, false);
    let made = Created {
        fresh: true,
        view: view.clone(),
    };
    assert_snapshot!(rendered(&created(&made, "http://x/v1/stream/a")), @r"
    201
    content-type: Text/Plain;x=y
    location: http://x/v1/stream/a
    stream-next-offset: 0000000000000000_0000000000000005
    ");
    let known = Created {
        fresh: false,
        view: StreamProperties {
            closed: true,
            ..view
        },
    };
    assert_snapshot!(rendered(&created(&known, "http://x/v1/stream/a")), @r"
    200
    content-type: Text/Plain;x=y
    stream-closed: true
    stream-next-offset: 0000000000000000_0000000000000005
    ");
    let mut kept = Appended {
        next: Offset::at(7),
        closed: false,
        repeated: false,
        producer: None,
    };
    assert_eq!(appended(&kept, 2).status(), 204);
    kept.producer = Some((1, 4));
    assert_snapshot!(rendered(&appended(&kept, 2)), @r"
    200
    producer-epoch: 1
    producer-seq: 4
    stream-next-offset: 0000000000000000_0000000000000007
    ");
    assert_eq!(
        appended(&kept, 0).status(),
        204,
        "it closed and did no more"
    );
    (kept.repeated, kept.closed) = (true, true);
    assert_snapshot!(rendered(&appended(&kept, 2)), @r"
    204
    producer-epoch: 1
    producer-seq: 4
    stream-closed: true
    stream-next-offset: 0000000000000000_0000000000000007
    ");
}

#[test]
fn view_renders_expiry_and_tag() {
    let mut known = a_view("application/json", 5, true);
    known.expiry = Expiry::Idle(60);
    known.expiry_text = Some("60".to_owned());
    assert_snapshot!(rendered(&view(&known)), @r#"
    200
    content-type: application/json
    etag: "9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a:0:5:c"
    stream-closed: true
    stream-next-offset: 0000000000000000_0000000000000005
    stream-ttl: 60
    "#);
    known.expiry = Expiry::At(Timestamp::from_millis(7));
    known.expiry_text = Some("1970-01-01T00:00:00.007Z".to_owned());
    let answer = view(&known);
    assert_eq!(
        answer.headers()["stream-expires-at"],
        "1970-01-01T00:00:00.007Z"
    );
}

#[test]
fn page_renders_body_tag_and_cursor() {
    let open = a_view("application/json", 5, false);
    let part = a_page(open.clone(), 0, 3, "1,2,3");
    assert_snapshot!(rendered(&page(&asked("", &[]), &part, cursor())), @r#"
    200
    cache-control: max-age=0, must-revalidate
    content-type: application/json
    etag: "9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a:0:3:m"
    stream-next-offset: 0000000000000000_0000000000000003
    [1,2,3]
    "#);
    let tail = a_page(open.clone(), 3, 5, "4,5");
    assert_snapshot!(rendered(&page(&asked("?offset=0_3", &[]), &tail, cursor())), @r#"
    200
    cache-control: max-age=0, must-revalidate
    content-type: application/json
    etag: "9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a:3:5"
    stream-next-offset: 0000000000000000_0000000000000005
    stream-up-to-date: true
    [4,5]
    "#);
    let now = a_page(open, 5, 5, "");
    assert_snapshot!(rendered(&page(&asked("?offset=now", &[]), &now, cursor())), @r"
    200
    content-type: application/json
    stream-next-offset: 0000000000000000_0000000000000005
    stream-up-to-date: true
    []
    ");
    let last = a_page(a_view("text/plain", 5, true), 3, 5, "xy");
    let poll = asked("?offset=0_3&live=long-poll", &[]);
    assert_eq!(poll.live, LiveMode::LongPoll);
    assert_snapshot!(rendered(&page(&poll, &last, cursor())), @r#"
    200
    cache-control: max-age=0, must-revalidate
    content-type: text/plain
    etag: "9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a:3:5:c"
    stream-closed: true
    stream-cursor: 7
    stream-next-offset: 0000000000000000_0000000000000005
    stream-up-to-date: true
    xy
    "#);
    assert_snapshot!(rendered(&timed_out(Offset::at(5), false, cursor())), @r"
    204
    stream-cursor: 7
    stream-next-offset: 0000000000000000_0000000000000005
    stream-up-to-date: true
    ");
}

#[test]
fn page_is_not_modified_for_a_reader_that_has_it() {
    let closed = a_page(a_view("text/plain", 5, true), 3, 5, "xy");
    let open = a_page(a_view("text/plain", 5, false), 3, 5, "xy");
    let tag = "W/\"9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a:3:5\", \"x\"";
    let known = asked("?offset=0_3", &[("if-none-match", tag)]);
    assert_snapshot!(rendered(&page(&known, &open, cursor())), @r#"
    304
    cache-control: max-age=0, must-revalidate
    etag: "9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a:3:5"
    stream-next-offset: 0000000000000000_0000000000000005
    stream-up-to-date: true
    "#);
    // The closed state is new to the reader.
    assert_eq!(page(&known, &closed, cursor()).status(), 200);
    // A read of the current tail is never 304.
    let now = asked("?offset=now", &[("if-none-match", "*")]);
    assert_eq!(page(&now, &open, cursor()).status(), 200);
}

#[test]
fn refused_renders_code_and_headers() {
    let closed = Refusal::Closed {
        next: Offset::at(5),
    };
    let gap = Refusal::Gap {
        expected: 3,
        received: 9,
    };
    let large = Refusal::TooLarge { bytes: 9, limit: 8 };
    for (refusal, status, code, headers) in [
        (Refusal::Unknown, 404, "E_STREAM_UNKNOWN", &[][..]),
        (Refusal::NoSource, 404, "E_STREAM_UNKNOWN", &[]),
        (Refusal::Gone, 410, "E_STREAM_GONE", &[]),
        (Refusal::Taken, 409, "E_STREAM_CONFLICT", &[]),
        (Refusal::SourceGone, 409, "E_STREAM_CONFLICT", &[]),
        (Refusal::SourceType, 409, "E_STREAM_CONFLICT", &[]),
        (Refusal::OtherType, 409, "E_STREAM_CONFLICT", &[]),
        (Refusal::Seq, 409, "E_STREAM_SEQUENCE", &[]),
        (Refusal::NoSuchPlace, 400, "E_STREAM_REQUEST", &[]),
        (Refusal::Beyond, 400, "E_STREAM_REQUEST", &[]),
        (Refusal::Empty, 400, "E_STREAM_REQUEST", &[]),
        (Refusal::NoType, 400, "E_STREAM_REQUEST", &[]),
        (Refusal::EpochStart, 400, "E_STREAM_REQUEST", &[]),
        (large, 413, "E_TOO_LARGE", &[]),
        (
            Refusal::Fenced { epoch: 4 },
            403,
            "E_STREAM_FENCED",
            &[("producer-epoch", "4")],
        ),
        (
            closed,
            409,
            "E_STREAM_CLOSED",
            &[
                ("stream-closed", "true"),
                ("stream-next-offset", "0000000000000000_0000000000000005"),
            ],
        ),
        (
            gap,
            409,
            "E_STREAM_SEQUENCE",
            &[
                ("producer-expected-seq", "3"),
                ("producer-received-seq", "9"),
            ],
        ),
    ] {
        let answer = refused(&refusal);
        assert_eq!(answer.status(), status, "{refusal}");
        let problem: Problem = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(problem.code.as_str(), code);
        assert_eq!(problem.detail, refusal.to_string());
        assert_eq!(answer.headers().len(), 1 + headers.len(), "{refusal}");
        for (name, value) in headers {
            assert_eq!(answer.headers()[*name], *value);
        }
    }
    let method = InvalidRequest::Method(http::Method::PATCH);
    assert_eq!(invalid(&method).status(), 405);
    assert_eq!(invalid(&method).headers()["allow"], METHODS);
}

fn settings(vars: &[(&str, &str)]) -> StreamSettings {
    let var = |name: &str| {
        let found = vars.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    StreamSettings::read(var).unwrap()
}

/// The origin that may read the answer.
fn cors(settings: &StreamSettings, method: &str, headers: &[(&str, &str)]) -> String {
    let mut request = Request::builder().method(method).uri("/v1/stream/news/a");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let head = request.body(()).unwrap().into_parts().0;
    let answer = settings.add_common_headers(&head, bare(StatusCode::OK));
    let headers = answer.headers();
    let allowed = headers.get("access-control-allow-origin");
    let exposed = headers.contains_key("access-control-expose-headers");
    assert_eq!(allowed.is_some(), exposed);
    let allowed = allowed.map_or("none", |value| value.to_str().unwrap());
    allowed.to_owned()
}

#[test]
fn cors_follows_the_settings() {
    let page = ("origin", "https://evil.example");
    let asked = |method| ("access-control-request-method", method);
    let open = settings(&[("STREAM_ACCESS", "open")]);
    let all = settings(&[("STREAM_SECRET", "s"), ("STREAM_ORIGINS", "*")]);
    let news = settings(&[("STREAM_SECRET", "s"), ("STREAM_PUBLIC_READ", "news/*")]);
    let guarded = settings(&[("STREAM_SECRET", "s")]);
    let closed = settings(&[]);
    let local = settings(&[]).in_local_mode(true);
    for (settings, method, request, expected) in [
        (&open, "POST", None, "*"),
        (&all, "POST", None, "*"),
        (&news, "GET", None, "*"),
        (&news, "OPTIONS", Some("GET"), "*"),
        (&news, "OPTIONS", Some("POST"), "none"),
        (&news, "POST", None, "none"),
        (&guarded, "GET", None, "none"),
        (&guarded, "OPTIONS", Some("GET"), "none"),
        (&closed, "GET", None, "none"),
        (&local, "GET", None, "none"),
        (&local, "OPTIONS", Some("DELETE"), "none"),
    ] {
        let mut headers = vec![page];
        headers.extend(request.map(asked));
        assert_eq!(cors(settings, method, &headers), expected, "{method}");
    }
    // Pages of the server's own sites, in local mode only.
    let host = ("host", "localhost:8787");
    for (origin, own) in [
        ("http://docs.localhost:8787", true),
        ("http://localhost:8787", true),
        ("http://docs.localhost:3000", false),
        ("http://localhost", false),
        ("https://docs.localhost:8787", false),
        ("http://localhost.evil.example:8787", false),
        ("null", false),
    ] {
        let expected = if own { origin } else { "none" };
        assert_eq!(cors(&local, "GET", &[host, ("origin", origin)]), expected);
        assert_eq!(cors(&closed, "GET", &[host, ("origin", origin)]), "none");
    }
}

fn with_common_headers(
    settings: &StreamSettings,
    origin: Option<&str>,
    answer: Response<Bytes>,
) -> String {
    let mut request = Request::builder().uri("/v1/stream/a");
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    let head = request.body(()).unwrap().into_parts().0;
    let answer = settings.add_common_headers(&head, answer);
    let shown = rendered(&answer);
    let shown = shown.lines().filter(|line| !line.contains("expose"));
    shown.collect::<Vec<_>>().join("\n")
}

#[test]
fn add_common_headers_adds_cors_caching_and_sandbox() {
    let open = settings(&[("STREAM_ACCESS", "open")]);
    assert_snapshot!(with_common_headers(&open, None, deleted()), @r"
    204
    access-control-allow-origin: *
    cache-control: no-store
    content-security-policy: sandbox
    cross-origin-resource-policy: cross-origin
    x-content-type-options: nosniff
    ");
    let closed = settings(&[
        ("STREAM_SECRET", "s3cret"),
        ("STREAM_ORIGINS", "https://a.example"),
    ]);
    let part = a_page(a_view("text/plain", 5, false), 0, 3, "abc");
    let answer = page(&asked("", &[]), &part, cursor());
    assert_snapshot!(with_common_headers(&closed, Some("https://a.example"), answer.clone()), @r#"
    200
    access-control-allow-origin: https://a.example
    cache-control: private, max-age=0, must-revalidate
    content-security-policy: sandbox
    content-type: text/plain
    cross-origin-resource-policy: cross-origin
    etag: "9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a:0:3:m"
    stream-next-offset: 0000000000000000_0000000000000003
    vary: authorization
    vary: origin
    x-content-type-options: nosniff
    abc
    "#);
    let elsewhere = with_common_headers(&closed, Some("https://b.example"), answer);
    assert!(!elsewhere.contains("allow-origin"), "{elsewhere}");
    assert!(elsewhere.contains("vary: origin"), "{elsewhere}");
}

#[test]
fn problem_renders_the_challenge() {
    for (code, challenge) in [
        (Code::Unauthorised, "Bearer"),
        (Code::TokenExpired, "Bearer error=\"invalid_token\""),
        (Code::Forbidden, "Bearer error=\"insufficient_scope\""),
    ] {
        let answer = problem(&Problem::new(code, "no"));
        assert_eq!(answer.headers()["www-authenticate"], challenge);
    }
    let other = problem(&Problem::new(Code::NotFound, "no"));
    assert!(!other.headers().contains_key("www-authenticate"));
}

#[test]
fn admit_answers_preflights_and_checks_credentials() {
    let settings = settings(&[("STREAM_SECRET", "s3cret")]);
    for (method, path, token, expected) in [
        ("GET", "/v1/stream/a", Some("Bearer s3cret"), 200),
        ("GET", "/v1/stream/a", Some("Bearer other"), 401),
        ("GET", "/v1/stream/a", None, 401),
        ("GET", "/v1/stream/__ds/x", Some("Bearer s3cret"), 404),
        ("GET", "/v1/stream/", Some("Bearer s3cret"), 400),
        ("GET", "/v1/streams", None, 404),
        ("OPTIONS", "/v1/stream/a", None, 204),
    ] {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let status = match settings.admit(&head, Timestamp::from_millis(0)) {
            Ok(_) => 200,
            Err(refusal) => refusal.status().as_u16(),
        };
        assert_eq!(status, expected, "{method} {path} {token:?}");
    }
}
