//! Network of one run of a publisher: records the deploy that the run meets first.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::Request;
use pmx_sync::wire::BeginReply;

use super::world::{Wire, World};
use pmx_sync::testing::client::{Broken, Network, WholeResponse};

/// The network of one run.
pub(crate) struct Run<'a> {
    wire: Wire,
    key: &'a str,
    is_first: Cell<bool>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(world: &Rc<World>, key: &'a str) -> Self {
        Self {
            wire: Wire(Rc::clone(world)),
            key,
            is_first: Cell::new(true),
        }
    }
}

impl Network for Run<'_> {
    async fn send(&self, request: Request<Bytes>) -> Result<WholeResponse, Broken> {
        let is_begin = request.uri().path() == "/api/publish/begin";
        let answer = self.wire.send(request).await?;
        if is_begin && answer.status.is_success() && self.is_first.replace(false) {
            let reply: BeginReply = serde_json::from_slice(&answer.body).unwrap();
            self.wire.0.account.met(self.key, &reply);
        }
        Ok(answer)
    }
}
