//! Server timing on the Worker. Its clock advances only when data arrives from outside. So the
//! durations are those of waiting: for a body, for R2, for another object. Computation takes no
//! time on this clock.

use std::time::Duration;

use http::HeaderMap;
use pmx_core::time::Timestamp;
use pmx_streams::http::{LiveMode, StreamRequest};
use pmx_streams::policy::{TimedStep, Timing};
use worker::js_sys::Promise;
use worker::js_sys::futures::{JsFuture, future_to_promise};
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::web_sys;

use crate::http::now;

/// The step that a request waits for.
pub(super) const fn step(request: &StreamRequest) -> TimedStep {
    match request {
        StreamRequest::Create(_)
        | StreamRequest::Append(_)
        | StreamRequest::Delete
        | StreamRequest::Head => TimedStep::Transaction,
        StreamRequest::Get(get) => match get.live {
            LiveMode::CatchUp | LiveMode::Sse => TimedStep::Cold,
            LiveMode::LongPoll => TimedStep::Wait,
        },
    }
}

/// The time since `begun`.
pub(super) fn since(begun: Timestamp) -> Duration {
    let millis = now().as_millis().saturating_sub(begun.as_millis());
    Duration::from_millis(millis)
}

/// Adds the duration at the edge to the response of an object.
pub(super) fn add_header(answering: &JsValue, begun: Timestamp) -> JsValue {
    let answering = Promise::resolve(answering);
    let copying = async move {
        let answer = JsFuture::from(answering).await?;
        let answer: web_sys::Response = answer.unchecked_into();
        if answer.headers().has("content-encoding")? {
            // The runtime might encode a copy of an encoded body again.
            return Ok(answer.into());
        }
        let body = answer.body();
        let copy = web_sys::Response::new_with_opt_readable_stream_and_init(
            body.as_ref(),
            answer.unchecked_ref(),
        )?;
        let mut timing = Timing::default();
        timing.add(TimedStep::Edge, since(begun));
        let mut headers = HeaderMap::new();
        timing.write_headers(&mut headers);
        for (name, value) in &headers {
            let text = value.to_str().unwrap_or_default();
            copy.headers().append(name.as_str(), text)?;
        }
        Ok(copy.into())
    };
    future_to_promise(std::panic::AssertUnwindSafe(copying)).into()
}
