//! Restore: a commit that records deploys of a backup as they were.
//!
//! Each number of a space has a row, and a message in the event log. So a restore records the
//! deploys that were given up as well, and all numbers in their order. Only the last deploy of a
//! commit may have content, and the request publishes it as any other root.

use pmx_core::code::Code;
use pmx_core::problem::{Problem, check_number};
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::command::PublishCommand;
use super::decide::CommitDecision;
use super::events::{Changes, append_event};
use super::ledger::{DeployWithKey, Ledger};
use super::meta::check_meta;
use crate::limits::{ALIASES_MAX, RESTORED_AT_ONCE_MAX, RESTORED_NUMBER_MAX};
use crate::manifest::Totals;
use crate::wire::{DeployView, Order, RestoredDeploy};

/// The deploys that a publish restores; none for any other publish.
pub(super) fn of(publish: &PublishCommand) -> &[RestoredDeploy] {
    let commit = publish.commit.as_ref().filter(|_| !publish.dry);
    commit.map_or(&[], |commit| &commit.restore)
}

/// Checks the deploys that a publish restores. Returns the last one if they are recorded already,
/// or if none has content: then the space records them now.
pub(super) fn begin<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
) -> Result<Option<DeployView>, Problem> {
    let Some((last, before)) = of(publish).split_last() else {
        return Ok(None);
    };
    check(publish, last, before)?;
    if let Some(made) = repeated(ledger, last)? {
        return Ok(Some(made));
    }
    follows(ledger, before.first().unwrap_or(last))?;
    if last.deploy.content.is_kept() {
        return Ok(None);
    }
    ledger.atomically(|ledger| {
        follows(ledger, before.first().unwrap_or(last))?;
        let deploy = last.deploy.clone();
        record_all(ledger, before)?;
        record(ledger, last, deploy, &Changes::default()).map(Some)
    })
}

/// Decides about a commit whose last deploy has content.
pub(super) fn decide<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
    last: &RestoredDeploy,
) -> Result<CommitDecision, Problem> {
    if let Some(made) = repeated(ledger, last)? {
        return Ok(CommitDecision::Repeat(Box::new(made)));
    }
    follows(ledger, of(publish).first().unwrap_or(last))?;
    if let Some(alias) = last.deploy.alias.as_ref().filter(|_| last.shown)
        && ledger.named(alias)?.is_none()
        && ledger.alias_count()? >= ALIASES_MAX
    {
        let detail = format!("the site has {ALIASES_MAX} previews already");
        return Err(Problem::new(Code::TooManyPreviews, detail));
    }
    Ok(CommitDecision::Activate {
        number: last.deploy.number,
        parent: last.deploy.parent,
    })
}

/// Records the deploys of a commit, the last with content. Part of the transaction of the commit.
pub(super) fn commit<S: Sql>(
    ledger: &Ledger<'_, S>,
    before: &[RestoredDeploy],
    last: &RestoredDeploy,
    totals: Totals,
    changes: &Changes,
) -> Result<DeployView, Problem> {
    record_all(ledger, before)?;
    let deploy = DeployView {
        files: totals.files,
        bytes: totals.bytes,
        ..last.deploy.clone()
    };
    record(ledger, last, deploy, changes)
}

fn record_all<S: Sql>(ledger: &Ledger<'_, S>, all: &[RestoredDeploy]) -> Result<(), Problem> {
    for restored in all {
        record(
            ledger,
            restored,
            restored.deploy.clone(),
            &Changes::default(),
        )?;
    }
    Ok(())
}

fn record<S: Sql>(
    ledger: &Ledger<'_, S>,
    restored: &RestoredDeploy,
    deploy: DeployView,
    changes: &Changes,
) -> Result<DeployView, Problem> {
    let before = deploy.number.saturating_sub(1);
    if ledger.last_number()? != before {
        ledger.set_base(before)?;
    }
    let key = restored.key.clone();
    ledger.insert(&DeployWithKey {
        deploy: deploy.clone(),
        key,
    })?;
    if deploy.content.is_kept() {
        show(ledger, restored, &deploy)?;
    }
    append_event(ledger, &deploy, changes)?;
    Ok(deploy)
}

/// Shows a deploy to readers: as the active one, or as that of its preview.
fn show<S: Sql>(
    ledger: &Ledger<'_, S>,
    restored: &RestoredDeploy,
    deploy: &DeployView,
) -> Result<(), SqlError> {
    match &deploy.alias {
        None => {
            ledger.point(None, deploy.number)?;
            ledger.end_hold(None)?;
            if restored.held {
                ledger.set_hold(None, deploy.number, deploy.parent, deploy.at)?;
            }
            Ok(())
        }
        Some(alias) if restored.shown => {
            ledger.point(Some(alias), deploy.number)?;
            ledger.set_expiry(alias, restored.expires)
        }
        Some(_) => Ok(()),
    }
}

/// The deploy, if an earlier request recorded it. Refused if another deploy has its number.
fn repeated<S: Sql>(
    ledger: &Ledger<'_, S>,
    last: &RestoredDeploy,
) -> Result<Option<DeployView>, Problem> {
    let number = last.deploy.number;
    let found = ledger.deploys(Some(number.saturating_add(1)), 1)?.pop();
    let found = found.filter(|found| found.deploy.number == number);
    let Some(DeployWithKey { deploy, key }) = found else {
        return Ok(None);
    };
    if (deploy.root, deploy.at) == (last.deploy.root, last.deploy.at) && key == last.key {
        return Ok(Some(deploy));
    }
    let detail = format!("the space has another deploy {number} than the backup");
    Err(Problem::new(Code::Conflict, detail))
}

/// Refuses a deploy that does not follow the last one of the space. A space without deploys takes
/// any number that no earlier space of its name had.
fn follows<S: Sql>(ledger: &Ledger<'_, S>, first: &RestoredDeploy) -> Result<(), Problem> {
    let (number, last) = (first.deploy.number, ledger.last_number()?);
    let is_empty = ledger.deploys(None, 1)?.is_empty();
    let fits = if is_empty {
        number > last && number <= RESTORED_NUMBER_MAX.max(last.saturating_add(1))
    } else {
        number == last + 1
    };
    if fits {
        return Ok(());
    }
    let detail = format!("deploy {number} of a backup does not follow deploy {last} of the space");
    Err(Problem::new(Code::Conflict, detail))
}

/// Refuses deploys beyond the limits, or that do not belong together.
fn check(
    publish: &PublishCommand,
    last: &RestoredDeploy,
    before: &[RestoredDeploy],
) -> Result<(), Problem> {
    if before.len() >= RESTORED_AT_ONCE_MAX {
        let detail = format!("a commit restores at most {RESTORED_AT_ONCE_MAX} deploys");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let malformed = |detail: &str| Err(Problem::new(Code::RequestMalformed, detail));
    let first = before.first().unwrap_or(last).deploy.number;
    for (restored, number) in before.iter().chain([last]).zip(first..) {
        check_meta(&restored.deploy.meta, &restored.key)?;
        check_numbers(&restored.deploy)?;
        let expires = restored.expires.map(Timestamp::as_millis);
        check_number("the end of a restored preview", expires)?;
        if restored.deploy.number != number {
            return malformed("the deploys of a restore have numbers that do not follow another");
        }
    }
    if before.iter().any(|it| it.deploy.content.is_kept()) {
        return malformed("only the last deploy of a commit may have content");
    }
    if last.deploy.root != publish.root || last.deploy.alias != publish.alias {
        return malformed("a restore names another root or preview than its last deploy has");
    }
    Ok(())
}

fn check_numbers(deploy: &DeployView) -> Result<(), Problem> {
    let summary = deploy.summary;
    let numbers = [
        deploy.number,
        deploy.parent,
        deploy.restores.unwrap_or(0),
        deploy.at.as_millis(),
        deploy.files,
        deploy.bytes,
        deploy.new_bytes,
        summary.added,
        summary.modified,
        summary.removed,
        summary.unchanged,
        deploy.order.as_ref().map_or(0, Order::value),
    ];
    let mut numbers = numbers.into_iter();
    numbers.try_for_each(|number| check_number("a number of a restored deploy", Some(number)))
}
