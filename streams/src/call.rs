//! Stream calls: the parsed arguments of create, append and read.

use bytes::Bytes;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::StreamName;
use super::offset::Offset;

/// Media type of a stream, as its creator wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaType(String);

impl MediaType {
    /// Wraps the value of a header.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as written, which readers get.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type without parameters, in lower case, for comparisons.
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
    /// After this many seconds without a read or a write.
    Idle(u64),
    /// At a point in time.
    At(Timestamp),
}

/// Creates a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The media type; the default is the source's for a fork, else octet-stream.
    pub media_type: Option<MediaType>,
    /// When it ends; the default for a fork is the source's.
    pub expiry: Option<Expiry>,
    /// `Stream-Expires-At` or `Stream-TTL` as written, which later responses repeat.
    pub expiry_text: Option<String>,
    /// Whether it is created closed.
    pub closed: bool,
    /// The initial content.
    pub body: Bytes,
    /// The source, if the stream is a fork.
    pub fork: Option<Fork>,
}

/// Where a fork branches off its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The source's name.
    pub source: StreamName,
    /// The offset in the source; the default is its tail.
    pub at: Option<Offset>,
    /// Bytes or flattened messages after that offset.
    pub beyond: u64,
}

/// Appends to a stream, closes it, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The media type of the body.
    pub media_type: Option<MediaType>,
    /// The bytes; empty only if the append closes the stream.
    pub body: Bytes,
    /// `Stream-Seq`: strictly increasing, compared as bytes.
    pub seq: Option<String>,
    /// The idempotent producer, if there is one.
    pub producer: Option<Producer>,
    /// Whether the append closes the stream.
    pub close: bool,
}

/// Position of an idempotent producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// The producer's id.
    pub id: String,
    /// The producer's epoch: a later one fences off all earlier ones.
    pub epoch: u64,
    /// The append's number in the epoch.
    pub seq: u64,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    /// At the beginning.
    Start,
    /// At the current tail.
    Now,
    /// At an offset.
    At(Offset),
}

/// Reads the messages from a position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The first position.
    pub from: From,
}
