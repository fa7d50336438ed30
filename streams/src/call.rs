//! Calls to a stream: the types that requests are parsed into.

use bytes::Bytes;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::StreamName;
use super::offset::Offset;

/// The media type of a stream as its creator wrote it, and as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaType(String);

impl MediaType {
    /// Wraps what stands in a header.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was written: readers get exactly this.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without parameters, in lower case: what is compared.
    pub fn essence(&self) -> String {
        let essence = self.0.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    }

    /// Whether the stream is one of JSON messages.
    pub fn is_json(&self) -> bool {
        self.essence() == "application/json"
    }
}

/// When a stream ends automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// Never.
    Never,
    /// So many seconds after it was last read or written.
    Idle(u64),
    /// At a moment.
    At(Timestamp),
}

/// Makes a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The media type; for a fork without one, that of its source, else octet-stream.
    pub media_type: Option<MediaType>,
    /// When it ends; for a fork without it, as its source.
    pub expiry: Option<Expiry>,
    /// `Stream-Expires-At` and `Stream-TTL` as they were written, to be shown again.
    pub expiry_text: Option<String>,
    /// Whether it is closed at once.
    pub closed: bool,
    /// The first append.
    pub body: Bytes,
    /// Where it branches off, if it does.
    pub fork: Option<Fork>,
}

/// Where a fork leaves its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The stream it branches off.
    pub source: StreamName,
    /// Where; its tail if nothing is said.
    pub at: Option<Offset>,
    /// Bytes or flattened messages beyond that.
    pub beyond: u64,
}

/// Appends to a stream, closes it, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The media type of the body.
    pub media_type: Option<MediaType>,
    /// The bytes; empty only if the stream is closed with it.
    pub body: Bytes,
    /// `Stream-Seq`: strictly increasing, compared as bytes.
    pub seq: Option<String>,
    /// Who appends, if they want each append to count once.
    pub producer: Option<Producer>,
    /// Whether the stream is closed with it.
    pub close: bool,
}

/// An idempotent producer's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// Who.
    pub id: String,
    /// Which generation of theirs: a later one fences off all before.
    pub epoch: u64,
    /// The append's number in that generation.
    pub seq: u64,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    /// At the beginning.
    Start,
    /// At the tail, whatever lies before it.
    Now,
    /// Where they left.
    At(Offset),
}

/// Reads what lies behind a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Where from.
    pub from: From,
}
