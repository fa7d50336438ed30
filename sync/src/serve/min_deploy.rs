//! Monotonic reads: the deploy that a client has seen, read from its request.
//!
//! Pointers may lag behind their space. A page that reloads because of deploy N repeats the token
//! of N in a header or a cookie. If the pointer is older, the server asks the space.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use pmx_core::channel::Channel;
use pmx_core::time::Timestamp;
use pmx_streams::Offset;

use super::token::DeployTokens;
use crate::limits::DEPLOY_TOKENS_READ_MAX;
use crate::pointer::Pointer;

/// The header in which the server hands out a deploy token, and a client repeats it.
pub(super) const DEPLOY_TOKEN: HeaderName = HeaderName::from_static("x-pmx-know");

/// Another name of the request's header.
const DEPLOY_TOKEN_ALIAS: HeaderName = HeaderName::from_static("x-pmx-min-deploy");

/// The cookies in which pages repeat a token, because they cannot set headers. Pages over https set
/// the first, which no other site of the domain can set (RFC 6265bis, section 4.1.3.2).
const COOKIE_NAMES: [&str; 2] = ["__Host-_pmx_deploy", "_pmx_deploy"];

/// The cookie names that the server reads where sites are reached by `scheme`.
fn cookie_names(scheme: &str) -> &'static [&'static str] {
    match scheme {
        "https" => &COOKIE_NAMES[..1],
        _ => &COOKIE_NAMES,
    }
}

/// The newest deploy for which the request has a valid token. The server reads at most
/// [`DEPLOY_TOKENS_READ_MAX`] tokens.
pub(super) fn min_deploy(
    head: &Parts,
    tokens: &DeployTokens,
    channel: &Channel,
    scheme: &str,
) -> Option<u64> {
    let names = cookie_names(scheme);
    let texts = |name: HeaderName| {
        let values = head.headers.get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok())
    };
    let pairs = texts(COOKIE).flat_map(|cookies| cookies.split(';'));
    let cookies = pairs.filter_map(|pair| match pair.trim().split_once('=') {
        Some((name, value)) if names.contains(&name) => Some(value),
        Some(_) | None => None,
    });
    let claims = texts(DEPLOY_TOKEN)
        .chain(texts(DEPLOY_TOKEN_ALIAS))
        .chain(cookies);
    let claims = claims.take(DEPLOY_TOKENS_READ_MAX);
    claims.filter_map(|claim| tokens.read(channel, claim)).max()
}

/// Adds the offset of a page's deploy in the site's events. One header is the protocol's, and the
/// page's own scripts can read the other.
pub(super) fn mark(headers: &mut HeaderMap, deploy: u64) {
    let values = [
        (NEXT_OFFSET, Offset::at(deploy).to_string()),
        (SERVER_TIMING, format!("pmx;desc=\"{deploy}\"")),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Pointers as they were some time ago: a platform's lag, made on purpose for tests.
#[derive(Debug)]
pub struct Lag {
    by: Duration,
    channels: Mutex<BTreeMap<Channel, Lagging>>,
}

#[derive(Debug, Default)]
struct Lagging {
    shown: Option<Pointer>,
    coming: VecDeque<(Timestamp, Pointer)>,
}

impl Lag {
    /// Makes a lag of this length.
    pub const fn new(by: Duration) -> Self {
        Self {
            by,
            channels: Mutex::new(BTreeMap::new()),
        }
    }

    /// The pointer that a reader sees of a channel with the pointer `newest`. The first has no lag.
    pub fn lagged(&self, channel: &Channel, newest: &Pointer, now: Timestamp) -> Pointer {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let lagging = channels.entry(channel.clone()).or_default();
        let last = lagging.coming.back().map(|(_, last)| last);
        if last.or(lagging.shown.as_ref()) != Some(newest) {
            let at = now.after(self.by);
            lagging.coming.push_back((at, newest.clone()));
        }
        while let Some((at, _)) = lagging.coming.front()
            && (*at <= now || lagging.shown.is_none())
        {
            lagging.shown = lagging.coming.pop_front().map(|(_, pointer)| pointer);
        }
        lagging.shown.clone().unwrap_or_else(|| newest.clone())
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::name::SpaceName;

    use super::*;
    use crate::testing::pointer;

    #[test]
    fn known_deploy_is_read_from_valid_tokens_only() {
        let tokens = DeployTokens::of(Some("secret"));
        let docs = Channel::of_label("docs").unwrap();
        let token = |deploy| tokens.token(&docs, deploy).unwrap();
        let (nine, twelve) = (token(9), token(12));
        let cookie = format!("_pmx_deploy={nine}");
        let forged = nine.replace("9.", "99.");
        let many = vec![cookie.as_str(); DEPLOY_TOKENS_READ_MAX].join("; ");
        for (headers, expected) in [
            (&[][..], None),
            (&[("x-pmx-know", &*twelve)], Some(12)),
            (&[("x-pmx-min-deploy", &*twelve)], Some(12)),
            (&[("cookie", &*cookie)], Some(9)),
            (&[("cookie", &*format!("a=b; {cookie}; c"))], Some(9)),
            (&[("cookie", &*format!("x{cookie}"))], None),
            (&[("cookie", &*cookie), ("x-pmx-know", &*twelve)], Some(12)),
            (&[("cookie", &*cookie), ("x-pmx-know", &*forged)], Some(9)),
            (
                &[
                    ("cookie", &*many),
                    ("cookie", &*format!("_pmx_deploy={twelve}")),
                ],
                Some(9),
            ),
            (&[("x-pmx-know", "12")], None),
            (&[("x-pmx-know", "-1")], None),
            (&[("cookie", "_pmx_deploy=9")], None),
            (&[("cookie", "_pmx_deploy=")], None),
        ] {
            let mut request = http::Request::get("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let known = min_deploy(&head, &tokens, &docs, "http");
            assert_eq!(known, expected, "{headers:?}");
        }
    }

    #[test]
    fn cookies_of_other_sites_count_nowhere_over_https() {
        let tokens = DeployTokens::of(Some("secret"));
        let docs = Channel::of_label("docs").unwrap();
        let token = tokens.token(&docs, 9).unwrap();
        for (name, http, https) in [
            ("__Host-_pmx_deploy", Some(9), Some(9)),
            ("_pmx_deploy", Some(9), None),
            ("__host-_pmx_deploy", None, None),
        ] {
            let request = http::Request::get("/").header("cookie", format!("{name}={token}"));
            let (head, ()) = request.body(()).unwrap().into_parts();
            let known = |scheme| min_deploy(&head, &tokens, &docs, scheme);
            assert_eq!([known("http"), known("https")], [http, https], "{name}");
        }
    }

    #[test]
    fn lag_shows_earlier_pointers() {
        let lag = Lag::new(Duration::from_secs(5));
        let channel = SpaceName::parse("docs").unwrap().into();
        for (newest, at, expected) in [(1, 0, 1), (2, 1, 1), (3, 4, 1), (3, 6, 2), (3, 9, 3)] {
            let now = Timestamp::from_millis(at * 1_000);
            let shown = lag.lagged(&channel, &pointer(newest), now);
            assert_eq!(shown.deploy, expected, "{newest} at {at}");
        }
    }
}
