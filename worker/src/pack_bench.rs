//! Pack benchmark: the cost of each step of receiving a pack. Only the build for the benches has
//! it. The bench measures from outside, because the Worker's clock stops while the module computes.

use pmx_core::codec::{Bounds, Decoder, Encoder, Level};
use pmx_sync::limits::REFERENCING_PACK_RAW_BYTES;
use pmx_sync::pack::wire;
use worker::{Request, Response};

use crate::http::body;

/// Answers `POST /measured/STEP/N`: runs that step N times. The body of `verify` and `rest` is a
/// pack. The body of `unpatch` is a prefix after its length in four bytes, then a frame.
pub(crate) async fn answer(request: &Request) -> Option<worker::Result<Response>> {
    let path = request.path();
    let asked = path.strip_prefix("/measured/")?;
    Some(measure(asked, request).await)
}

async fn measure(asked: &str, request: &Request) -> worker::Result<Response> {
    let failed = |why: String| worker::Error::RustError(why);
    let (step, times) = asked.split_once('/').unwrap_or_default();
    let times: u32 = times.parse().map_err(|_| failed("no number".to_owned()))?;
    let pack = body(request, pmx_sync::limits::BODY_BYTES_MAX).await;
    let pack = pack.map_err(|problem| failed(problem.detail))?;
    let (mut decoder, mut encoder) = (Decoder::new(), Encoder::new());
    if step == "unpatch" {
        return unpatch(&pack, times, &mut decoder);
    }
    let mut verify = || wire::verify(&pack, &mut decoder).map_err(|e| failed(e.to_string()));
    let mut stored = 0;
    match step {
        "verify" => {
            for _ in 0..times {
                stored += verify()?.count();
            }
        }
        "rest" => {
            let verified = verify()?;
            for _ in 0..times {
                let verified = verified.clone();
                stored += verified.rest(&mut encoder, Level::STORED).bytes.len();
            }
        }
        other => return Err(failed(format!("{other} is not measured"))),
    }
    Response::ok(stored.to_string())
}

fn unpatch(body: &[u8], times: u32, decoder: &mut Decoder) -> worker::Result<Response> {
    let failed = |why: &str| worker::Error::RustError(why.to_owned());
    let (length, rest) = body
        .split_first_chunk()
        .ok_or_else(|| failed("no prefix"))?;
    let parts = rest.split_at_checked(u32::from_le_bytes(*length) as usize);
    let (prefix, frame) = parts.ok_or_else(|| failed("no frame"))?;
    let mut raw = 0;
    for _ in 0..times {
        let decoded =
            decoder.decompress_with_prefix(prefix, frame, REFERENCING_PACK_RAW_BYTES, Bounds::WIRE);
        raw += decoded.map_err(|error| failed(&error.to_string()))?.len();
    }
    Response::ok(raw.to_string())
}
