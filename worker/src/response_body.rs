//! Response bodies: bytes in memory, or objects that the runtime streams from R2.
//!
//! A body that R2 stores in the client's coding never enters this module's memory. The runtime
//! sends it, one object after the other for a big body. Only bodies that the server decodes do.

use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_ENCODING;
use http::response::Parts;
use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::codec::Decoder;
use pmx_core::incident;
use pmx_core::incident::{Audience, incident_id};
use pmx_core::problem::{PROBLEM_MEDIA, Problem};
use pmx_sync::serve::{Backend, Body, BodyRange, Open, Server, keep_as_sent};
use worker::js_sys::{BigInt, Function, Object, Promise, Reflect, Uint8Array};
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::wasm_bindgen_futures::{JsFuture, spawn_local};
use worker::web_sys::{ReadableStream, WritableStream};
use worker::worker_sys::FixedLengthStream;
use worker::{EncodeBody, Response, ResponseBody, ResponseBuilder, console_error, console_log};

use crate::access_log;
use crate::head::headers;
use crate::http::{now, random};
use crate::isolate::Cloudflare;
use crate::js_error::problem as failure;

/// The server's answer as the runtime sends it.
pub(crate) async fn response(
    answer: http::Response<Body>,
    server: &Rc<Server<Cloudflare>>,
    audience: Audience,
) -> Result<Response, Problem> {
    let (mut head, body) = answer.into_parts();
    keep_as_sent(&mut head.headers);
    let body = identified(head.status, body, audience);
    let body = match body {
        _ if is_bodiless(head.status) => ResponseBody::Empty,
        Body::Empty => ResponseBody::Empty,
        Body::Bytes(bytes) => ResponseBody::Body(bytes.into()),
        Body::Pieces(pieces) => pieces_body(Bytes::new(), pieces, server).await?,
        Body::Led(first, pieces) => pieces_body(first, pieces, server).await?,
    };
    built(&head, body)
}

/// Builds a response of the runtime. A body with a content coding is encoded already.
pub(crate) fn built(head: &Parts, body: ResponseBody) -> Result<Response, Problem> {
    let encode = if head.headers.contains_key(CONTENT_ENCODING) {
        EncodeBody::Manual
    } else {
        EncodeBody::Automatic
    };
    let builder = ResponseBuilder::new()
        .with_status(head.status.as_u16())
        .with_headers(headers(&head.headers)?)
        .with_encode_body(encode);
    Ok(builder.body(body))
}

/// The response to a failure before or instead of the server's response.
pub(crate) fn problem(problem: &Problem, method: &str) -> worker::Result<Response> {
    let body = if method == "HEAD" {
        ResponseBody::Empty
    } else {
        let body = serde_json::to_vec(problem)?;
        let status = StatusCode::from_u16(problem.status).unwrap_or_default();
        ResponseBody::Body(identify(status, &body, Audience::Stranger).unwrap_or(body))
    };
    let builder = ResponseBuilder::new()
        .with_status(problem.status)
        .with_header("content-type", PROBLEM_MEDIA)?
        .with_header("cache-control", "no-store")?
        .with_header("x-content-type-options", "nosniff")?;
    let builder = match problem.code.retry_after() {
        Some(seconds) => builder.with_header("retry-after", seconds)?,
        None => builder,
    };
    Ok(builder.body(body))
}

/// Adds an id to an error response, and logs the cause. `None` if the response is no error.
pub(crate) fn identify(status: StatusCode, body: &[u8], audience: Audience) -> Option<Vec<u8>> {
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let id = incident_id(random().unwrap_or_default());
    let incident = incident::identify(status.as_u16(), body, &id, audience)?;
    let cause = incident.cause.as_deref();
    console_log!("{}", access_log::incident(&id, status.as_u16(), cause));
    Some(incident.body)
}

fn identified(status: StatusCode, body: Body, audience: Audience) -> Body {
    match body {
        Body::Bytes(bytes) => match identify(status, &bytes, audience) {
            Some(marked) => Body::Bytes(marked.into()),
            None => Body::Bytes(bytes),
        },
        Body::Empty | Body::Pieces(_) | Body::Led(..) => body,
    }
}

/// Statuses for which the runtime throws if there is a body, even an empty one.
pub(crate) const fn is_bodiless(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

async fn pieces_body(
    first: Bytes,
    pieces: Vec<BodyRange>,
    server: &Rc<Server<Cloudflare>>,
) -> Result<ResponseBody, Problem> {
    if let ([], [piece]) = (&*first, pieces.as_slice()) {
        return match &piece.open {
            Open::AsIs => stream(piece, server).await,
            Open::Decode { .. } => {
                let bytes = opened(piece, server).await?;
                Ok(ResponseBody::Body(bytes.into()))
            }
        };
    }
    let length = first.len() as u64 + pieces.iter().map(kept).sum::<u64>();
    let pipe = FixedLengthStream::new_big_int(BigInt::from(length));
    let pipe = pipe.map_err(failure("making a stream"))?;
    let (readable, sink) = (pipe.readable(), pipe.writable());
    let server = Rc::clone(server);
    spawn_local(async move {
        // The head is sent already; the only remaining signal is a truncated body.
        if let Err(problem) = feed(&first, &pieces, &sink, &server).await {
            console_error!("{problem}");
            let _aborted = sink.abort_with_reason(&JsValue::from_str(&problem.detail));
        }
    });
    Ok(ResponseBody::Stream(readable))
}

/// The length of the body that a piece becomes.
fn kept(piece: &BodyRange) -> u64 {
    let range = match &piece.open {
        Open::AsIs => &piece.range,
        Open::Decode { keep, .. } => keep,
    };
    range.end.saturating_sub(range.start)
}

async fn feed(
    first: &[u8],
    pieces: &[BodyRange],
    sink: &WritableStream,
    server: &Server<Cloudflare>,
) -> Result<(), Problem> {
    if !first.is_empty() {
        let written = write(first, sink).await;
        written.map_err(failure("sending a page's beginning"))?;
    }
    for piece in pieces {
        server.verify(piece, now()).await?;
        match &piece.open {
            Open::AsIs => match stream(piece, server).await? {
                ResponseBody::Stream(source) => pipe(&source, sink).await,
                ResponseBody::Body(bytes) => write(&bytes, sink).await,
                ResponseBody::Empty => Ok(()),
            },
            Open::Decode { .. } => write(&opened(piece, server).await?, sink).await,
        }
        .map_err(failure(format!("sending {}", piece.key)))?;
    }
    let closed = JsFuture::from(sink.close()).await;
    closed.map(drop).map_err(failure("ending a body"))
}

async fn stream(piece: &BodyRange, server: &Server<Cloudflare>) -> Result<ResponseBody, Problem> {
    let found = server.backend().blobs().stream(piece.key, &piece.range);
    found.await?.ok_or_else(|| missing(piece.key))
}

async fn opened(piece: &BodyRange, server: &Server<Cloudflare>) -> Result<Bytes, Problem> {
    let blobs = server.backend().blobs();
    let stored = blobs.read(piece.key, piece.range.clone()).await?;
    let stored = stored.ok_or_else(|| missing(piece.key))?;
    let opened = piece.open(stored, &mut Decoder::new());
    opened.map_err(|error| {
        let detail = format!("decoding a blob in {}: {error}", piece.key);
        Problem::new(Code::Corrupt, detail)
    })
}

/// Lets the runtime move all bytes of a stream, and leaves the sink open for the next.
async fn pipe(source: &ReadableStream, sink: &WritableStream) -> Result<(), JsValue> {
    let options = Object::new();
    Reflect::set(&options, &"preventClose".into(), &JsValue::TRUE)?;
    let pipe_to = Reflect::get(source, &"pipeTo".into())?.dyn_into::<Function>()?;
    let done = pipe_to
        .call2(source, sink, &options)?
        .dyn_into::<Promise>()?;
    JsFuture::from(done).await.map(drop)
}

async fn write(bytes: &[u8], sink: &WritableStream) -> Result<(), JsValue> {
    let writer = sink.get_writer()?;
    let written = JsFuture::from(writer.write_with_chunk(&Uint8Array::from(bytes))).await;
    writer.release_lock();
    written.map(drop)
}

fn missing(key: ObjectKey) -> Problem {
    let detail = format!("object {key} is missing or too short");
    Problem::new(Code::Corrupt, detail)
}
