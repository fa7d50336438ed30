//! Envelope: the body of a publish request, a JSON head and binary sections.
//!
//! ```text
//! envelope = varint head length, head (JSON), section*
//! section  = 1 byte kind, 1 byte codec, varint raw length, [varint length if zstd], bytes
//! kind     = 1 patch | 2 outline | 3 nodes | 4 pack | 5 packs
//! codec    = 0 stored | 1 one zstd frame
//! ```
//!
//! Each kind appears at most once, in the order of their numbers.

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::codec::{Bounds, CodecError, Decoder, Encoder, Level};
use pmx_core::encode::{ByteReader, Malformed, write_bytes, write_varint};
use pmx_core::limits::SECTION_RAW_BYTES_MAX;
use thiserror::Error;

use crate::limits::HEAD_BYTES_MAX;

/// Kind of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SectionKind {
    /// A patch against the base.
    Patch,
    /// The ids of all nodes of the manifest, 32 bytes each, a node before its children.
    Outline,
    /// Nodes, each with its length before it, a node before its children.
    Nodes,
    /// A wire pack.
    Pack,
    /// The ids of arrived packs, 32 bytes each: a patch references their blobs in this order.
    Packs,
}

impl SectionKind {
    const fn tag(self) -> u8 {
        match self {
            Self::Patch => 1,
            Self::Outline => 2,
            Self::Nodes => 3,
            Self::Pack => 4,
            Self::Packs => 5,
        }
    }

    const fn from_tag(tag: u8) -> Result<Self, Malformed> {
        Ok(match tag {
            1 => Self::Patch,
            2 => Self::Outline,
            3 => Self::Nodes,
            4 => Self::Pack,
            5 => Self::Packs,
            _ => {
                return Err(Malformed::Unknown {
                    what: "section",
                    value: tag as u64,
                });
            }
        })
    }
}

/// A section of an envelope, uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The kind.
    pub kind: SectionKind,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A head and its sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// JSON.
    pub head: Bytes,
    /// Sections in the order of their kinds.
    pub sections: Vec<Section>,
}

/// Sections shorter than this are not worth a zstd frame.
const COMPRESS_ABOVE: usize = 256;

impl Envelope {
    /// Encodes the envelope, and compresses sections that shrink.
    pub fn encode(&self, encoder: &mut Encoder) -> Vec<u8> {
        let mut out = Vec::new();
        write_bytes(&mut out, &self.head);
        for section in &self.sections {
            out.push(section.kind.tag());
            let packed = match section.kind {
                // Ids are incompressible, and a pack is already compressed.
                SectionKind::Outline | SectionKind::Pack | SectionKind::Packs => None,
                SectionKind::Patch | SectionKind::Nodes => shrunk(&section.bytes, encoder),
            };
            out.push(u8::from(packed.is_some()));
            write_varint(&mut out, section.bytes.len() as u64);
            match packed {
                Some(frame) => write_bytes(&mut out, &frame),
                None => out.extend_from_slice(&section.bytes),
            }
        }
        out
    }

    /// Decodes an envelope and its sections, each of at most `section_max` bytes.
    pub fn decode(
        body: &Bytes,
        section_max: usize,
        decoder: &mut Decoder,
    ) -> Result<Self, EnvelopeError> {
        let section_max = section_max.min(SECTION_RAW_BYTES_MAX) as u64;
        let mut reader = ByteReader::new(body);
        let head = reader.bytes(HEAD_BYTES_MAX, "the head's length")?;
        let mut envelope = Self {
            head: body.slice_ref(head),
            sections: Vec::new(),
        };
        while reader.remaining() > 0 {
            let kind = SectionKind::from_tag(reader.byte()?)?;
            if envelope
                .sections
                .last()
                .is_some_and(|before| before.kind >= kind)
            {
                return Err(Malformed::NotCanonical("sections are out of order").into());
            }
            let codec = reader.byte()?;
            let raw = reader.varint_up_to(section_max, "a section's length")?;
            let bytes = match codec {
                0 => body.slice_ref(reader.take(raw as usize)?),
                1 => {
                    let frame = reader.bytes(body.len(), "a section's compressed length")?;
                    decoder.frame(frame, raw, Bounds::SECTION)?.into()
                }
                value => {
                    let value = value.into();
                    return Err(Malformed::Unknown {
                        what: "section codec",
                        value,
                    }
                    .into());
                }
            };
            envelope.sections.push(Section { kind, bytes });
        }
        Ok(envelope)
    }

    /// The bytes of one section.
    pub fn section(&self, kind: SectionKind) -> Option<&Bytes> {
        self.sections
            .iter()
            .find(|section| section.kind == kind)
            .map(|section| &section.bytes)
    }
}

fn shrunk(bytes: &[u8], encoder: &mut Encoder) -> Option<Vec<u8>> {
    if bytes.len() < COMPRESS_ABOVE {
        return None;
    }
    let frame = encoder.solid(bytes, Level::WIRE);
    (frame.len() + 8 < bytes.len()).then_some(frame)
}

/// A body is not an envelope.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// The layout is invalid.
    #[error("reading a request: {0}")]
    Malformed(#[from] Malformed),
    /// A compressed section is invalid.
    #[error("reading a request: {0}")]
    Codec(#[from] CodecError),
    /// The head is not the route's JSON.
    #[error("reading the head of a request: {0}")]
    Head(#[from] serde_json::Error),
}

impl EnvelopeError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed(Malformed::TooLarge { .. }) => Code::TooLarge,
            Self::Malformed(_) | Self::Head(_) => Code::RequestMalformed,
            Self::Codec(_) => Code::Compression,
        }
    }
}
