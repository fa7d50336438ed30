//! Counting requests: the edge counts those of clients, as far as one isolate sees them, and the
//! object of a stream those to it.

use std::cell::RefCell;

use bytes::Bytes;
use http::{Method, Response};
use pmx_streams::http::{Admitted, answer};
use pmx_streams::policy::{ClientId, Counted, Limiter, Per, Rates, Traffic};
use worker::web_sys;

use crate::http::now;

/// Counts the requests of clients, or those to a stream.
pub(crate) struct Limit(Option<RefCell<Limiter>>);

impl Limit {
    /// Nothing is counted where there is no rate.
    pub(crate) fn new(rates: Rates, per: Per) -> Self {
        Self(Limiter::of(rates, &[per]).map(RefCell::new))
    }

    /// The answer to a client that comes too often.
    pub(crate) fn of_client(
        &self,
        request: &web_sys::Request,
        method: &Method,
        admitted: &Admitted,
    ) -> Option<Response<Bytes>> {
        let limiter = self.0.as_ref()?;
        let client = admitted.who.client(|| address(request))?;
        let whose = [(Per::Client, client)];
        let counted = limiter
            .borrow_mut()
            .count(Traffic::of(method), &whose, now());
        answer::limited(&counted)
    }

    /// What is said of a request to the one stream of an object.
    pub(crate) fn of_stream(&self, method: &Method) -> Counted {
        let Some(limiter) = &self.0 else {
            return Counted::default();
        };
        let whose = [(Per::Stream, ClientId::of("stream", b""))];
        limiter
            .borrow_mut()
            .count(Traffic::of(method), &whose, now())
    }
}

/// Where a request comes from, as Cloudflare says: clients can't set this header.
fn address(request: &web_sys::Request) -> Option<ClientId> {
    let text = request.headers().get("cf-connecting-ip").ok().flatten()?;
    Some(match text.parse() {
        Ok(address) => ClientId::of_address(address),
        Err(_) => ClientId::of("address", text.as_bytes()),
    })
}
