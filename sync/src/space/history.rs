//! Deploy history: lists, rollback, comparison, and pointers to deploys.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::id::{NodeId, Root, SpaceId};
use pmx_core::name::AliasName;
use pmx_core::problem::{Problem, check_number};
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use super::aliases::current;
use super::decide::{self, ChannelState, CommitDecision};
use super::events::{self, Changes};
use super::index_object::indexed_at;
use super::ledger::{DeployWithKey, Ledger};
use super::reply::Reply;
use super::retention::{self, kept};
use crate::limits::{
    ASSET_RETENTION_DEPLOYS, DEPLOYS_PAGE_MAX, DIFF_ROWS_MAX, NODES_ANSWERED_BYTES, NODES_ASKED_MAX,
};
use crate::manifest::{CachedSource, diff, lookup};
use crate::pointer::Pointer;
use crate::rules::RuleFile;
use crate::wire::{
    BackupView, DeployContent, DeployKind, DeployMeta, DeployView, DiffReply, DiffRow, HoldView,
    RollbackHead, Summary,
};

/// Deploys searched for an earlier, different root: the retention, four times.
const LOOKED_THROUGH: u64 = 4 * ASSET_RETENTION_DEPLOYS as u64;

/// Makes an older deploy's root active again, in one transaction and without any upload.
pub(crate) fn rollback<S: Sql>(
    ledger: &Ledger<'_, S>,
    head: &RollbackHead,
    now: Timestamp,
) -> Result<DeployView, Problem> {
    check_number("to", head.to).and_then(|()| check_number("expect", head.expect))?;
    ledger.atomically(|ledger| {
        let active = ledger.active()?;
        let view = ChannelState {
            active: active.clone(),
            same_key: ledger.find_by_idempotency_key(&head.key)?,
            last: ledger.last_number()?,
            ..ChannelState::default()
        };
        if let Some(made) = decide::repeated_rollback(&view, head)? {
            return Ok(made);
        }
        let target = match head.to {
            Some(number) => kept(ledger.named_deploy(number)?)?,
            None => previous(ledger, active.as_ref())?,
        };
        let (number, parent) = match (decide::rollback(&view, head, &target)?, active.as_ref()) {
            (Some(CommitDecision::Repeat(deploy)), _) => return Ok(*deploy),
            (Some(CommitDecision::Activate { number, parent }), _) => (number, parent),
            (None, Some(active)) => {
                ledger.set_hold(None, active.number, active.number, now)?;
                return Ok(active.clone());
            }
            (None, None) => return Ok(target),
        };
        // If all deploys are previews, one of them may become the first active deploy.
        let changes = match &active {
            Some(active) => Changes {
                since: Some(active.root),
                all: diff(ledger, active.root, ledger, target.root)?,
            },
            None => Changes::default(),
        };
        let made = DeployView {
            number,
            parent,
            kind: DeployKind::Rollback,
            restores: Some(target.restores.unwrap_or(target.number)),
            at: now,
            new_bytes: 0,
            summary: summary(&changes, target.files),
            order: None,
            // The restored deploy brings its serving settings back.
            meta: DeployMeta {
                live: target.meta.live,
                events: target.meta.events,
                ..head.meta.clone()
            },
            alias: None,
            content: DeployContent::Kept,
            pinned: false,
            ..target
        };
        ledger.record(&DeployWithKey {
            deploy: made.clone(),
            key: head.key.clone(),
        })?;
        ledger.set_hold(None, number, parent, now)?;
        events::append_event(ledger, &made, &changes)?;
        Ok(made)
    })
}

fn summary(changes: &Changes, files: u64) -> Summary {
    let all_new = Summary {
        added: files,
        ..Summary::default()
    };
    let of = |_| Summary::of(&changes.all, files);
    changes.since.map_or(all_new, of)
}

/// A page of the history, newest first, and the current deploys.
pub(crate) fn deploys<S: Sql>(
    ledger: &Ledger<'_, S>,
    (before, limit): (Option<u64>, u64),
    backup: bool,
) -> Result<Reply, Problem> {
    let page = ledger.deploys(before, limit.min(DEPLOYS_PAGE_MAX))?;
    let (keys, deploys) = page.into_iter().map(|it| (it.key, it.deploy)).unzip();
    let aliases = ledger.aliases()?;
    Ok(Reply::Deploys {
        active: ledger.active()?.map_or(0, |deploy| deploy.number),
        backup: backup
            .then(|| backup_view(ledger, keys, aliases.keys()))
            .transpose()?,
        aliases,
        hold: hold(ledger)?,
        deploys,
    })
}

/// What a backup needs beside a page of the history.
fn backup_view<'a, S: Sql>(
    ledger: &Ledger<'_, S>,
    keys: Vec<String>,
    aliases: impl Iterator<Item = &'a AliasName>,
) -> Result<Box<BackupView>, Problem> {
    let mut expires = BTreeMap::new();
    for alias in aliases {
        if let Some(at) = ledger.expiry(alias)? {
            expires.insert(alias.clone(), at);
        }
    }
    Ok(Box::new(BackupView {
        keys,
        base: ledger.base()?,
        expires,
        policy: retention::get(ledger)?.policy,
    }))
}

/// The hold on the active deploy, if one is in force.
fn hold<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Option<HoldView>, Problem> {
    let hold = ledger.hold_in_force(None)?;
    Ok(hold.map(|hold| HoldView {
        deploy: hold.deploy,
        at: hold.at,
    }))
}

/// The deploy before the active one. If the active one is a rollback, the deploy before the one
/// that it restored.
fn previous<S: Sql>(
    ledger: &Ledger<'_, S>,
    active: Option<&DeployView>,
) -> Result<DeployView, Problem> {
    let nothing = || {
        Problem::new(
            Code::DeployUnknown,
            "there is no earlier deploy to go back to",
        )
    };
    let active = active.ok_or_else(nothing)?;
    let restored = match active.restores {
        Some(number) => ledger.deploy(number)?,
        None => None,
    };
    // A rollback to a preview restores no earlier active deploy, so its own number counts.
    let from = restored
        .filter(|restored| restored.alias.is_none())
        .map_or(active.number, |restored| restored.number);
    let earlier = ledger.of_alias(None, from.saturating_sub(1), LOOKED_THROUGH)?;
    earlier
        .into_iter()
        .find(|deploy| deploy.root != active.root)
        .ok_or_else(nothing)
}

/// Compares two deploys.
pub(crate) fn compare<S: Sql>(
    ledger: &Ledger<'_, S>,
    from: u64,
    to: u64,
) -> Result<DiffReply, Problem> {
    let (old, new) = (
        kept(ledger.named_deploy(from)?)?,
        kept(ledger.named_deploy(to)?)?,
    );
    let changes = diff(ledger, old.root, ledger, new.root)?;
    let rows: Vec<DiffRow> = changes
        .iter()
        .take(DIFF_ROWS_MAX)
        .map(DiffRow::from)
        .collect();
    let truncated = rows.len() < changes.len();
    Ok(DiffReply {
        from,
        to,
        summary: Summary::of(&changes, new.files),
        rows,
        truncated,
    })
}

/// Reads manifest nodes: the first of `ids`, as many as fit an answer, and at least one.
pub(crate) fn nodes<S: Sql>(ledger: &Ledger<'_, S>, ids: &[NodeId]) -> Result<Vec<Bytes>, Problem> {
    let (mut nodes, mut size) = (Vec::new(), 0);
    for id in ids.iter().take(NODES_ASKED_MAX) {
        let bytes = ledger.node_bytes(id)?;
        let bytes = bytes.ok_or_else(|| {
            Problem::new(Code::NotFound, format!("there is no manifest node {id}"))
        })?;
        size += bytes.len();
        if size > NODES_ANSWERED_BYTES && !nodes.is_empty() {
            break;
        }
        nodes.push(Bytes::from(bytes));
    }
    Ok(nodes)
}

/// Whether a root has rule files.
fn has_rules<S: Sql>(ledger: &Ledger<'_, S>, root: Root) -> Result<bool, Problem> {
    let nodes = CachedSource::new(ledger);
    for file in RuleFile::ALL {
        if lookup(&nodes, root, &file.site_path())?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The pointer to a deploy's serving index.
pub(crate) fn locate<S: Sql>(
    ledger: &Ledger<'_, S>,
    space: SpaceId,
    selector: &Selector,
) -> Result<Pointer, Problem> {
    let found = match selector {
        Selector::Number(number) => kept(ledger.named_deploy(*number)?)?,
        Selector::Active => current(ledger, None)?,
        Selector::Alias(alias) => current(ledger, Some(alias))?,
    };
    let mut earlier: Vec<(Root, _)> = Vec::new();
    let last = found.number.saturating_sub(1);
    // The URL of a numbered deploy shows only that deploy.
    let before = match selector {
        Selector::Active => ledger.of_alias(None, last, LOOKED_THROUGH)?,
        Selector::Alias(alias) => ledger.of_alias(Some(alias), last, LOOKED_THROUGH)?,
        Selector::Number(_) => Vec::new(),
    };
    for deploy in before {
        let is_new =
            deploy.root != found.root && earlier.iter().all(|(root, _)| *root != deploy.root);
        if is_new && earlier.len() < ASSET_RETENTION_DEPLOYS {
            earlier.push((deploy.root, indexed_at(ledger, &deploy.root)?));
        }
    }
    let index = indexed_at(ledger, &found.root)?;
    Ok(Pointer {
        space,
        deploy: found.number,
        root: found.root,
        index,
        earlier,
        live: found.meta.live,
        events: found.meta.events,
        rules: has_rules(ledger, found.root)?,
        gone: false,
        base: ledger.base()?,
        revision: ledger.revision()?,
        expires: match selector {
            Selector::Alias(alias) => ledger.expiry(alias)?,
            Selector::Active | Selector::Number(_) => None,
        },
    })
}
