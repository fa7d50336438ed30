//! Making a stream.

use super::call::Create;
use super::engine::Engine;
use super::fork::Loan;
use super::generation::Generation;
use super::reply::{Created, Refusal};
use crate::sql::Sql;
use crate::time::Timestamp;

/// How far a fork came by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// It was there before, on the same terms.
    There(Created),
    /// The source has to be asked; that it will be is written down.
    Ask,
}

impl<S: Sql> Engine<'_, S> {
    /// Makes a stream that is no fork.
    pub fn create(
        &self,
        _call: &Create,
        _now: Timestamp,
        _generation: Generation,
    ) -> Result<Created, Refusal> {
        Err(Refusal::Unknown)
    }

    /// Begins to make a fork. `edge` becomes its generation.
    pub fn begin_fork(
        &self,
        _call: &Create,
        _edge: Generation,
        _now: Timestamp,
    ) -> Result<Beginning, Refusal> {
        Err(Refusal::Unknown)
    }

    /// Makes the fork of what its source lent.
    pub fn settle_fork(
        &self,
        _call: &Create,
        _edge: Generation,
        _loan: &Loan,
        _now: Timestamp,
    ) -> Result<Created, Refusal> {
        Err(Refusal::Unknown)
    }

    /// Gives up a fork that was begun: what the source may have lent is a chore now.
    pub fn abandon_fork(&self, _edge: Generation, _now: Timestamp) -> Result<(), Refusal> {
        Err(Refusal::Unknown)
    }
}
