//! Bodies of answers: bytes at hand, or pieces of objects that a platform streams as it can.

use std::ops::Range;

use bytes::Bytes;

use super::backend::ObjectKey;
use crate::codec::{Bounds, CodecError, Decoder};

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// Bytes at hand.
    Bytes(Bytes),
    /// Pieces of objects, one after the other.
    Pieces(Vec<Piece>),
}

/// A range of an object, and what it becomes in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The object.
    pub key: ObjectKey,
    /// The bytes to read.
    pub range: Range<u64>,
    /// What to do with them.
    pub open: Open,
}

/// What becomes of the stored bytes of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Open {
    /// They are the body: a platform may stream them without looking.
    AsIs,
    /// They are a frame to be decoded whole, of which a part is the body.
    Decode {
        /// How long they are once decoded.
        raw: u64,
        /// Which of the decoded bytes belong to the body.
        keep: Range<u64>,
    },
}

impl Piece {
    /// Turns the stored bytes into those of the body.
    pub fn open(&self, stored: Bytes, decoder: &mut Decoder) -> Result<Bytes, CodecError> {
        match &self.open {
            Open::AsIs => Ok(stored),
            Open::Decode { raw, keep } => {
                let decoded = Bytes::from(decoder.frame(&stored, *raw, Bounds::REST)?);
                let end = keep.end.min(decoded.len() as u64) as usize;
                Ok(decoded.slice((keep.start as usize).min(end)..end))
            }
        }
    }
}
