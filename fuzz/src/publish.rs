//! Publish bodies: packs, parts and envelopes.

use bytes::Bytes;
use pmx_core::codec::{Decoder, Encoder, Level};
use pmx_core::limits::PART_BYTES;
use pmx_sync::limits::BLOB_BYTES_MAX;
use pmx_sync::pack::part::{self, Arrived, BlobParts, Part};
use pmx_sync::pack::{stored, wire};
use pmx_sync::wire::Envelope;

/// An accepted pack can be stored, and its stored form is complete.
pub(crate) fn pack(bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let Ok(pack) = wire::verify(bytes, &mut decoder) else {
        return;
    };
    let ids: Vec<_> = pack.blobs().map(|blob| blob.id()).collect();
    let object = pack.rest(&mut Encoder::new(), Level::STORED);
    let toc = stored::open_object(&object.bytes).expect("an object opens that was just made");
    assert!(toc.entries().iter().map(|entry| entry.blob).eq(ids));
    for entry in toc.entries() {
        let stored = entry
            .slice(&object.bytes)
            .expect("entries lie in their object");
        stored::verify_at_rest(stored, entry, &mut decoder).expect("what rests is what arrived");
    }
}

/// An accepted part has the length that its head announces. Its copies stay within their bounds.
pub(crate) fn part(bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let Some(part) = announced_part(bytes) else {
        return;
    };
    match part::open(bytes, part, &mut decoder) {
        Ok(Arrived::Whole(verified)) => {
            assert!(verified.raw().len() as u64 == part.len());
            let rest = verified.rest(&mut Encoder::new(), Level::STORED);
            assert!(rest.bytes.len() as u64 <= part.len());
        }
        Ok(Arrived::Pending(mut pending)) => {
            let source = 0..4 * PART_BYTES;
            let needs = pending.needs(source.clone());
            assert!(source.start <= needs.start && needs.end <= source.end);
            let kind = pmx_sync::pack::PackKind::Stored;
            pending.fill(0, &[0; 4096], kind);
            // Zeros rarely match the sender's hash.
            let _refused = pending.finish();
        }
        Err(_) => {}
    }
}

/// The last part of a blob, with the length that the head announces.
fn announced_part(bytes: &[u8]) -> Option<Part> {
    let mut reader = pmx_core::encode::ByteReader::new(bytes.get(6..)?);
    let len = reader.varint().ok()?;
    let size = PART_BYTES.checked_add(len)?;
    if len > PART_BYTES || size > BLOB_BYTES_MAX {
        return None;
    }
    BlobParts::of(size).ok()?.part(1).ok()
}

/// A decoded envelope has the same meaning after it is encoded again.
pub(crate) fn envelope(bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let body = Bytes::copy_from_slice(bytes);
    let Ok(envelope) = Envelope::decode(&body, SECTION_BYTES_MAX, &mut decoder) else {
        return;
    };
    let again = Bytes::from(envelope.encode(&mut Encoder::new()));
    let again = Envelope::decode(&again, SECTION_BYTES_MAX, &mut decoder);
    assert!(
        again.is_ok_and(|again| again == envelope),
        "an envelope changes when it is written"
    );
}

const SECTION_BYTES_MAX: usize = 1024 * 1024;
