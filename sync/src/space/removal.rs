//! Removal of a space: its name becomes free at once, and its objects go later.
//!
//! One transaction drops every table, so a space that takes the name again inherits nothing. What
//! stays is what readers need: a pointer for each channel that says it is gone, the number of the
//! last deploy, and the id under which the objects lie. Deploy numbers go on from there, so
//! pointers, cookies and offsets of the removed space are all older than those of the next one.

use std::collections::BTreeSet;
use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::id::{NodeId, ObjectId, SpaceId};
use pmx_core::location::Extent;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;
use serde::Serialize;

use super::aliases::outbox_kind;
use super::columns::{alias_name, integer, optional_text, text};
use super::ledger::{Ledger, keep_name};
use super::reply::{Removal, Reply};
use super::tables;
use crate::pointer::Pointer;

/// How long the objects stay: longer than any reader keeps a pointer. They are deleted again after
/// the same time, for writes that were late.
const GRACE: Duration = Duration::from_hours(24);

/// Deletes the space, if its active deploy is still `expect`; with `purge`, its objects go at once.
pub(super) fn delete<S: Sql>(
    ledger: &Ledger<'_, S>,
    name: &SpaceName,
    space: SpaceId,
    (expect, purge): (u64, bool),
) -> Result<Reply, Problem> {
    ledger.atomically(|ledger| {
        let active = ledger.active()?.map_or(0, |deploy| deploy.number);
        if active != expect {
            // The answer was lost, and the name was taken again since.
            if ledger.deploy_count()? == 0
                && let Some(reply) = repeated(ledger, expect)?
            {
                return Ok(reply);
            }
            let detail =
                format!("the active deploy of {name} is {active} and not {expect} any more");
            return Err(Problem::new(Code::Conflict, detail));
        }
        let later = ledger.now().after(GRACE);
        let first = if purge { ledger.now() } else { later };
        let removal = Removal {
            deploys: ledger.deploy_count()?,
            previews: ledger.aliases()?.into_keys().collect(),
            purge: Some(first),
        };
        let gone = Pointer {
            gone: true,
            base: ledger.base()?,
            ..nowhere(space, ledger.last_number()?)
        };
        let channels = ledger.channels()?;
        let mut removed = ledger.removed()?;
        removed.extend([(space, first), (space, first.after(GRACE))]);
        let sql = ledger.sql();
        drop_all(sql)?;
        tables::make(sql)?;
        keep_name(sql, name)?;
        let insert = "INSERT INTO meta (key, value) VALUES ('base', ?), ('removal', ?)";
        let kept = json(&(expect, &removal))?;
        sql.run(insert, &[gone.deploy.to_string().into(), kept.into()])?;
        tables::keep_readable(sql)?;
        for (space, due) in removed {
            let insert = "INSERT INTO removed (space, due) VALUES (?, ?)";
            let params = [space.to_string().into(), due.as_millis().into()];
            sql.run(insert, &params)?;
        }
        let pointer = json(&gone)?;
        for kind in channels {
            let insert = "INSERT INTO outbox (kind, deploy, pointer) VALUES (?, ?, ?)";
            let params = [kind.into(), gone.order().into(), pointer.clone().into()];
            sql.run(insert, &params)?;
        }
        Ok(Reply::SpaceDeleted(removal))
    })
}

/// The answer of the deletion, for a caller that repeats it because the first answer was lost.
pub(super) fn repeated<S: Sql>(
    ledger: &Ledger<'_, S>,
    expect: u64,
) -> Result<Option<Reply>, Problem> {
    let select = "SELECT value FROM meta WHERE key = 'removal'";
    let rows = ledger.sql().run(select, &[])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let kept = serde_json::from_str(&text(row, 0)?);
    let (expected, removal): (u64, Removal) = kept.map_err(|error| SqlError(error.to_string()))?;
    Ok((expected == expect).then_some(Reply::SpaceDeleted(removal)))
}

fn json(value: &impl Serialize) -> Result<String, SqlError> {
    serde_json::to_string(value).map_err(|error| SqlError(error.to_string()))
}

/// A pointer that leads to no content: readers follow none that is gone.
pub(super) fn nowhere(space: SpaceId, deploy: u64) -> Pointer {
    Pointer {
        space,
        deploy,
        root: NodeId::from_bytes([0; 32]),
        index: Extent {
            object: ObjectId::from_bytes([0; 16]),
            offset: 0,
            len: 1,
        },
        earlier: Vec::new(),
        live: false,
        events: false,
        rules: false,
        gone: false,
        expires: None,
        base: 0,
        revision: 0,
    }
}

/// Drops all tables and views but those of the platform.
fn drop_all<S: Sql>(sql: &S) -> Result<(), SqlError> {
    let select = "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'table')
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'
         ORDER BY type DESC, name";
    for row in sql.run(select, &[])? {
        sql.run(
            &format!("DROP {} \"{}\"", text(&row, 0)?, text(&row, 1)?),
            &[],
        )?;
    }
    Ok(())
}

impl<S: Sql> Ledger<'_, S> {
    fn deploy_count(&self) -> Result<u64, SqlError> {
        let rows = self.sql().run("SELECT count(*) FROM deploy", &[])?;
        rows.first().map_or(Ok(0), |row| integer(row, 0))
    }

    /// The kinds of the pointers that readers may have.
    fn channels(&self) -> Result<BTreeSet<String>, SqlError> {
        let mut kinds = BTreeSet::new();
        for row in self.sql().run("SELECT DISTINCT alias FROM deploy", &[])? {
            let alias = optional_text(&row, 0)?;
            let alias = alias.map(|alias| alias_name(&alias)).transpose()?;
            kinds.insert(outbox_kind(alias.as_ref()));
        }
        for row in self.sql().run("SELECT kind FROM outbox", &[])? {
            kinds.insert(text(&row, 0)?);
        }
        Ok(kinds)
    }

    /// The removed spaces whose objects may still exist, and when they may go.
    fn removed(&self) -> Result<Vec<(SpaceId, Timestamp)>, SqlError> {
        let select = "SELECT space, due FROM removed ORDER BY due";
        let rows = self.sql().run(select, &[])?;
        let removed = rows.iter().map(|row| {
            let space = SpaceId::from_hex(&text(row, 0)?);
            let space = space.map_err(|error| SqlError(error.to_string()))?;
            Ok((space, Timestamp::from_millis(integer(row, 1)?)))
        });
        removed.collect()
    }

    /// The next removed space, and when its objects may go.
    pub(super) fn next_removed(&self) -> Result<Option<(SpaceId, Timestamp)>, SqlError> {
        Ok(self.removed()?.into_iter().next())
    }

    /// Records that a removed space has no objects now.
    pub(super) fn forget_removed(&self, space: SpaceId) -> Result<(), SqlError> {
        let delete = "DELETE FROM removed WHERE space = ? AND due <= ?";
        let params = [space.to_string().into(), self.now().as_millis().into()];
        self.sql().run(delete, &params).map(drop)
    }
}
