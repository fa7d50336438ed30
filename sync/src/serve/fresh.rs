//! Readers who know of a deploy never get an older one.
//!
//! Pointers may lag behind their space. A page that reloads because of deploy N says so, in a
//! header or a cookie; where the pointer at hand is older, the space itself is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::backend::Pointer;
use crate::channel::Channel;
use crate::limits::EXACT_INTEGER_MAX;
use crate::stream::Offset;
use crate::time::Timestamp;

/// The header that says which deploy a client knows of.
const KNOW: HeaderName = HeaderName::from_static("x-pmx-know");

/// The cookie that says the same for pages, which can't send headers of their own.
const COOKIE_NAME: &str = "_pmx_deploy";

/// The deploy that the client knows of, if it says so.
pub(super) fn known_deploy(head: &Parts) -> Option<u64> {
    let texts = |name: HeaderName| {
        let values = head.headers.get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok())
    };
    let pairs = texts(COOKIE).flat_map(|cookies| cookies.split(';'));
    let cookies = pairs.filter_map(|pair| match pair.trim().split_once('=') {
        Some((COOKIE_NAME, value)) => Some(value),
        Some(_) | None => None,
    });
    let numbers = texts(KNOW).chain(cookies).filter_map(number);
    numbers.max()
}

fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_plain.then(|| text.parse().ok()).flatten()?;
    (number <= EXACT_INTEGER_MAX).then_some(number)
}

/// Says on a page where its reader stands in the site's events: in a header of the protocol, and in
/// one that the page's own scripts can read.
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
    /// A lag of so long.
    pub const fn new(by: Duration) -> Self {
        Self {
            by,
            channels: Mutex::new(BTreeMap::new()),
        }
    }

    /// What a reader sees of a channel where `newest` is there by now. The first is seen at once.
    pub fn shown(&self, channel: &Channel, newest: &Pointer, now: Timestamp) -> Pointer {
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
    use super::*;
    use crate::id::{NodeId, ObjectId, SpaceId};
    use crate::location::Extent;
    use crate::name::SpaceName;

    #[test]
    fn what_a_client_knows() {
        for (headers, expected) in [
            (&[][..], None),
            (&[("x-pmx-know", "12")], Some(12)),
            (&[("cookie", "_pmx_deploy=9")], Some(9)),
            (&[("cookie", "a=b; _pmx_deploy=9; c")], Some(9)),
            (&[("cookie", "x_pmx_deploy=9")], None),
            (
                &[("cookie", "_pmx_deploy=9"), ("x-pmx-know", "12")],
                Some(12),
            ),
            (&[("x-pmx-know", "-1")], None),
            (&[("x-pmx-know", "9007199254740992")], None),
            (&[("cookie", "_pmx_deploy=")], None),
        ] {
            let mut request = http::Request::get("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(known_deploy(&head), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_lag_shows_what_was() {
        let lag = Lag::new(Duration::from_secs(5));
        let channel = SpaceName::parse("docs").unwrap().into();
        let pointer = |deploy| Pointer {
            space: SpaceId::from_bytes([1; 16]),
            deploy,
            root: NodeId::of(b"root"),
            index: Extent {
                object: ObjectId::from_bytes([0; 16]),
                offset: 0,
                len: 1,
            },
            earlier: Vec::new(),
            live: false,
            gone: false,
        };
        for (newest, at, expected) in [(1, 0, 1), (2, 1, 1), (3, 4, 1), (3, 6, 2), (3, 9, 3)] {
            let now = Timestamp::from_millis(at * 1_000);
            let shown = lag.shown(&channel, &pointer(newest), now);
            assert_eq!(shown.deploy, expected, "{newest} at {at}");
        }
    }
}
