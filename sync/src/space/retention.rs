//! Retention: which deploys a space keeps, by its policy and by what its readers still use.
//!
//! A deploy that is given up keeps its row, so its number is never used again and the history
//! shows it. Its content goes with the next collection, see [`collect`](super::collect).

use std::collections::{BTreeMap, BTreeSet};

use pmx_core::code::Code;
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::collect::Collector;
use super::columns::{alias_name, array, integer, optional_text, text};
use super::ledger::Ledger;
use crate::limits::ASSET_RETENTION_DEPLOYS;
use crate::wire::{DeployContent, DeployView, Retention, RetentionPolicy};

/// Deploys that one step gives up.
const DROPPED_AT_ONCE: usize = 256;

/// The values of the column `state`.
const DROPPED: u64 = 1;
const PURGED: u64 = 2;

/// A deploy whose content is kept, as far as retention looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeptDeploy {
    number: u64,
    root: [u8; 32],
    at: Timestamp,
    alias: Option<AliasName>,
    is_pinned: bool,
}

/// Reads or sets the policy.
pub(super) fn set<S: Sql>(ledger: &Ledger<'_, S>, retention: &Retention) -> Result<(), Problem> {
    let sql = ledger.sql();
    let Some(policy) = &retention.policy else {
        let delete = "DELETE FROM meta WHERE key = 'retention'";
        return Ok(sql.run(delete, &[]).map(drop)?);
    };
    if policy.is_empty() {
        let detail = "the policy keeps nothing: name at least one rule that keeps deploys";
        return Err(Problem::new(Code::RequestMalformed, detail));
    }
    policy.check()?;
    let text = serde_json::to_string(policy).map_err(|error| SqlError(error.to_string()))?;
    let upsert = "INSERT INTO meta (key, value) VALUES ('retention', ?)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    ledger.atomically(|ledger| {
        ledger.sql().run(upsert, &[text.into()])?;
        ledger.write_collector(&Collector::read(ledger.sql())?.policy_changed())
    })?;
    Ok(())
}

/// The policy of the space.
pub(super) fn get<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Retention, SqlError> {
    let select = "SELECT value FROM meta WHERE key = 'retention'";
    let rows = ledger.sql().run(select, &[])?;
    let policy = rows.first().map(|row| {
        let policy = serde_json::from_str(&text(row, 0)?);
        policy.map_err(|error| SqlError(format!("the retention policy: {error}")))
    });
    Ok(Retention {
        policy: policy.transpose()?,
    })
}

/// Pins a deploy, or unpins it.
pub(super) fn pin<S: Sql>(
    ledger: &Ledger<'_, S>,
    number: u64,
    pinned: bool,
) -> Result<DeployView, Problem> {
    ledger.atomically(|ledger| {
        let found = ledger.named_deploy(number)?;
        let deploy = if pinned { kept(found)? } else { found };
        let update = "UPDATE deploy SET pin = ? WHERE number = ?";
        let params = [u64::from(pinned).into(), number.into()];
        ledger.sql().run(update, &params)?;
        if pinned || !deploy.pinned {
            return Ok(DeployView { pinned, ..deploy });
        }
        // The policy decides about the deploy from now on; that of a removed preview goes with it.
        let collector = Collector::read(ledger.sql())?.policy_changed();
        let is_of_none = match &deploy.alias {
            Some(alias) => ledger.named(alias)?.is_none(),
            None => false,
        };
        if is_of_none && deploy.content.is_kept() {
            drop_deploy(ledger, number, DROPPED)?;
            ledger.write_collector(&collector.wanting(false))?;
        } else {
            ledger.write_collector(&collector)?;
        }
        ledger.named_deploy(number)
    })
}

/// Gives up the content of a deploy that no reader is shown.
pub(super) fn remove<S: Sql>(
    ledger: &Ledger<'_, S>,
    number: u64,
    purge: bool,
) -> Result<DeployView, Problem> {
    ledger.atomically(|ledger| {
        let deploy = ledger.named_deploy(number)?;
        let content = if purge {
            DeployContent::Purged
        } else {
            DeployContent::Dropped
        };
        if deploy.content == DeployContent::Purged || deploy.content == content {
            return Ok(deploy);
        }
        if let Some(why) = in_use(ledger, &deploy)? {
            let detail = format!("deploy {number} {why}");
            return Err(Problem::new(Code::DeployKept, detail));
        }
        drop_deploy(ledger, number, if purge { PURGED } else { DROPPED })?;
        // Pages ask for assets of earlier deploys: readers must not look in this one any more.
        ledger.announce_again(deploy.alias.as_ref())?;
        if purge {
            purge_waiting(ledger)?;
        }
        ledger.write_collector(&Collector::read(ledger.sql())?.wanting(purge))?;
        Ok(DeployView { content, ..deploy })
    })
}

/// Ends the wait of everything that waits for its deletion: an earlier removal may have given up
/// the same content.
fn purge_waiting<S: Sql>(ledger: &Ledger<'_, S>) -> Result<(), SqlError> {
    let update = "UPDATE OR REPLACE doomed SET due = ?, tick = 0 WHERE again = 0";
    let params = [ledger.now().as_millis().into()];
    ledger.sql().run(update, &params).map(drop)
}

/// Why a deploy can't be removed.
fn in_use<S: Sql>(ledger: &Ledger<'_, S>, deploy: &DeployView) -> Result<Option<String>, SqlError> {
    let number = deploy.number;
    if ledger
        .active()?
        .is_some_and(|active| active.number == number)
    {
        return Ok(Some("is active".to_owned()));
    }
    if let Some(alias) = &deploy.alias
        && ledger
            .named(alias)?
            .is_some_and(|named| named.number == number)
    {
        return Ok(Some(format!("is what preview {alias} shows")));
    }
    Ok(deploy.pinned.then(|| "is pinned".to_owned()))
}

/// The deploy, if the space has its content.
pub(super) fn kept(deploy: DeployView) -> Result<DeployView, Problem> {
    if deploy.content.is_kept() {
        return Ok(deploy);
    }
    let detail = format!("the content of deploy {} was given up", deploy.number);
    Err(Problem::new(Code::DeployGone, detail))
}

/// Gives up the deploys of a preview that was removed. Deploys of the site with the same content
/// keep it.
pub(super) fn drop_preview<S: Sql>(
    ledger: &Ledger<'_, S>,
    alias: &AliasName,
) -> Result<(), SqlError> {
    let update = "UPDATE deploy SET state = ? WHERE alias = ? AND state = 0 AND pin = 0
         RETURNING number";
    let params = [DROPPED.into(), alias.as_str().into()];
    if ledger.sql().run(update, &params)?.is_empty() {
        return Ok(());
    }
    ledger.write_collector(&Collector::read(ledger.sql())?.wanting(false))
}

fn drop_deploy<S: Sql>(ledger: &Ledger<'_, S>, number: u64, state: u64) -> Result<(), SqlError> {
    let update = "UPDATE deploy SET state = ? WHERE number = ?";
    let params = [state.into(), number.into()];
    ledger.sql().run(update, &params).map(drop)
}

/// Gives up what the policy does not keep, at most [`DROPPED_AT_ONCE`] deploys; returns their
/// number. Runs inside a transaction.
pub(super) fn apply<S: Sql>(ledger: &Ledger<'_, S>) -> Result<u64, SqlError> {
    let Some(policy) = get(ledger)?.policy else {
        return Ok(0);
    };
    let deploys = kept_deploys(ledger)?;
    let used = used(ledger, &deploys)?;
    let mut dropped = dropped(&deploys, &policy, &used, ledger.now());
    dropped.truncate(DROPPED_AT_ONCE);
    for number in &dropped {
        drop_deploy(ledger, *number, DROPPED)?;
    }
    Ok(dropped.len() as u64)
}

/// The kept deploys, newest first.
fn kept_deploys<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Vec<KeptDeploy>, SqlError> {
    let select = "SELECT number, root, at, alias, pin FROM deploy WHERE state = 0
         ORDER BY number DESC";
    let rows = ledger.sql().run(select, &[])?;
    let deploys = rows.iter().map(|row| {
        let alias = optional_text(row, 3)?;
        Ok(KeptDeploy {
            number: integer(row, 0)?,
            root: array(row, 1)?,
            at: Timestamp::from_millis(integer(row, 2)?),
            alias: alias.map(|alias| alias_name(&alias)).transpose()?,
            is_pinned: integer(row, 4)? != 0,
        })
    });
    deploys.collect()
}

/// Deploys that readers use: each channel's current one, and those before it whose assets pages
/// still ask for.
fn used<S: Sql>(ledger: &Ledger<'_, S>, deploys: &[KeptDeploy]) -> Result<BTreeSet<u64>, SqlError> {
    let mut current = BTreeMap::new();
    current.extend(ledger.active()?.map(|active| (None, active.number)));
    for (alias, number) in ledger.aliases()? {
        current.insert(Some(alias), number);
    }
    let mut used: BTreeSet<u64> = current.values().copied().collect();
    let mut roots: BTreeMap<&Option<AliasName>, BTreeSet<[u8; 32]>> = BTreeMap::new();
    for deploy in deploys {
        if current
            .get(&deploy.alias)
            .is_none_or(|shown| deploy.number > *shown)
        {
            continue;
        }
        let roots = roots.entry(&deploy.alias).or_default();
        // The current root, and as many others.
        let is_known = roots.contains(&deploy.root);
        if !is_known && roots.len() <= ASSET_RETENTION_DEPLOYS {
            roots.insert(deploy.root);
            used.insert(deploy.number);
        }
    }
    Ok(used)
}

/// Deploys that nothing keeps, of all kept ones, newest first.
fn dropped(
    deploys: &[KeptDeploy],
    policy: &RetentionPolicy,
    used: &BTreeSet<u64>,
    now: Timestamp,
) -> Vec<u64> {
    let mut site = SiteRules::new(policy, now);
    let is_dropped = |deploy: &&KeptDeploy| {
        let by_rule = match &deploy.alias {
            None => site.keeps(deploy.at),
            Some(_) => policy
                .previews_for()
                .is_none_or(|age| deploy.at.after(age) > now),
        };
        !(by_rule || deploy.is_pinned || used.contains(&deploy.number))
    };
    deploys
        .iter()
        .filter(is_dropped)
        .map(|deploy| deploy.number)
        .collect()
}

/// The rules for deploys of the site, applied to them from the newest to the oldest.
struct SiteRules<'a> {
    policy: &'a RetentionPolicy,
    now: Timestamp,
    seen: u64,
    days: BTreeSet<u64>,
}

impl<'a> SiteRules<'a> {
    const fn new(policy: &'a RetentionPolicy, now: Timestamp) -> Self {
        Self {
            policy,
            now,
            seen: 0,
            days: BTreeSet::new(),
        }
    }

    fn keeps(&mut self, at: Timestamp) -> bool {
        const DAY: u64 = 86_400_000;
        self.seen += 1;
        let is_last = self.policy.keep_last.map(|last| self.seen <= last);
        let is_within = self.policy.within().map(|age| at.after(age) > self.now);
        let is_daily = self.policy.keep_daily.map(|days| {
            let is_newest = self.days.insert(at.as_millis() / DAY);
            is_newest && self.days.len() as u64 <= days
        });
        let rules = [is_last, is_within, is_daily];
        // A policy about previews alone says nothing about the site.
        rules.iter().all(Option::is_none) || rules.into_iter().flatten().any(|keeps| keeps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    /// Ten deploys of the site, newest first, twelve hours apart; the seventh is pinned. Before
    /// them, two of a preview.
    fn deploys() -> Vec<KeptDeploy> {
        let of = |number: u64| KeptDeploy {
            number,
            root: [u8::try_from(number).unwrap(); 32],
            at: Timestamp::from_millis(number * 12 * HOUR),
            alias: (number <= 2).then(|| AliasName::parse("next").unwrap()),
            is_pinned: number == 7,
        };
        (1..=12).rev().map(of).collect()
    }

    #[test]
    fn policies_give_up_what_no_rule_keeps() {
        let now = Timestamp::from_millis(12 * 12 * HOUR + 1);
        let hours = |hours: u64| Some(hours * 3_600);
        let policy = RetentionPolicy::default();
        for (policy, used, expected) in [
            (policy, &[][..], &[][..]),
            (
                RetentionPolicy {
                    keep_last: Some(3),
                    ..policy
                },
                &[12, 4][..],
                &[9, 8, 6, 5, 3][..],
            ),
            (
                RetentionPolicy {
                    keep_within: hours(24),
                    ..policy
                },
                &[12][..],
                &[10, 9, 8, 6, 5, 4, 3][..],
            ),
            // Deploys 11 and 10 are of one day, and so are 9 and 8.
            (
                RetentionPolicy {
                    keep_daily: Some(3),
                    ..policy
                },
                &[][..],
                &[10, 8, 6, 5, 4, 3][..],
            ),
            (
                RetentionPolicy {
                    keep_last: Some(2),
                    keep_daily: Some(3),
                    ..policy
                },
                &[][..],
                &[10, 8, 6, 5, 4, 3][..],
            ),
            (
                RetentionPolicy {
                    keep_previews_for: hours(24 * 5 + 1),
                    ..policy
                },
                &[][..],
                &[1][..],
            ),
            (
                RetentionPolicy {
                    keep_previews_for: hours(1),
                    ..policy
                },
                &[2][..],
                &[1][..],
            ),
        ] {
            let used = used.iter().copied().collect();
            assert_eq!(
                dropped(&deploys(), &policy, &used, now),
                expected,
                "{policy:?}"
            );
        }
    }
}
