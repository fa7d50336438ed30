//! Body decoding, as a browser does it.

use std::io::Read as _;

use flate2::read::GzDecoder;
use zstd_safe::DCtx;

use super::visit::ANSWER_BYTES_MAX;

/// Bytes before a delta's frame: its magic number and the SHA-256 of its base.
const DIFFERENCE_HEAD: usize = 40;

/// Decodes a body; `None` if it is invalid.
pub(super) fn decoded(coding: &str, body: &[u8]) -> Option<Vec<u8>> {
    match coding {
        "identity" => Some(body.to_vec()),
        "gzip" => whole(GzDecoder::new(body)),
        "br" => whole(brotli::Decompressor::new(body, 4096)),
        "zstd" => frame(body, &[]),
        _ => None,
    }
}

/// Decodes a delta to `old` (RFC 9842, section 5).
pub(super) fn behind(old: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    frame(body.get(DIFFERENCE_HEAD..)?, old)
}

fn whole(reader: impl std::io::Read) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    let read = reader.take(ANSWER_BYTES_MAX).read_to_end(&mut raw);
    read.ok().map(|_| raw)
}

/// Decodes a frame. Frames of an edge do not announce their content's length.
fn frame(body: &[u8], prefix: &[u8]) -> Option<Vec<u8>> {
    let mut context = DCtx::create();
    if !prefix.is_empty() {
        context.ref_prefix(prefix).ok()?;
    }
    let mut raw = vec![0; ANSWER_BYTES_MAX as usize];
    let written = context.decompress(&mut raw[..], body).ok()?;
    raw.truncate(written);
    Some(raw)
}
