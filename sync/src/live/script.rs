//! Live script: the JavaScript of an open page, which both hosts serve.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use pmx_core::hash::Hash;

/// Path of the script on every site.
pub const SCRIPT_PATH: &str = "/_pmx/live.js";

/// The script as browsers receive it: without indentation and comments.
pub const SCRIPT: &[u8] = LEAN.0.split_at(LEAN.1).0;

const SOURCE: &[u8] = include_bytes!("live.js");

/// The source without indentation and comment lines, and its length.
const LEAN: &([u8; SOURCE.len()], usize) = &lean();

#[expect(clippy::large_stack_arrays, reason = "only the compiler runs it")]
const fn lean() -> ([u8; SOURCE.len()], usize) {
    let (mut out, mut len, mut at) = ([0; SOURCE.len()], 0, 0);
    while at < SOURCE.len() {
        while at < SOURCE.len() && matches!(SOURCE[at], b' ' | b'\n') {
            at += 1;
        }
        let is_comment = at + 1 < SOURCE.len() && SOURCE[at] == b'/' && SOURCE[at + 1] == b'/';
        while at < SOURCE.len() {
            if !is_comment {
                out[len] = SOURCE[at];
                len += 1;
            }
            at += 1;
            if SOURCE[at - 1] == b'\n' {
                break;
            }
        }
    }
    (out, len)
}

/// The answer to a request for the script. A browser revalidates it each time, which costs a 304: a
/// new server may have a new script.
pub(crate) fn answer(head: &Parts) -> Response<Bytes> {
    let tag = format!("\"{}\"", Hash::of(SCRIPT).to_hex());
    let known = head.headers.get_all(IF_NONE_MATCH).iter();
    let is_known = known
        .filter_map(|value| value.to_str().ok())
        .any(|text| text.contains(&tag));
    let mut answer = Response::new(if is_known {
        Bytes::new()
    } else {
        Bytes::from_static(SCRIPT)
    });
    let headers = answer.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "public, max-age=0, must-revalidate"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "strict-origin-when-cross-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        let script = HeaderValue::from_static("text/javascript; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, script);
    }
    answer
}
