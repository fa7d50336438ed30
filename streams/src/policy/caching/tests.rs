use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG};
use http::{Request, Response};
use pmx_core::time::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::http::{CorsOrigins, LiveCursor, LiveMode, StreamRequest, StreamSettings, answer, sse};
use crate::policy::{AccessVars, Claims};
use crate::{Expiry, From, MediaType, Offset, Page, Refusal, StreamProperties};

const SECRET: &str = "a secret of at least thirty-two bytes";
const NOW: Timestamp = Timestamp::from_millis(1_795_339_200_000);

/// Bytes of a page of the model.
const PAGE: usize = 4;

/// A stream of bytes, with the count of its generations.
#[derive(Debug, Clone, Default)]
struct Model {
    /// The number of streams so far.
    generation: u64,
    stream: Option<(Vec<u8>, bool)>,
}

impl Model {
    fn answer(&self, settings: &StreamSettings, head: &Parts) -> Response<Bytes> {
        let answer = match settings.admit(head, NOW) {
            Ok(_) => self.rendered(head),
            Err(refused) => refused,
        };
        settings.add_common_headers(head, answer)
    }

    fn rendered(&self, head: &Parts) -> Response<Bytes> {
        let Some((log, closed)) = &self.stream else {
            return answer::refused(&Refusal::Unknown);
        };
        let tail = log.len() as u64;
        let view = StreamProperties {
            media_type: MediaType::new("text/plain"),
            next: Offset::at(tail),
            closed: *closed,
            expiry: Expiry::Never,
            expiry_text: None,
            generation: format!("{:032x}", self.generation),
        };
        let get = match StreamRequest::parse(head) {
            Ok(StreamRequest::Get(get)) => get,
            Ok(StreamRequest::Head) => return answer::view(&view),
            Ok(other) => panic!("{other:?}"),
            Err(error) => return answer::invalid(&error),
        };
        let start = match get.read.from {
            From::Start => 0,
            From::Now => tail,
            From::At(offset) => offset.position(),
        };
        if start > tail {
            return answer::refused(&Refusal::Beyond);
        }
        let end = tail.min(start + PAGE as u64);
        let page = Page {
            view,
            start: Offset::at(start),
            end: Offset::at(end),
            body: log[start as usize..end as usize].to_vec().into(),
        };
        let cursor = LiveCursor::at(NOW);
        match get.live {
            LiveMode::LongPoll if start == end => answer::timed_out(page.end, *closed, cursor),
            LiveMode::Sse => sse::head(&page.view.media_type),
            LiveMode::CatchUp | LiveMode::LongPoll => answer::page(&get, &page, cursor),
        }
    }
}

fn settings(caching: CacheMode, secret: Option<&str>, public: Option<&str>) -> StreamSettings {
    StreamSettings {
        access: Access::parse(AccessVars {
            secret,
            public,
            access: Some("open"),
            ..AccessVars::default()
        })
        .unwrap(),
        origins: CorsOrigins::Any,
        caching,
        ..StreamSettings::default()
    }
}

fn request(method: &str, query: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/v1/stream/a{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn token() -> String {
    let keys = crate::policy::Keys::of(Some(SECRET), None).unwrap();
    let time = std::time::Duration::from_mins(1);
    let claims = Claims::new("a", "read", NOW, time, None).unwrap();
    keys.sign(&claims).unwrap()
}

#[test]
fn policy_depends_on_mode_audience_and_kind_of_response() {
    let model = Model {
        generation: 1,
        stream: Some((b"0123456789".to_vec(), false)),
    };
    let bearer = format!("Bearer {SECRET}");
    let bearer = [("authorization", bearer.as_str())];
    let in_address = format!("&token={}", token());
    let page = [
        ("GET", "?offset=-1"),
        ("GET", "?offset=0_8"),
        ("GET", "?offset=0_10"),
        ("GET", "?offset=0_8&live=long-poll"),
    ];
    let never = [
        ("GET", "?offset=now"),
        ("GET", "?offset=0_10&live=long-poll"),
        ("HEAD", "?"),
        ("GET", "?offset=0_99"),
        ("GET", "?offset=x"),
    ];
    let (private, public) = (
        "private, max-age=0, must-revalidate",
        "public, max-age=0, must-revalidate",
    );
    for (mode, secret, opened, expected) in [
        (CacheMode::Off, None, None, "no-store"),
        (CacheMode::Private, None, None, private),
        (CacheMode::Shared, None, None, public),
        (CacheMode::Off, Some(SECRET), None, "no-store"),
        (CacheMode::Private, Some(SECRET), None, private),
        (CacheMode::Shared, Some(SECRET), None, private),
        (CacheMode::Private, Some(SECRET), Some("a"), private),
        (CacheMode::Shared, Some(SECRET), Some("a"), public),
        (CacheMode::Shared, Some(SECRET), Some("b"), private),
    ] {
        let settings = settings(mode, secret, opened);
        let says = |method: &str, query: &str, headers: &[(&str, &str)]| {
            let answer = model.answer(&settings, &request(method, query, headers));
            let vary = answer
                .headers()
                .get("vary")
                .map(|vary| vary.to_str().unwrap().to_owned());
            let policy = answer.headers()[CACHE_CONTROL].to_str().unwrap().to_owned();
            (answer.status().as_u16(), policy, vary)
        };
        let rendered = format!("{mode:?} {secret:?} {opened:?}");
        let is_held = secret.is_some() && opened != Some("a") && mode != CacheMode::Off;
        let vary = is_held.then(|| "authorization".to_owned());
        for (method, query) in page {
            let expected = (200, expected.to_owned(), vary.clone());
            assert_eq!(says(method, query, &bearer), expected, "{rendered} {query}");
            if method == "GET" && secret.is_some() {
                let query = format!("{query}{in_address}");
                let expected = (200, "no-store".to_owned(), None);
                assert_eq!(says(method, &query, &[]), expected, "{rendered} {query}");
            }
        }
        for (method, query) in never {
            let (_, policy, _) = says(method, query, &bearer);
            assert_eq!(policy, "no-store", "{rendered} {query}");
        }
        let (_, events, _) = says("GET", "?offset=-1&live=sse", &bearer);
        assert_eq!(events, "no-cache, no-store", "{rendered}");
        if secret.is_some() && opened != Some("a") {
            assert_eq!(says("GET", "?offset=-1", &[]).0, 401, "{rendered}");
        }
        assert_eq!(says("GET", "?offset=-1", &[]).1 == "no-store", {
            mode == CacheMode::Off || (secret.is_some() && opened != Some("a"))
        });
    }
    let deleted = settings(CacheMode::Shared, None, None)
        .add_common_headers(&request("DELETE", "", &[]), answer::deleted());
    assert_eq!(deleted.headers()[CACHE_CONTROL], "no-store");
}

#[test]
fn parse_accepts_the_cache_modes() {
    for (text, expected) in [
        (None, Ok(CacheMode::Private)),
        (Some(""), Ok(CacheMode::Private)),
        (Some("shared"), Ok(CacheMode::Shared)),
        (Some("off"), Ok(CacheMode::Off)),
        (Some("public"), Err(InvalidCacheMode("public".to_owned()))),
    ] {
        assert_eq!(CacheMode::parse(text), expected);
    }
}

/// Private or shared (RFC 9111).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shared,
    Private,
}

/// A cache as lazy as RFC 9111 allows. It stores every response that it may, and reuses it for as
/// long as it may. It serves stale ones while it may revalidate later.
struct Cache {
    kind: Kind,
    now: u64,
    kept: Vec<Kept>,
}

struct Kept {
    address: String,
    token: Option<String>,
    at: u64,
    answer: Response<Bytes>,
}

impl Cache {
    const fn new(kind: Kind) -> Self {
        let kept = Vec::new();
        Self { kind, now: 0, kept }
    }

    fn get(
        &mut self,
        head: &Parts,
        ask: &mut dyn FnMut(&Parts) -> Response<Bytes>,
    ) -> Response<Bytes> {
        let address = head.uri.to_string();
        let token = head.headers.get("authorization");
        let token = token.map(|token| token.to_str().unwrap().to_owned());
        let found = self.kept.iter().rposition(|kept| {
            let by_token = kept.answer.headers().get("vary");
            let by_token = by_token.is_some_and(|vary| vary == "authorization");
            kept.address == address && (!by_token || kept.token == token)
        });
        let mut asked = head.clone();
        if let Some(found) = found {
            let kept = &self.kept[found];
            if self.now - kept.at < reusable(&kept.answer) {
                return kept.answer.clone();
            }
            // It revalidates its own stored response.
            if let Some(tag) = kept.answer.headers().get(ETAG) {
                asked.headers.insert("if-none-match", tag.clone());
            }
        }
        let answer = ask(&asked);
        if let Some(found) = found
            && answer.status() == 304
        {
            let kept = &mut self.kept[found];
            kept.at = self.now;
            for (name, value) in answer.headers() {
                kept.answer.headers_mut().insert(name, value.clone());
            }
            return kept.answer.clone();
        }
        if self.may_keep(&answer, token.is_some()) {
            let (at, kept) = (self.now, answer.clone());
            self.kept
                .retain(|other| other.address != address || other.token != token);
            let answer = kept;
            self.kept.push(Kept {
                address,
                token,
                at,
                answer,
            });
        }
        answer
    }

    /// RFC 9111, section 3.
    fn may_keep(&self, answer: &Response<Bytes>, has_token: bool) -> bool {
        let says = |directive: &str| directives(answer).any(|one| one == directive);
        let allowed = says("public") || says("must-revalidate");
        let shared = self.kind == Kind::Private || (!says("private") && (!has_token || allowed));
        answer.status() == 200 && !says("no-store") && shared
    }
}

fn directives(answer: &Response<Bytes>) -> impl Iterator<Item = &str> {
    let policy = answer
        .headers()
        .get(CACHE_CONTROL)
        .map_or("", |value| value.to_str().unwrap());
    policy.split(',').map(str::trim)
}

/// How long a response may be reused without revalidation.
fn reusable(answer: &Response<Bytes>) -> u64 {
    let seconds = |name: &str| {
        let mut values = directives(answer).filter_map(|one| one.strip_prefix(name));
        values
            .next()
            .map_or(0, |seconds| seconds.parse::<u64>().unwrap())
    };
    let is_asked = directives(answer).any(|one| one == "no-cache");
    if is_asked {
        0
    } else {
        seconds("max-age=") + seconds("stale-while-revalidate=")
    }
}

#[derive(Debug, Clone)]
enum Op {
    Append(u8),
    Close,
    Delete,
    Create,
    Wait(u64),
    Read {
        reader: usize,
        page: u64,
        live: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1u8..7).prop_map(Op::Append),
        1 => Just(Op::Close),
        1 => Just(Op::Delete),
        2 => Just(Op::Create),
        2 => (0u64..120).prop_map(Op::Wait),
        12 => (0usize..4, 0u64..4, any::<bool>())
            .prop_map(|(reader, page, live)| Op::Read { reader, page, live }),
    ]
}

fn change(model: &mut Model, op: &Op) {
    match (op, &mut model.stream) {
        (Op::Append(bytes), Some((log, false))) => {
            let text = format!("{}.{}.", model.generation, log.len());
            log.extend(text.bytes().cycle().take(usize::from(*bytes)));
        }
        (Op::Close, Some((_, closed))) => *closed = true,
        (Op::Delete, stream) => *stream = None,
        (Op::Create, stream @ None) => {
            model.generation += 1;
            *stream = Some((Vec::new(), false));
        }
        _ => {}
    }
}

proptest! {
    /// Four readers, two with a token and two without, use browser caches and one shared cache:
    /// each reader always sees the server's current response.
    #[test]
    fn policy_never_lets_a_cache_serve_a_stale_or_foreign_response(
        ops in prop::collection::vec(op(), 1..80),
        mode in prop::sample::select(vec![CacheMode::Off, CacheMode::Private, CacheMode::Shared]),
        secret in prop::option::of(Just(SECRET)),
        public in prop::option::of(Just("a")),
    ) {
        let settings = settings(mode, secret, public);
        let mut model = Model::default();
        let mut between = Cache::new(Kind::Shared);
        let mut browsers: Vec<Cache> = (0..2).map(|_| Cache::new(Kind::Private)).collect();
        let bearer = format!("Bearer {SECRET}");
        for op in &ops {
            match op {
                Op::Wait(seconds) => {
                    between.now += seconds;
                    for browser in &mut browsers {
                        browser.now += seconds;
                    }
                }
                Op::Read { reader, page, live } => {
                    let live = if *live { "&live=long-poll" } else { "" };
                    let query = format!("?offset=0_{}{live}", page * PAGE as u64);
                    // A reader with a token and one without share a browser.
                    let known = [("authorization", bearer.as_str())];
                    let headers = if *reader < 2 { &known[..] } else { &[] };
                    let head = request("GET", &query, headers);
                    let shown = browsers[reader % 2].get(&head, &mut |head| {
                        between.get(head, &mut |head| model.answer(&settings, head))
                    });
                    let rendered = model.answer(&settings, &head);
                    prop_assert_eq!(shown.status(), rendered.status());
                    prop_assert_eq!(shown.body(), rendered.body());
                    for name in ["stream-next-offset", "stream-up-to-date", "stream-closed"] {
                        prop_assert_eq!(shown.headers().get(name), rendered.headers().get(name));
                    }
                }
                change_op => change(&mut model, change_op),
            }
        }
    }
}
