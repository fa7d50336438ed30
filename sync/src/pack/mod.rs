//! Packs.

use crate::codec::{Bounds, CodecError, Decoder};
use crate::location::Codec;

/// Opens a frame at rest.
pub fn open_frame(
    bytes: &[u8],
    codec: Codec,
    raw: u64,
    decoder: &mut Decoder,
) -> Result<Vec<u8>, CodecError> {
    let _ = codec;
    decoder.frame(bytes, raw, Bounds::REST)
}
