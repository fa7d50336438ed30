//! Pack builder: the sender collects blobs into packs, one pack after the other.

use pmx_core::codec::{Encoder, Level};
use pmx_core::encode::write_varint;
use pmx_core::id::PackId;

use super::{
    FLAG_ZSTD, FLAGS_WITH_PREFIX, MAGIC, PackError, Prefix, Reference, VERSION, check_count,
    check_raw, check_size, frame_if_smaller,
};
use crate::pack::PackCoding;

/// The bytes of a pack, ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WirePack {
    bytes: Vec<u8>,
}

impl WirePack {
    /// The name of the pack in its request; it makes repeated uploads harmless.
    pub fn id(&self) -> PackId {
        PackId::of(&self.bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the bytes, to store them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Collects blobs into packs, one pack after the other.
#[derive(Debug, Default)]
pub struct PackBuilder {
    raw: Vec<u8>,
    sizes: Vec<usize>,
}

impl PackBuilder {
    /// An empty pack.
    pub const fn new() -> Self {
        Self {
            raw: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Whether nothing was pushed since the last pack.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Appends a blob. If it does not fit, the builder refuses it, and the pack stays unchanged.
    pub fn push(&mut self, blob: &[u8]) -> Result<(), PackError> {
        check_size(blob.len() as u64)?;
        check_raw((self.raw.len() + blob.len()) as u64)?;
        check_count(self.sizes.len() as u64 + 1)?;
        self.raw.extend_from_slice(blob);
        self.sizes.push(blob.len());
        Ok(())
    }

    /// Lets `fill` append a blob directly to the pack's memory. If `fill` returns false, or the
    /// blob does not fit, the pack stays unchanged.
    pub fn append(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> Result<bool, PackError> {
        let start = self.raw.len();
        if !fill(&mut self.raw) {
            self.raw.truncate(start);
            return Ok(false);
        }
        let len = self.raw.len().saturating_sub(start);
        let checked = check_size(len as u64)
            .and_then(|()| check_raw(self.raw.len() as u64))
            .and_then(|()| check_count(self.sizes.len() as u64 + 1));
        match checked {
            Ok(()) => self.sizes.push(len),
            Err(_) => self.raw.truncate(start),
        }
        checked.map(|()| true)
    }

    /// Completes the pack, and starts another in the same memory. A pack that zstd cannot shrink is
    /// stored. Without a blob there is no pack.
    pub fn finish(&mut self, encoder: &mut Encoder, coding: PackCoding) -> Option<WirePack> {
        let pack = self.plain(encoder, coding);
        self.clear();
        pack
    }

    /// Builds the current pack like [`Self::finish`], but keeps its blobs.
    pub fn plain(&self, encoder: &mut Encoder, coding: PackCoding) -> Option<WirePack> {
        if self.is_empty() {
            return None;
        }
        let frame = frame_if_smaller(&self.raw, encoder, coding);
        let flags = if frame.is_some() { FLAG_ZSTD } else { 0 };
        Some(self.sealed(flags, None, frame.as_deref()))
    }

    /// Builds the current pack against blobs that the receiver has. A pack without blobs, or with
    /// only empty ones, gives `None`.
    pub fn build_with_prefix(
        &self,
        prefix: &Prefix,
        encoder: &mut Encoder,
        level: Level,
    ) -> Option<WirePack> {
        if self.raw.is_empty() || prefix.is_empty() {
            return None;
        }
        let frame = encoder.compress_with_prefix(&prefix.raw, &self.raw, level);
        Some(self.sealed(FLAGS_WITH_PREFIX, Some(prefix.reference()), Some(&frame)))
    }

    /// Raw bytes of its blobs.
    pub const fn raw_bytes(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Starts another pack in the same memory.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.sizes.clear();
    }

    fn sealed(&self, flags: u8, reference: Option<&Reference>, frame: Option<&[u8]>) -> WirePack {
        let body = frame.unwrap_or(&self.raw);
        let head = 64 + 4 * self.sizes.len();
        let mut bytes = Vec::with_capacity(head + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.push(flags);
        write_varint(&mut bytes, self.sizes.len() as u64);
        for size in &self.sizes {
            write_varint(&mut bytes, *size as u64);
        }
        if let Some(reference) = reference {
            reference.write(&mut bytes);
        }
        bytes.extend_from_slice(body);
        WirePack { bytes }
    }
}
