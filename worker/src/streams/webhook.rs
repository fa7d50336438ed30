//! Webhook delivery by `fetch`.

use std::pin::pin;

use bytes::Bytes;
use futures_core::Stream as _;
use http::HeaderName;
use pmx_streams::limits::WEBHOOK_ANSWER_BYTES_MAX;
use pmx_streams::subscription::{EffectOutcome, WebhookUrl};
use worker::js_sys::Uint8Array;
use worker::{
    AbortController, Fetch, Headers, Method, Request, RequestInit, RequestRedirect, Response,
};

use super::notify::timeout;

/// A webhook to a worker.
pub(super) struct Webhook {
    pub(super) url: WebhookUrl,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Bytes,
    pub(super) timeout: std::time::Duration,
}

impl Webhook {
    /// Sends the webhook without following redirects, and reads the beginning of the response.
    pub(super) async fn send(&self) -> EffectOutcome {
        let controller = AbortController::default();
        let signal = controller.signal();
        let sent = async {
            let request = Fetch::Request(self.request()?);
            outcome(request.send_with_signal(&signal).await?).await
        };
        match timeout(self.timeout, sent).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => EffectOutcome::Failed,
            None => {
                controller.abort();
                EffectOutcome::Failed
            }
        }
    }

    fn request(&self) -> worker::Result<Request> {
        let headers = Headers::new();
        for (name, value) in &self.headers {
            headers.append(name.as_str(), value)?;
        }
        headers.append("user-agent", concat!("pmx/", env!("CARGO_PKG_VERSION")))?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post)
            .with_headers(headers)
            .with_redirect(RequestRedirect::Manual)
            .with_body(Some(Uint8Array::from(&*self.body).into()));
        Request::new_with_init(self.url.as_str(), &init)
    }
}

async fn outcome(mut answer: Response) -> worker::Result<EffectOutcome> {
    let status = answer.status_code();
    let mut body = Vec::new();
    if let Ok(stream) = answer.stream() {
        let mut stream = pin!(stream);
        while body.len() < WEBHOOK_ANSWER_BYTES_MAX {
            let next = std::future::poll_fn(|context| stream.as_mut().poll_next(context));
            match next.await {
                Some(chunk) => body.extend_from_slice(&chunk?),
                None => break,
            }
        }
    }
    body.truncate(WEBHOOK_ANSWER_BYTES_MAX);
    let body = body.into();
    Ok(EffectOutcome::Answered { status, body })
}
