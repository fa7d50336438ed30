//! Requests to streams, read by name: each look at a header costs, and only few count.

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
        // A client that forks must be allowed to read the source.
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

/// A request to an object, and its body where the shim has read it: one that is short costs less
/// to read in JavaScript, which waits for it without a future.
pub(crate) struct Incoming {
    pub(crate) request: web_sys::Request,
    pub(crate) body: Option<Bytes>,
}

impl Incoming {
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

    /// Sends word that no one will read the body.
    pub(crate) fn discard(&self) {
        if self.body.is_none() {
            discard(&self.request);
        }
    }

    /// Reads the body of a request that is refused: a client that still sends would never see why.
    /// Of a body without end it reads what an append may have. It keeps one chunk at a time,
    /// because a refused body has no room.
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
                // Letting go of the stream cancels it.
                None => return,
            }
        }
    }
}
