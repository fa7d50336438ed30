//! Replies and refusals of a stream.

use bytes::Bytes;
use pmx_core::backend::BackendError;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::sql::SqlError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::call::{Expiry, MediaType};
use super::offset::Offset;

/// Properties of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamProperties {
    /// The media type, as its creator wrote it.
    pub media_type: MediaType,
    /// The tail.
    pub next: Offset,
    /// Whether the stream takes no more appends.
    pub closed: bool,
    /// When the stream ends.
    pub expiry: Expiry,
    /// The header's text that set `expiry`.
    pub expiry_text: Option<String>,
    /// The generation in hexadecimal.
    pub generation: String,
}

/// Result of a create: the stream is new, or exists with the same properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Whether the stream is new.
    pub fresh: bool,
    /// The stream's properties.
    pub view: StreamProperties,
}

/// Result of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The tail after it.
    pub next: Offset,
    /// Whether the stream is closed now.
    pub closed: bool,
    /// Whether it repeats an earlier append and changed nothing.
    pub repeated: bool,
    /// The producer's epoch and highest stored number, if there is a producer.
    pub producer: Option<(u64, u64)>,
}

/// A page of messages: those from an offset on, up to a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The stream's properties.
    pub view: StreamProperties,
    /// Where the page begins.
    pub start: Offset,
    /// Where it ends.
    pub end: Offset,
    /// The bytes; of a JSON stream, the messages joined by commas, without brackets. Between
    /// objects they follow the serialised fields.
    #[serde(skip)]
    pub body: Bytes,
}

impl Page {
    /// Whether the page ends at the tail.
    pub fn is_up_to_date(&self) -> bool {
        self.end == self.view.next
    }

    /// Whether the page ends at the tail of a closed stream.
    pub fn is_at_end(&self) -> bool {
        self.view.closed && self.is_up_to_date()
    }
}

/// Why a call to a stream fails. A failed call has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// 404.
    #[error("there is no such stream")]
    Unknown,
    /// 410: deleted, but still needed by forks.
    #[error("the stream is deleted; its forks still need what it had")]
    Gone,
    /// 409: the stream exists with other properties.
    #[error("the stream exists with another {what}")]
    Exists {
        /// The property that differs.
        what: String,
    },
    /// 409: the name belongs to a deleted stream that has forks.
    #[error("the stream is deleted, but forks still need it: its name is not free yet")]
    Taken,
    /// 404: the source of a fork does not exist.
    #[error("there is no stream to fork from")]
    NoSource,
    /// 409: a fork of a deleted stream.
    #[error("the stream to fork from is deleted")]
    SourceGone,
    /// 409: a fork with another media type than its source.
    #[error("a fork has the media type of its source")]
    SourceType,
    /// 400: a fork beyond its source's tail, or inside an append that can't be split.
    #[error("the stream to fork from has no such offset")]
    NoSuchPlace,
    /// 400: an offset beyond the tail.
    #[error("the offset is beyond the end of the stream")]
    Beyond,
    /// 410: an offset of an earlier stream of the name.
    #[error("the offset is one of an earlier stream of this name, which ended")]
    Anew,
    /// 400: an append without bytes that does not close the stream.
    #[error("an append needs a body")]
    Empty,
    /// 400: a JSON stream does not take the body: it is not JSON, or it is an empty array.
    #[error("the body is not what a JSON stream takes: {why}")]
    Json {
        /// The reason.
        why: String,
    },
    /// 400: no media type on an append.
    #[error("an append needs a Content-Type")]
    NoType,
    /// 409: another media type than the stream's.
    #[error("the stream has another media type")]
    OtherType,
    /// 409: the stream is closed.
    #[error("the stream is closed")]
    Closed {
        /// The stream's tail.
        next: Offset,
    },
    /// 409: `Stream-Seq` did not grow.
    #[error("Stream-Seq must grow with every append")]
    Seq,
    /// 403: the producer has a later epoch.
    #[error("a later epoch of this producer is at work")]
    Fenced {
        /// The current epoch.
        epoch: u64,
    },
    /// 400: a new epoch that does not begin at 0.
    #[error("a new epoch begins with sequence number 0")]
    EpochStart,
    /// 409: a gap in the producer's sequence.
    #[error("the producer left out sequence numbers")]
    Gap {
        /// The next number.
        expected: u64,
        /// The number of the append.
        received: u64,
    },
    /// 413.
    #[error("the body has {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Size of the body.
        bytes: u64,
        /// Largest size that the server accepts.
        limit: u64,
    },
    /// 503: another part of the server did not answer, or runs another release.
    #[error("a part of the server is not available: {why}")]
    Unavailable {
        /// The reason.
        why: String,
    },
    /// 500: the storage failed.
    #[error("the storage failed: {why}")]
    Storage {
        /// The reason.
        why: String,
    },
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        Self::Storage {
            why: error.to_string(),
        }
    }
}

impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Self {
        let why = error.to_string();
        match error.code() {
            Code::Unavailable => Self::Unavailable { why },
            _ => Self::Storage { why },
        }
    }
}

impl Refusal {
    /// The stable error code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Unknown | Self::NoSource => Code::StreamUnknown,
            Self::Gone => Code::StreamGone,
            Self::Anew => Code::StreamAnew,
            Self::Exists { .. }
            | Self::Taken
            | Self::SourceGone
            | Self::SourceType
            | Self::OtherType => Code::StreamConflict,
            Self::Closed { .. } => Code::StreamClosed,
            Self::Seq | Self::Gap { .. } => Code::StreamSequence,
            Self::Fenced { .. } => Code::StreamFenced,
            Self::NoSuchPlace
            | Self::Beyond
            | Self::Empty
            | Self::Json { .. }
            | Self::NoType
            | Self::EpochStart => Code::StreamRequest,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Storage { .. } => Code::Storage,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}
