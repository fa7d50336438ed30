//! Request heads of streams.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use pmx_streams::http::{StreamRequest, name_of};
use pmx_streams::limits::STREAM_APPEND_BYTES_MAX;

/// A head is parsed or refused; a parsed one has a bounded body.
pub(crate) fn of_stream(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    let _refused = name_of(&head.uri);
    if let Ok(call) = StreamRequest::parse(&head) {
        assert!(call.body_bytes_max() <= STREAM_APPEND_BYTES_MAX);
    }
}

/// Parses a head from text: a line of method and target, then headers.
fn head(bytes: &[u8]) -> Option<Parts> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = first.split_once(' ')?;
    let method: Method = method.parse().ok()?;
    let uri: Uri = target.parse().ok()?;
    let (mut head, ()) = Request::new(()).into_parts();
    (head.method, head.uri) = (method, uri);
    for line in lines.take(64) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?;
        head.headers.append(name, value);
    }
    Some(head)
}
