//! Runtime ports: request bodies, the clock and randomness.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Bytes;
use futures_core::Stream;
use http::header::CONTENT_LENGTH;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use worker::js_sys::{Date, Math, Uint8Array};
use worker::wasm_bindgen::JsValue;
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen_futures::JsFuture;
use worker::{ByteStream, Request, web_sys};

use crate::js_error::{problem, words};

/// The body of a request of at most `limit` bytes.
pub(crate) async fn body(request: &Request, limit: usize) -> Result<Bytes, Problem> {
    let length = request.headers().get(CONTENT_LENGTH.as_str());
    let announced = length.ok().flatten().and_then(|text| text.parse().ok());
    announced_body(request.inner(), announced, limit).await
}

/// Reads the body of a request whose head is known.
pub(crate) async fn announced_body(
    request: &web_sys::Request,
    announced: Option<u64>,
    limit: usize,
) -> Result<Bytes, Problem> {
    let announced = usize::try_from(announced.unwrap_or(0)).unwrap_or(usize::MAX);
    if announced > limit {
        discard(request);
        return Err(too_large(announced, limit));
    }
    if (1..=WHOLE_BYTES_MAX).contains(&announced) {
        return within(whole(request).await?, limit);
    }
    let Some(stream) = request.body() else {
        return Ok(Bytes::new());
    };
    let mut bytes = Vec::with_capacity(announced);
    let mut stream = pin!(ByteStream::from(stream));
    while let Some(chunk) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
        let chunk = chunk.map_err(problem("reading the body of the request"))?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit {
            // Dropping the stream cancels it.
            return Err(too_large(bytes.len(), limit));
        }
    }
    Ok(bytes.into())
}

/// Returns a body that was read, if it has at most `limit` bytes.
pub(crate) fn within(body: Bytes, limit: usize) -> Result<Bytes, Problem> {
    match body.len() {
        length if length > limit => Err(too_large(length, limit)),
        _ => Ok(body),
    }
}

fn too_large(bytes: usize, limit: usize) -> Problem {
    let detail = format!("a body of {bytes} bytes or more, where {limit} are allowed");
    Problem::new(Code::TooLarge, detail)
}

/// Largest body that is cheaper to read whole than in chunks.
const WHOLE_BYTES_MAX: usize = 256 * 1024;

async fn whole(request: &web_sys::Request) -> Result<Bytes, Problem> {
    let failed = problem::<JsValue>;
    let doing = "reading the body of the request";
    let promise = request.array_buffer().map_err(failed(doing))?;
    let buffer = JsFuture::from(promise).await.map_err(failed(doing))?;
    Ok(Uint8Array::new(&buffer).to_vec().into())
}

/// The time.
#[expect(clippy::cast_sign_loss, reason = "it is after 1970")]
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(Date::now() as u64)
}

/// Cancels the rest of a request's body.
pub(crate) fn discard(request: &web_sys::Request) {
    if let Some(body) = request.body() {
        // The response names the failure; the result of the cancellation changes nothing.
        let _cancelled = body.cancel();
    }
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    let array = Uint8Array::new_with_length(N as u32);
    random_values(&array).map_err(|thrown| {
        let detail = format!("drawing randomness: {}", words(thrown));
        Problem::new(Code::Storage, detail)
    })?;
    array.copy_to(&mut bytes);
    Ok(bytes)
}

/// A random number, for jitter.
pub(crate) fn chance() -> u64 {
    // Below 2^53, where numbers are exact.
    #[expect(clippy::cast_sign_loss, reason = "it is between 0 and 1")]
    let number = (Math::random() * 9_007_199_254_740_992.0) as u64;
    number
}

#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues, catch)]
    fn random_values(array: &Uint8Array) -> Result<JsValue, JsValue>;
}
