//! Ports of a platform: its immutable objects, and its failures.
//!
//! The futures carry no `Send` bound, because those of a Worker have none. A native host names its
//! concrete types where it spawns, and the compiler checks `Send` there.

use std::fmt;
use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::code::Code;
use crate::id::{ObjectId, SpaceId};
use crate::problem::Problem;

/// Key of an object of a space. Keys are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The space that owns the object: spaces share no objects.
    pub space: SpaceId,
    /// The object.
    pub object: ObjectId,
}

impl ObjectKey {
    /// The beginning of all keys of a space.
    pub fn prefix(space: SpaceId) -> String {
        format!("spaces/{space}/")
    }
}

impl fmt::Display for ObjectKey {
    /// The key in the form of object stores.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spaces/{}/{}", self.space, self.object)
    }
}

/// A platform failed; the request is valid.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{doing}: {why}")]
pub struct BackendError {
    /// The operation and its object.
    pub doing: String,
    /// Why it failed.
    pub why: String,
    /// Whether the same operation may soon succeed.
    is_passing: bool,
}

impl BackendError {
    /// Describes a failure.
    pub fn new(doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            doing: doing.into(),
            why: why.to_string(),
            is_passing: false,
        }
    }

    /// Marks a failure of an operation that may soon succeed.
    #[must_use]
    pub const fn passing(mut self) -> Self {
        self.is_passing = true;
        self
    }

    /// The stable code.
    pub const fn code(&self) -> Code {
        if self.is_passing {
            Code::Unavailable
        } else {
            Code::Storage
        }
    }
}

/// Immutable objects: R2, a folder, memory.
pub trait Blobs {
    /// Reads a range of an object; `None` if there is no such object or it ends before the range.
    fn read(
        &self,
        key: ObjectKey,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Bytes>, BackendError>>;

    /// Reads a range that many readers request, like [`Blobs::read`]. A platform may cache it near
    /// them for ever, since objects never change.
    fn read_often(
        &self,
        key: ObjectKey,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Bytes>, BackendError>> {
        self.read(key, range)
    }

    /// Reads a range like [`Blobs::read`], but past all open files and caches of the platform: its
    /// answer decides whether content is lost.
    fn read_again(
        &self,
        key: ObjectKey,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Bytes>, BackendError>> {
        self.read(key, range)
    }

    /// Writes an object. MUST be durable, and visible to every reader, before it returns.
    fn write(&self, key: ObjectKey, body: Bytes) -> impl Future<Output = Result<(), BackendError>>;

    /// Deletes objects; missing ones are no error.
    fn delete(&self, keys: &[ObjectKey]) -> impl Future<Output = Result<(), BackendError>>;

    /// Deletes at most `most` objects of a space, whichever they are, and returns their number: 0
    /// if the space has none.
    fn delete_some(
        &self,
        space: SpaceId,
        most: usize,
    ) -> impl Future<Output = Result<usize, BackendError>>;
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
