//! Begun publishes: the deploy that was active when a client listed its files.
//!
//! A client of the JSON publish keeps no state, so the space remembers for it which deploy its
//! commit replaces. Another publish in between is then a conflict, as it is for `pmx`.

use pmx_core::code::Code;
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};
use serde::{Deserialize, Serialize};

use super::columns::text;
use super::command::PublishCommand;
use super::ledger::Ledger;
use crate::limits::BEGUN_MAX;
use crate::wire::{DeployView, Replace};

/// A publish that began, by the hexadecimal id of its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    root: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<AliasName>,
    active: u64,
}

impl Begun {
    fn is_of(&self, publish: &PublishCommand) -> bool {
        self.root == publish.root.to_hex() && self.alias == publish.alias
    }
}

/// Remembers the active deploy, or completes a commit with the one that was active at its begin.
pub(super) fn resolve<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &mut PublishCommand,
    active: Option<&DeployView>,
) -> Result<(), Problem> {
    if !publish.begun || publish.dry {
        return Ok(());
    }
    let active = active.map_or(0, |deploy| deploy.number);
    let mut known = read(ledger)?;
    let found = known.iter().find(|begun| begun.is_of(publish));
    let found = found.map(|begun| begun.active);
    let Some(preconditions) = &mut publish.commit else {
        if found != Some(active) {
            known.retain(|begun| !begun.is_of(publish));
            known.insert(
                0,
                Begun {
                    root: publish.root.to_hex(),
                    alias: publish.alias.clone(),
                    active,
                },
            );
            known.truncate(BEGUN_MAX);
            write(ledger, &known)?;
        }
        return Ok(());
    };
    if preconditions.replace != Replace::Seen || preconditions.expect.is_some() {
        return Ok(());
    }
    if found.is_none() {
        let detail = "the commit names no deploy to expect, and its files had no begin";
        return Err(Problem::new(Code::PublishForm, detail));
    }
    preconditions.expect = found;
    Ok(())
}

fn read<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Vec<Begun>, SqlError> {
    let select = "SELECT value FROM meta WHERE key = 'begun'";
    let rows = ledger.sql().run(select, &[])?;
    let text = rows.first().map(|row| text(row, 0)).transpose()?;
    // What a later release wrote otherwise is forgotten; its publishes begin again.
    let begun = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(begun.unwrap_or_default())
}

fn write<S: Sql>(ledger: &Ledger<'_, S>, begun: &[Begun]) -> Result<(), SqlError> {
    let upsert = "INSERT INTO meta (key, value) VALUES ('begun', ?)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    let value = serde_json::to_string(begun).unwrap_or_default();
    ledger.sql().run(upsert, &[value.into()]).map(drop)
}
