//! Forks: what a stream lends to those that branch off it.

use serde::{Deserialize, Serialize};

use super::call::{Expiry, Fork, MediaType};
use super::engine::Engine;
use super::generation::Generation;
use super::reply::Refusal;
use crate::sql::Sql;
use crate::time::Timestamp;

/// All that a fork needs of its source, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// The media type of the source.
    pub media_type: MediaType,
    /// When the source ends.
    pub expiry: Expiry,
    /// The header's text that set `expiry`.
    pub expiry_text: Option<String>,
}

impl<S: Sql> Engine<'_, S> {
    /// Lends what a fork needs. The same fork may ask again and is lent the same.
    pub fn lend(&self, _fork: &Fork, _edge: Generation, _now: Timestamp) -> Result<Loan, Refusal> {
        Err(Refusal::Unknown)
    }

    /// Takes back what was lent, perhaps again. The last one of a deleted stream destroys it.
    pub fn give_back(&self, _edge: Generation, _now: Timestamp) -> Result<(), Refusal> {
        Err(Refusal::Unknown)
    }
}
