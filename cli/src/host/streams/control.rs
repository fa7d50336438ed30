//! HTTP handler of subscriptions: answers requests to reserved addresses.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use hyper::body::Incoming;
use pmx_streams::http::{Listing, answer, listed};
use pmx_streams::limits::SUBSCRIPTION_BODY_BYTES_MAX;
use pmx_streams::subscription::{self, http as subscriptions};

use super::Streams;
use super::answer::broken_off;
use super::savepoint::Savepoints;
use super::transaction::Transaction;
use crate::host::front::scheme_of;
use crate::host::request_body;

impl Streams {
    /// Answers a request to a reserved address. `path` is what stands behind the root of streams.
    pub(super) async fn control(
        &self,
        head: &Parts,
        path: &str,
        mut body: Incoming,
    ) -> Response<Bytes> {
        let (settings, now) = (&self.config.settings, crate::host::now());
        if let Some(answer) = subscriptions::turned_away(settings, head, path, now) {
            request_body::drain(head, body);
            return answer;
        }
        let (limit, mut share) = (SUBSCRIPTION_BODY_BYTES_MAX, self.body_budget.share());
        match request_body::receive(head, &mut body, limit, &mut share).await {
            Ok(body) => subscriptions::answer(self.called(head, path, &body).await),
            Err(problem) => {
                request_body::drain(head, body);
                broken_off(&problem)
            }
        }
    }

    /// Answers an operator who wants to know which streams there are.
    pub(super) async fn list(&self, head: &Parts, body: Incoming) -> Response<Bytes> {
        request_body::drain(head, body);
        let now = crate::host::now();
        let listing = match Listing::admitted(&self.config.settings, head, now) {
            Ok(listing) => listing,
            Err(answer) => return answer,
        };
        let readers = Arc::clone(&self.readers);
        let found = self.run_blocking(move || readers.list(&listing, now));
        match found.await {
            Ok((streams, next)) => listed(&streams, next.as_ref()),
            Err(refusal) => answer::refused(&refusal),
        }
    }

    async fn called(
        &self,
        head: &Parts,
        path: &str,
        body: &Bytes,
    ) -> Result<subscription::Answer, subscription::Refusal> {
        let root = subscriptions::root(head, scheme_of(head), self.config.url.as_deref())?;
        let claimable =
            subscriptions::claimable(&self.config.settings, head, path, crate::host::now())?;
        let context = subscriptions::RequestContext {
            root: &root,
            policy: self.config.webhooks,
            own: None,
            claimable: &claimable,
        };
        let call = subscriptions::parse(&head.method, path, &head.headers, body, &context)?;
        // Whatever refuses has changed nothing, so the turn itself is well.
        let work = move |turn: &Transaction<'_, Savepoints<'_>>| Ok(turn.subscription(&call));
        let answered = self.writer.transact(body.len(), work, |_| ()).await;
        answered.unwrap_or_else(|refusal| {
            let error = pmx_core::sql::SqlError(refusal.to_string());
            Err(subscription::Refusal::Storage(error))
        })
    }
}
