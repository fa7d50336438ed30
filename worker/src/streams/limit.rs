//! Rate limits on the Worker. The edge counts the requests of clients, in each isolate. The object
//! of a stream counts the requests to it.

use std::cell::RefCell;

use bytes::Bytes;
use http::{Method, Response};
use pmx_streams::http::{Admitted, answer};
use pmx_streams::policy::{ClientId, Counted, Limiter, Per, RateClass, Rates};
use worker::web_sys;

use crate::http::now;

/// The limiter of clients, or of one stream.
pub(crate) struct Limit(Option<RefCell<Limiter>>);

impl Limit {
    /// A limiter. Without a rate, it counts nothing.
    pub(crate) fn new(rates: Rates, per: Per) -> Self {
        Self(Limiter::of(rates, &[per]).map(RefCell::new))
    }

    /// The response to a client that exceeds its rate.
    pub(crate) fn of_client(
        &self,
        request: &web_sys::Request,
        method: &Method,
        admitted: &Admitted,
    ) -> Option<Response<Bytes>> {
        let limiter = self.0.as_ref()?;
        let client = admitted.principal.client(|| address(request))?;
        let whose = [(Per::Client, client)];
        let counted = limiter
            .borrow_mut()
            .count(RateClass::of(method), &whose, now());
        answer::limited(&counted)
    }

    /// Counts a request to the object's stream.
    pub(crate) fn of_stream(&self, method: &Method) -> Counted {
        let Some(limiter) = &self.0 else {
            return Counted::default();
        };
        let whose = [(Per::Stream, ClientId::of("stream", b""))];
        limiter
            .borrow_mut()
            .count(RateClass::of(method), &whose, now())
    }
}

/// The client's address, from a header of Cloudflare that clients can't set.
fn address(request: &web_sys::Request) -> Option<ClientId> {
    let text = request.headers().get("cf-connecting-ip").ok().flatten()?;
    Some(match text.parse() {
        Ok(address) => ClientId::of_address(address),
        Err(_) => ClientId::of("address", text.as_bytes()),
    })
}
