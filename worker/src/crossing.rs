//! Isolate RPC encoding: a value leaves this module's memory in one copy, and enters it in one.

use bytes::Bytes;
use pmx_core::crossing::{Crosses, Crossing};
use worker::js_sys::Uint8Array;
use worker::{Headers, Method, ObjectNamespace, Request, RequestInit, Response, web_sys};

use crate::depth;
use crate::js_error::may_ask_again;
use crate::location::LocationHint;
use crate::op_counts::{self, OpKind};
use crate::retry::repeated;

/// Encodes a value outside of this module's memory.
pub(crate) fn encoded<T: Crosses>(value: T) -> worker::Result<Uint8Array> {
    let crossing = Crossing::of(value)?;
    let array = Uint8Array::new_with_length(crossing.bytes() as u32);
    let mut at = 0;
    for piece in crossing.pieces() {
        let end = at + piece.len() as u32;
        array.subarray(at, end).copy_from(piece);
        at = end;
    }
    Ok(array)
}

/// Encodes a value as a response.
pub(crate) fn response<T: Crosses>(value: T) -> worker::Result<Response> {
    let array = encoded(value)?;
    let response = web_sys::Response::new_with_opt_js_u8_array(Some(&array))?;
    Ok(Response::from(response))
}

/// An object that is called.
pub(crate) struct Callee<'a> {
    pub(crate) namespace: &'a ObjectNamespace,
    pub(crate) name: &'a str,
    /// A stub calls its object for any address. The object reads the caller's kind from the
    /// address.
    pub(crate) address: &'a str,
    /// Where the platform creates the object, if it does not exist yet.
    pub(crate) hint: Option<LocationHint>,
    /// Whether the call may be repeated.
    pub(crate) may_repeat: bool,
    /// The call depth of the called object.
    pub(crate) depth: usize,
}

impl Callee<'_> {
    /// Calls the object. Returns the status of its response and the body.
    pub(crate) async fn ask(&self, body: &Uint8Array) -> worker::Result<(u16, Bytes)> {
        let is_passing = |thrown: &worker::Error| self.may_repeat && may_ask_again(thrown);
        repeated(is_passing, async || self.ask_once(body).await).await
    }

    async fn ask_once(&self, body: &Uint8Array) -> worker::Result<(u16, Bytes)> {
        let mut init = RequestInit::new();
        init.with_method(Method::Post)
            .with_body(Some(body.clone().into()));
        if self.depth > 1 {
            let headers = Headers::new();
            headers.set(depth::HEADER, &self.depth.to_string())?;
            init.with_headers(headers);
        }
        let request = Request::new_with_init(self.address, &init)?;
        // A stub belongs to the current request, and may stay broken after a failure.
        let (namespace, name) = (self.namespace, self.name);
        let stub = match self.hint {
            Some(hint) => namespace.get_by_name_with_location_hint(name, hint.as_str())?,
            None => namespace.get_by_name(name)?,
        };
        op_counts::note(OpKind::SpaceCall);
        let mut answer = stub.fetch_with_request(request).await?;
        Ok((answer.status_code(), answer.bytes().await?.into()))
    }
}
