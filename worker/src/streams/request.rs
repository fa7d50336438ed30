//! Requests to streams, read by name: each look at a header costs, and only few count.

use bytes::Bytes;
use http::Method;
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, ORIGIN,
};
use http::request::Parts;
use pmx_sync::stream::http::headers_of;
use pmx_sync::stream::ops::DEBUG_TIMING;
use pmx_sync::wire::Problem;
use worker::web_sys;

use crate::head::{Names, picked};
use crate::http::announced_body;

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

thread_local! {
    static SENDER: Names = Names::new(of_sender);
    static CALL: Names = Names::new(of_call);
    static CONTROL: Names = Names::new(of_control);
}

/// The head of a request, with the headers that count.
pub(crate) fn head(request: &web_sys::Request, look: Look) -> Result<Parts, Problem> {
    let names = match look {
        Look::Sender => &SENDER,
        Look::Call => &CALL,
        Look::Control => &CONTROL,
    };
    names.with(|names| picked(request, names))
}

fn of_sender(method: &Method) -> Vec<HeaderName> {
    let mut names = vec![ORIGIN, AUTHORIZATION];
    if method == Method::OPTIONS {
        names.push(ACCESS_CONTROL_REQUEST_METHOD);
    }
    if method == Method::PUT {
        // Whoever forks has to be allowed to read the source.
        names.push(HeaderName::from_static("stream-forked-from"));
    }
    names
}

fn of_call(method: &Method) -> Vec<HeaderName> {
    let known = headers_of(method).iter().copied();
    let mut names = vec![ORIGIN, DEBUG_TIMING, CONTENT_LENGTH];
    names.extend(known.map(HeaderName::from_static));
    names
}

fn of_control(_: &Method) -> Vec<HeaderName> {
    vec![ORIGIN, AUTHORIZATION, HOST]
}

/// The body of a request that is refused: read to its end, or a client that still sends would
/// never hear why.
pub(crate) async fn drain(request: &web_sys::Request) {
    let limit = pmx_sync::limits::STREAM_APPEND_BYTES_MAX;
    let _drained: Result<Bytes, Problem> = announced_body(request, None, limit).await;
}
