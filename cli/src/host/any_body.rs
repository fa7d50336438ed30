//! Response body of any kind, behind one type: every handler of the host returns it to hyper.

use std::io;

use bytes::Bytes;
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

pub(crate) type AnyBody = UnsyncBoxBody<Bytes, io::Error>;

/// No bytes.
pub(crate) fn empty() -> AnyBody {
    full(Bytes::new())
}

/// Bytes in memory.
pub(crate) fn full(bytes: impl Into<Bytes>) -> AnyBody {
    let body = Full::new(bytes.into());
    stream(body.map_err(|never| match never {}))
}

/// Bytes that a body produces during the sending.
pub(crate) fn stream(body: impl Body<Data = Bytes, Error = io::Error> + Send + 'static) -> AnyBody {
    body.boxed_unsync()
}
