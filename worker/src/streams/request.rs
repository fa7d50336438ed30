//! Requests to streams, read by name: each look at a header costs, and only few count.

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::{Method, Uri};
use pmx_sync::code::Code;
use pmx_sync::stream::http::headers_of;
use pmx_sync::stream::ops::DEBUG_TIMING;
use pmx_sync::wire::Problem;
use worker::web_sys;

use crate::http::header_value;
use crate::thrown::problem;

/// Which headers are looked at, beside those of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Who asks: all that the edge has to know.
    Sender,
    /// What is asked of a stream.
    Call,
    /// What is asked of the hub.
    Control,
}

/// Reads the address of a request.
pub(crate) fn address(url: &str) -> Result<Uri, Problem> {
    url.parse::<Uri>()
        .map_err(|error| unreadable("address", &error))
}

/// The head of a request, with the headers that count.
pub(crate) fn head(request: &web_sys::Request, address: Uri, look: Look) -> Result<Parts, Problem> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    let method = Method::from_bytes(request.method().as_bytes());
    head.method = method.map_err(|error| unreadable("method", &error))?;
    head.uri = address;
    let headers = request.headers();
    let mut note = |name: HeaderName| {
        let value = headers.get(name.as_str());
        let value = value.map_err(problem("reading the headers of the request"))?;
        match value.as_deref().map(header_value) {
            None => Ok(()),
            Some(Some(value)) => {
                head.headers.insert(name, value);
                Ok(())
            }
            Some(None) => Err(unreadable("headers", &name)),
        }
    };
    note(ORIGIN)?;
    match look {
        Look::Sender => {
            note(AUTHORIZATION)?;
            if head.method == Method::OPTIONS {
                note(ACCESS_CONTROL_REQUEST_METHOD)?;
            }
            if head.method == Method::PUT {
                // Whoever forks has to be allowed to read the source.
                note(HeaderName::from_static("stream-forked-from"))?;
            }
        }
        Look::Control => {
            note(AUTHORIZATION)?;
            note(HOST)?;
        }
        Look::Call => {
            note(DEBUG_TIMING)?;
            for &name in headers_of(&head.method) {
                note(HeaderName::from_static(name))?;
            }
        }
    }
    Ok(head)
}

fn unreadable(what: &str, why: &dyn std::fmt::Display) -> Problem {
    let detail = format!("reading the {what} of the request: {why}");
    Problem::new(Code::RequestMalformed, detail)
}

/// The body of a request that is refused: read to its end, or a client that still sends would
/// never hear why.
pub(crate) async fn drain(request: &worker::Request) {
    let limit = pmx_sync::limits::STREAM_APPEND_BYTES_MAX;
    let _drained: Result<Bytes, Problem> = crate::http::body(request, limit).await;
}
