//! HTTP handler of subscriptions: answers requests to reserved addresses.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use hyper::body::Incoming;
use pmx_streams::http::{ListRequest, answer, listed};
use pmx_streams::limits::SUBSCRIPTION_BODY_BYTES_MAX;
use pmx_streams::subscription::{self, http as subscriptions};

use super::Streams;
use super::answer::closing_problem;
use super::savepoint::Savepoints;
use super::transaction::Transaction;
use crate::host::admission::scheme_of;
use crate::host::request_body;

impl Streams {
    /// Answers a request to a reserved address. `path` is the path without the streams' base path.
    pub(super) async fn control(
        &self,
        head: &Parts,
        path: &str,
        mut body: Incoming,
    ) -> Response<Bytes> {
        let (settings, now) = (&self.config.settings, crate::host::now());
        if let Some(answer) = subscriptions::early_response(settings, head, path, now) {
            request_body::drain(head, body);
            return answer;
        }
        let (limit, mut share) = (SUBSCRIPTION_BODY_BYTES_MAX, self.body_budget.share());
        match request_body::receive(head, &mut body, limit, &mut share).await {
            Ok(body) => subscriptions::respond(self.handle_subscription(head, path, &body).await),
            Err(problem) => {
                request_body::drain(head, body);
                closing_problem(&problem)
            }
        }
    }

    /// Lists the streams for an operator.
    pub(super) async fn list(&self, head: &Parts, body: Incoming) -> Response<Bytes> {
        request_body::drain(head, body);
        let now = crate::host::now();
        let listing = match ListRequest::admitted(&self.config.settings, head, now) {
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

    async fn handle_subscription(
        &self,
        head: &Parts,
        path: &str,
        body: &Bytes,
    ) -> Result<subscription::SubscriptionResponse, subscription::SubscriptionRefusal> {
        let base_url = subscriptions::base_url(head, scheme_of(head), self.config.url.as_deref())?;
        let claimable =
            subscriptions::claimable(&self.config.settings, head, path, crate::host::now())?;
        let context = subscriptions::RequestContext {
            base_url: &base_url,
            policy: self.config.webhooks,
            own_domain: None,
            claimable: &claimable,
        };
        let request = subscriptions::parse(&head.method, path, &head.headers, body, &context)?;
        // A refusal has changed nothing, so the transaction commits.
        let work = move |it: &Transaction<'_, Savepoints<'_>>| Ok(it.subscription(&request));
        let handled = self.writer.transact(body.len(), work, |_| ()).await;
        handled.unwrap_or_else(|refusal| {
            let error = pmx_core::sql::SqlError(refusal.to_string());
            Err(subscription::SubscriptionRefusal::Storage(error))
        })
    }
}
