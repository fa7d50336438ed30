//! Schema versioning: decides whether this code may use or migrate a database, or must refuse it.
//!
//! A database records two numbers in a table of keys and values. `schema` is the version of its
//! tables. `readable_by` is the oldest version of the code that may use them. Migrations only add
//! tables and columns for one release, so older code still works with a newer database. An operator
//! can roll a server's update back. Code never lowers either number.

use thiserror::Error;

use crate::code::Code;
use crate::problem::Problem;
use crate::sql::{Sql, SqlError, Value};

/// The schema of one kind of database, as this code knows it.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The database's name in errors: "the ledger of a space".
    pub database: &'static str,
    /// The table with the numbers, whose text columns are `key` and `value`.
    pub table: &'static str,
    /// The newest version of the tables that this code knows, at least 1.
    pub version: u32,
    /// The oldest version of the code that may use tables of that version.
    pub readable_by: u32,
}

/// The numbers that a database records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The version of its tables.
    pub schema: u32,
    /// The oldest version of the code that may use them.
    pub readable_by: u32,
}

impl Recorded {
    /// A database whose tables are older than schema versions: it records nothing.
    pub const FIRST: Self = Self {
        schema: 1,
        readable_by: 1,
    };
}

/// Verdict on a database: this release may use it, may migrate it, or must refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// Use it unchanged: its tables are those of this code, or newer ones with additions.
    Use,
    /// Apply each version after this one, then use it.
    Migrate {
        /// The current version of its tables.
        from: u32,
    },
}

/// A database that this code cannot use.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The storage failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Newer code wrote it, and only newer code can read it.
    #[error(
        "{database} has schema version {schema}, which needs a server that knows version \
         {readable_by}; this one knows version {known}"
    )]
    TooNew {
        /// The database.
        database: &'static str,
        /// The version of its tables.
        schema: u32,
        /// The oldest version of the code that may use them.
        readable_by: u32,
        /// This code's version.
        known: u32,
    },
    /// The recorded text is not a version.
    #[error("{database} records {value:?} as its {key}, which is no schema version")]
    Malformed {
        /// The database.
        database: &'static str,
        /// The key.
        key: &'static str,
        /// The recorded text.
        value: String,
    },
}

impl SchemaError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Sql(_) => Code::Storage,
            Self::TooNew { .. } => Code::SchemaTooNew,
            Self::Malformed { .. } => Code::Corrupt,
        }
    }
}

impl From<SchemaError> for Problem {
    fn from(error: SchemaError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

const SCHEMA: &str = "schema";
const READABLE_BY: &str = "readable_by";

impl Schema {
    /// Decides whether this code may use a database with these numbers.
    pub const fn check(&self, recorded: Recorded) -> Result<Compatibility, SchemaError> {
        let Recorded {
            schema,
            readable_by,
        } = recorded;
        if schema < self.version {
            return Ok(Compatibility::Migrate { from: schema });
        }
        if readable_by > self.version {
            return Err(SchemaError::TooNew {
                database: self.database,
                schema,
                readable_by,
                known: self.version,
            });
        }
        Ok(Compatibility::Use)
    }

    /// Reads the numbers of a database; `None` if it records no version.
    ///
    /// A database with only a version is of a release before `readable_by`. It needs code of at
    /// least its own version.
    pub fn recorded<S: Sql>(&self, sql: &S) -> Result<Option<Recorded>, SchemaError> {
        let table = self.table;
        let select = format!("SELECT key, value FROM {table} WHERE key IN (?, ?)");
        let rows = sql.run(&select, &[READABLE_BY.into(), SCHEMA.into()])?;
        let mut found = [None, None];
        for row in rows {
            if let [Value::Text(key), Value::Text(value)] = &row[..] {
                found[usize::from(key == SCHEMA)] = Some(value.clone());
            }
        }
        let [readable_by, schema] = found;
        self.parse(schema.as_deref(), readable_by.as_deref())
    }

    /// Parses the numbers from texts that the caller has already read.
    pub fn parse(
        &self,
        schema: Option<&str>,
        readable_by: Option<&str>,
    ) -> Result<Option<Recorded>, SchemaError> {
        let Some(schema) = schema else {
            return Ok(None);
        };
        let schema = self.number(SCHEMA, schema)?;
        let readable_by = readable_by.map_or(Ok(schema), |text| self.number(READABLE_BY, text))?;
        Ok(Some(Recorded {
            schema,
            readable_by,
        }))
    }

    fn number(&self, key: &'static str, text: &str) -> Result<u32, SchemaError> {
        let number = text.parse().ok().filter(|&number| number > 0);
        number.ok_or_else(|| SchemaError::Malformed {
            database: self.database,
            key,
            value: text.chars().take(40).collect(),
        })
    }

    /// This code's numbers, by their keys.
    pub const fn numbers(&self) -> [(&'static str, u32); 2] {
        [(SCHEMA, self.version), (READABLE_BY, self.readable_by)]
    }

    /// Records this code's numbers, in the transaction that creates or migrates the tables.
    pub fn record<S: Sql>(&self, sql: &S) -> Result<(), SqlError> {
        let table = self.table;
        let upsert = format!(
            "INSERT INTO {table} (key, value) VALUES (?, ?)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        );
        for (key, number) in self.numbers() {
            sql.run(&upsert, &[key.into(), number.to_string().into()])?;
        }
        Ok(())
    }
}

/// A transaction can only fail with a storage error, so the error has the cause as text.
impl From<SchemaError> for SqlError {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Sql(error) => error,
            other @ (SchemaError::TooNew { .. } | SchemaError::Malformed { .. }) => {
                Self(other.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Schema = Schema {
        database: "the ledger of a space",
        table: "meta",
        version: 3,
        readable_by: 2,
    };

    #[test]
    fn versions_are_used_migrated_or_refused() {
        for (schema, readable_by, expected) in [
            (1, 1, "Migrate { from: 1 }"),
            (2, 2, "Migrate { from: 2 }"),
            (3, 2, "Use"),
            (4, 3, "Use"),
            (9, 1, "Use"),
            (4, 4, "E_SCHEMA_TOO_NEW"),
            (9, 5, "E_SCHEMA_TOO_NEW"),
        ] {
            let recorded = Recorded {
                schema,
                readable_by,
            };
            let verdict = match KNOWN.check(recorded) {
                Ok(verdict) => format!("{verdict:?}"),
                Err(error) => error.code().to_string(),
            };
            assert_eq!(verdict, expected, "{recorded:?}");
        }
    }

    #[test]
    fn refusal_names_the_database_and_the_versions() {
        let newer = Recorded {
            schema: 9,
            readable_by: 5,
        };
        let problem = Problem::from(KNOWN.check(newer).unwrap_err());
        insta::assert_snapshot!(problem.detail, @"the ledger of a space has schema version 9, which needs a server that knows version 5; this one knows version 3");
        assert!(problem.hint.contains("pmx"), "{}", problem.hint);
    }

    #[test]
    fn numbers_are_parsed_and_a_version_alone_vouches_for_itself() {
        let recorded = |schema, readable_by| {
            let parsed = KNOWN.parse(schema, readable_by);
            let parsed = parsed.map(|found| found.map(|it| (it.schema, it.readable_by)));
            parsed.map_err(|error| error.code())
        };
        assert_eq!(recorded(None, None), Ok(None));
        assert_eq!(recorded(Some("2"), None), Ok(Some((2, 2))));
        assert_eq!(recorded(Some("9"), None), Ok(Some((9, 9))));
        assert_eq!(recorded(Some("4"), Some("3")), Ok(Some((4, 3))));
        for odd in ["", "0", "-1", "two", "99999999999"] {
            assert_eq!(recorded(Some(odd), None), Err(Code::Corrupt), "{odd}");
            assert_eq!(recorded(Some("4"), Some(odd)), Err(Code::Corrupt), "{odd}");
        }
    }
}
