//! Request heads of streams: reads only the headers that count, because each read costs.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Bytes;
use futures_core::Stream as _;
use http::Method;
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, ORIGIN,
};
use http::request::Parts;
use pmx_core::problem::Problem;
use pmx_streams::http::headers_of;
use pmx_streams::limits::STREAM_APPEND_BYTES_MAX;
use pmx_streams::policy::DEBUG_TIMING;
use worker::{ByteStream, web_sys};

use crate::head::{Names, picked};
use crate::http::{announced_body, discard, within};

/// The reader of a head, which determines the headers that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadReader {
    /// The edge: access and CORS.
    Edge,
    /// The object of a stream.
    Stream,
    /// The hub.
    Hub,
}

thread_local! {
    static EDGE: Names = Names::new(of_edge);
    static STREAM: Names = Names::new(of_stream);
    static HUB: Names = Names::new(of_hub);
}

/// The head of a request, with the headers that its reader needs.
pub(crate) fn head(request: &web_sys::Request, reader: HeadReader) -> Result<Parts, Problem> {
    let names = match reader {
        HeadReader::Edge => &EDGE,
        HeadReader::Stream => &STREAM,
        HeadReader::Hub => &HUB,
    };
    names.with(|names| picked(request, names))
}

fn of_edge(method: &Method) -> Vec<HeaderName> {
    let mut names = vec![ORIGIN, AUTHORIZATION];
    if method == Method::OPTIONS {
        names.push(ACCESS_CONTROL_REQUEST_METHOD);
    }
    if method == Method::PUT {
        // A fork needs read access to its source.
        names.push(HeaderName::from_static("stream-forked-from"));
    }
    names
}

fn of_stream(method: &Method) -> Vec<HeaderName> {
    let known = headers_of(method).iter().copied();
    let mut names = vec![ORIGIN, DEBUG_TIMING, CONTENT_LENGTH];
    names.extend(known.map(HeaderName::from_static));
    names
}

fn of_hub(_: &Method) -> Vec<HeaderName> {
    vec![ORIGIN, AUTHORIZATION, HOST]
}

/// A request to an object. The shim has read a short body already: that costs less in JavaScript,
/// which waits without a future.
pub(crate) struct ObjectRequest {
    pub(crate) request: web_sys::Request,
    pub(crate) body: Option<Bytes>,
}

impl ObjectRequest {
    /// The body, of at most `limit` bytes.
    pub(crate) async fn body(
        &self,
        announced: Option<u64>,
        limit: usize,
    ) -> Result<Bytes, Problem> {
        match &self.body {
            Some(body) => within(body.clone(), limit),
            None => announced_body(&self.request, announced, limit).await,
        }
    }

    /// Cancels the body.
    pub(crate) fn discard(&self) {
        if self.body.is_none() {
            discard(&self.request);
        }
    }

    /// Reads and drops the body of a refused request: a client that still sends would not read the
    /// response. It reads at most the size of an append. It holds one chunk at a time, because a
    /// refused body has no share of the memory.
    pub(crate) async fn drain(&self) {
        let unread = self.body.is_none().then(|| self.request.body());
        let Some(stream) = unread.flatten() else {
            return;
        };
        let mut stream = pin!(ByteStream::from(stream));
        let mut left = STREAM_APPEND_BYTES_MAX;
        while let Some(Ok(chunk)) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                // Dropping the stream cancels it.
                None => return,
            }
        }
    }
}
