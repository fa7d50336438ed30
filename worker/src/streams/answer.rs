//! Answers of streams as the runtime sends them.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http::{Method, Response as Answer};
use pmx_core::incident::Audience;
use pmx_core::problem::Problem;
use worker::js_sys::Uint8Array;
use worker::wasm_bindgen::JsValue;
use worker::web_sys::ReadableStream;
use worker::{Response, ResponseBody, web_sys};

use crate::head::answered;
use crate::response_body::{built, identify, is_bodiless};

/// What follows the head of an answer.
pub(crate) enum Body {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes as they come.
    Stream(ReadableStream),
}

/// Puts an answer together. HEAD never has a body, nor has what has no type.
pub(crate) fn response(answer: Answer<Body>, method: &Method) -> Result<Response, Problem> {
    let (head, body) = parts(answer, method);
    built(&head, body)
}

/// The same for callers that hand it straight to the runtime: one call makes it.
pub(crate) fn sent(answer: Answer<Body>, method: &Method) -> Result<web_sys::Response, Problem> {
    let (head, body) = parts(answer, method);
    let body = match body {
        ResponseBody::Empty => JsValue::NULL,
        ResponseBody::Body(bytes) => Uint8Array::from(&*bytes).into(),
        ResponseBody::Stream(stream) => stream.into(),
    };
    answered(head.status, &head.headers, &body)
}

fn parts(answer: Answer<Body>, method: &Method) -> (Parts, ResponseBody) {
    let (head, body) = answer.into_parts();
    let typed = head.headers.contains_key(CONTENT_TYPE);
    let body = match body {
        _ if method == Method::HEAD || is_bodiless(head.status) => ResponseBody::Empty,
        Body::Bytes(bytes) if bytes.is_empty() && !typed => ResponseBody::Empty,
        Body::Bytes(bytes) => {
            let marked = identify(head.status, &bytes, Audience::Stranger);
            ResponseBody::Body(marked.unwrap_or_else(|| bytes.into()))
        }
        Body::Stream(stream) => ResponseBody::Stream(stream),
    };
    (head, body)
}
