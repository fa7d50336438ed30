//! Bodies as a browser decodes them.

use std::io::Read as _;

use flate2::read::GzDecoder;
use zstd_safe::DCtx;

use super::visit::ANSWER_BYTES_MAX;

/// Bytes in front of a difference's frame: its magic number and the SHA-256 of what it starts from.
const DIFFERENCE_HEAD: usize = 40;

/// The bytes that a body stands for; nothing if it can't be decoded.
pub(super) fn decoded(coding: &str, body: &[u8]) -> Option<Vec<u8>> {
    match coding {
        "identity" => Some(body.to_vec()),
        "gzip" => whole(GzDecoder::new(body)),
        "br" => whole(brotli::Decompressor::new(body, 4096)),
        "zstd" => frame(body, &[]),
        _ => None,
    }
}

/// Decodes a difference to `old` (RFC 9842, section 5).
pub(super) fn behind(old: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    frame(body.get(DIFFERENCE_HEAD..)?, old)
}

fn whole(reader: impl std::io::Read) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    let read = reader.take(ANSWER_BYTES_MAX).read_to_end(&mut raw);
    read.ok().map(|_| raw)
}

/// An edge's own frames do not say how long their content is.
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
