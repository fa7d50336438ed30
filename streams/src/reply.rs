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

/// What is known of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its media type, as its creator wrote it.
    pub media_type: MediaType,
    /// Its tail.
    pub next: Offset,
    /// Whether nothing will ever follow.
    pub closed: bool,
    /// When it ends.
    pub expiry: Expiry,
    /// The header's text that set `expiry`.
    pub expiry_text: Option<String>,
    /// Which stream of this name it is: 128 random bits, in hexadecimal.
    pub generation: String,
}

/// A stream was made, or was there already with the same terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Whether it is new.
    pub fresh: bool,
    /// The stream.
    pub view: View,
}

/// An append was kept, or had been before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The tail after it.
    pub next: Offset,
    /// Whether the stream is closed now.
    pub closed: bool,
    /// Whether it had been kept before: nothing changed.
    pub repeated: bool,
    /// The producer's epoch and the highest number kept, if there is a producer.
    pub producer: Option<(u64, u64)>,
}

/// What lies behind a place, up to a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The stream.
    pub view: View,
    /// Where the page begins.
    pub start: Offset,
    /// Where it ends.
    pub end: Offset,
    /// The bytes; of a JSON stream, the messages joined by commas, without brackets. They cross
    /// behind the rest.
    #[serde(skip)]
    pub body: Bytes,
}

impl Page {
    /// Whether the reader has all there is.
    pub fn is_up_to_date(&self) -> bool {
        self.end == self.view.next
    }

    /// Whether the reader has all there will ever be.
    pub fn is_at_end(&self) -> bool {
        self.view.closed && self.is_up_to_date()
    }
}

/// Why a stream does not do what it is asked. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// 404.
    #[error("there is no such stream")]
    Unknown,
    /// 410: deleted, and kept for its forks only.
    #[error("the stream is deleted; its forks still need what it had")]
    Gone,
    /// 409: created before, on other terms.
    #[error("the stream exists with another {what}")]
    Exists {
        /// What differs.
        what: String,
    },
    /// 409: the name is still taken by a deleted stream that has forks.
    #[error("the stream is deleted, but forks still need it: its name is not free yet")]
    Taken,
    /// 404: a fork of nothing.
    #[error("there is no stream to fork from")]
    NoSource,
    /// 409: a fork of a deleted stream.
    #[error("the stream to fork from is deleted")]
    SourceGone,
    /// 409: a fork with another media type than its source.
    #[error("a fork has the media type of its source")]
    SourceType,
    /// 400: a fork beyond what its source has, or inside an append where it can't be cut.
    #[error("the stream to fork from has no such offset")]
    NoSuchPlace,
    /// 400: an offset beyond the tail.
    #[error("the offset lies beyond the end of the stream")]
    Beyond,
    /// 410: an offset of a stream that had the name before.
    #[error("the offset is one of an earlier stream of this name, which ended")]
    Anew,
    /// 400: an append without bytes that does not close either.
    #[error("an append needs a body")]
    Empty,
    /// 400: bytes that are no JSON, or an empty array, in a JSON stream.
    #[error("the body is not what a JSON stream takes: {why}")]
    Json {
        /// Why.
        why: String,
    },
    /// 400: no media type on an append.
    #[error("an append needs a Content-Type")]
    NoType,
    /// 409: another media type than the stream's.
    #[error("the stream has another media type")]
    OtherType,
    /// 409: nothing can be appended any more.
    #[error("the stream is closed")]
    Closed {
        /// Its last offset.
        next: Offset,
    },
    /// 409: `Stream-Seq` did not grow.
    #[error("Stream-Seq must grow with every append")]
    Seq,
    /// 403: a producer that was replaced.
    #[error("a later epoch of this producer is at work")]
    Fenced {
        /// The epoch that counts.
        epoch: u64,
    },
    /// 400: a new epoch that does not begin at 0.
    #[error("a new epoch begins with sequence number 0")]
    EpochStart,
    /// 409: a number left out.
    #[error("the producer left out sequence numbers")]
    Gap {
        /// The number that would follow.
        expected: u64,
        /// The number that came.
        received: u64,
    },
    /// 413.
    #[error("the body has {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Bytes that came.
        bytes: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// 503: another part of the server did not answer, or runs another release.
    #[error("a part of the server is not available: {why}")]
    Unavailable {
        /// How.
        why: String,
    },
    /// 500: the storage failed.
    #[error("the storage failed: {why}")]
    Storage {
        /// How.
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
    /// The stable code of the answer.
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
