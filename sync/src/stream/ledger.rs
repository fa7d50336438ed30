//! The rows of streams.

use crate::sql::{Sql, SqlError};

/// Makes the tables, unless they are there.
pub(super) fn install<S: Sql>(_sql: &S) -> Result<(), SqlError> {
    Ok(())
}
