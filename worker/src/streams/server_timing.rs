//! Where the time of a request went. The clock of a Worker only goes on when something came from
//! outside, so what is told is the waiting: for a body, for R2, for another object. What the
//! processor did in the meantime takes no time there.

use std::time::Duration;

use http::HeaderMap;
use pmx_core::time::Timestamp;
use pmx_streams::http::{Call, Live};
use pmx_streams::policy::{Step, Timing};
use worker::js_sys::Promise;
use worker::js_sys::futures::{JsFuture, future_to_promise};
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::web_sys;

use crate::http::now;

/// What the time of a call is spent on, of what the clock can see.
pub(super) const fn step(call: &Call) -> Step {
    match call {
        Call::Create(_) | Call::Append(_) | Call::Delete | Call::Head => Step::Turn,
        Call::Get(get) => match get.live {
            Live::CatchUp | Live::Sse => Step::Cold,
            Live::LongPoll => Step::Wait,
        },
    }
}

/// How long it is since then.
pub(super) fn since(begun: Timestamp) -> Duration {
    let millis = now().as_millis().saturating_sub(begun.as_millis());
    Duration::from_millis(millis)
}

/// Says on the answer of an object how long the edge had to do with the request.
pub(super) fn add_header(answering: &JsValue, begun: Timestamp) -> JsValue {
    let answering = Promise::resolve(answering);
    let copying = async move {
        let answer = JsFuture::from(answering).await?;
        let answer: web_sys::Response = answer.unchecked_into();
        if answer.headers().has("content-encoding")? {
            // What is coded, a copy might code again.
            return Ok(answer.into());
        }
        let body = answer.body();
        let copy = web_sys::Response::new_with_opt_readable_stream_and_init(
            body.as_ref(),
            answer.unchecked_ref(),
        )?;
        let mut timing = Timing::default();
        timing.note(Step::Edge, since(begun));
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
