//! Stream responses, in the runtime's types.

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

/// The body of a response.
pub(crate) enum AnswerBody {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A stream of bytes.
    Stream(ReadableStream),
}

/// Builds a response. It has no body for HEAD, or if it is empty and has no media type.
pub(crate) fn response(answer: Answer<AnswerBody>, method: &Method) -> Result<Response, Problem> {
    let (head, body) = parts(answer, method);
    built(&head, body)
}

/// The same for callers that return it to JavaScript: one call of the runtime builds it.
pub(crate) fn sent(
    answer: Answer<AnswerBody>,
    method: &Method,
) -> Result<web_sys::Response, Problem> {
    let (head, body) = parts(answer, method);
    let body = match body {
        ResponseBody::Empty => JsValue::NULL,
        ResponseBody::Body(bytes) => Uint8Array::from(&*bytes).into(),
        ResponseBody::Stream(stream) => stream.into(),
    };
    answered(head.status, &head.headers, &body)
}

fn parts(answer: Answer<AnswerBody>, method: &Method) -> (Parts, ResponseBody) {
    let (head, body) = answer.into_parts();
    let typed = head.headers.contains_key(CONTENT_TYPE);
    let body = match body {
        _ if method == Method::HEAD || is_bodiless(head.status) => ResponseBody::Empty,
        AnswerBody::Bytes(bytes) if bytes.is_empty() && !typed => ResponseBody::Empty,
        AnswerBody::Bytes(bytes) => {
            let marked = identify(head.status, &bytes, Audience::Stranger);
            ResponseBody::Body(marked.unwrap_or_else(|| bytes.into()))
        }
        AnswerBody::Stream(stream) => ResponseBody::Stream(stream),
    };
    (head, body)
}
