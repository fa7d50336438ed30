//! Oracle of promises: records what publishers requested, and what the server answered.
//!
//! The account never reads a ledger. It is compared with the history that the API shows. So a
//! ledger that forgets a request, or records another one, cannot hide it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use pmx_core::code::Code;
use pmx_core::id::Root;
use pmx_core::name::{AliasName, SpaceName};
use pmx_sync::push::{Intent, PushOutcomeKind};
use pmx_sync::wire::{BeginReply, DeployKind, DeployView, MaxDelete, Order, Replace};

use super::model::Catalogue;

/// A site or one of its previews.
pub(crate) type ChannelKey = (SpaceName, Option<AliasName>);

/// A publish under a key, recorded before its first request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    channel: ChannelKey,
    /// Root of the publisher's folder, independent of its cache.
    folder: Root,
    replace: Replace,
    /// The deploy that the publish may replace: named by the user, or known to the cache.
    expect: Option<u64>,
    order: Option<Order>,
    max_delete: Option<MaxDelete>,
    /// The deploys that its runs without a cache met first.
    met: BTreeSet<u64>,
}

/// A rollback under a key.
#[derive(Debug, Clone)]
struct Rollback {
    expect: Option<u64>,
}

/// A build whose reply said that its site is live already.
#[derive(Debug)]
struct Unchanged {
    channel: ChannelKey,
    deploy: u64,
    folder: Root,
    order: Option<Order>,
}

/// All requests and their replies.
#[derive(Debug, Default)]
pub(crate) struct Account {
    asked: RefCell<BTreeMap<String, Asked>>,
    rollbacks: RefCell<BTreeMap<String, Rollback>>,
    unchanged: RefCell<Vec<Unchanged>>,
    resumed: RefCell<BTreeSet<SpaceName>>,
    /// Spaces that got a rollback request.
    rolled_back: RefCell<BTreeSet<SpaceName>>,
    pub(crate) holds_met: Cell<u64>,
}

impl Account {
    pub(crate) fn asks(&self, intent: &Intent) {
        let asked = Asked {
            channel: (intent.space.clone(), intent.alias.clone()),
            folder: intent.root,
            replace: intent.replace,
            expect: intent.expect,
            order: intent.order.clone(),
            max_delete: intent.max_delete,
            met: BTreeSet::new(),
        };
        // A repeated publish may have wider permissions.
        self.asked
            .borrow_mut()
            .entry(intent.key.clone())
            .and_modify(|known| {
                if asked.replace == Replace::Any {
                    known.replace = Replace::Any;
                }
            })
            .or_insert_with(|| asked.clone());
    }

    /// Records the first reply to a run.
    pub(crate) fn met(&self, key: &str, reply: &BeginReply) {
        if let Some(asked) = self.asked.borrow_mut().get_mut(key) {
            // The space knew the root, and replaced the deploy that this request met.
            let made = reply.deploy.as_ref().map(|made| made.parent);
            asked.met.insert(made.unwrap_or(reply.active));
        }
    }

    pub(crate) fn answered(&self, key: &str, kind: PushOutcomeKind, deploy: u64) {
        let asked = self.asked.borrow();
        let asked = &asked[key];
        if kind == PushOutcomeKind::Unchanged {
            self.unchanged.borrow_mut().push(Unchanged {
                channel: asked.channel.clone(),
                deploy,
                folder: asked.folder,
                order: asked.order.clone(),
            });
        }
    }

    /// How many builds found nothing to change.
    pub(crate) fn unchanged(&self) -> u64 {
        self.unchanged.borrow().len() as u64
    }

    pub(crate) fn asks_rollback(&self, space: &SpaceName, key: &str, expect: Option<u64>) {
        self.rolled_back.borrow_mut().insert(space.clone());
        let rollback = Rollback { expect };
        self.rollbacks.borrow_mut().insert(key.to_owned(), rollback);
    }

    pub(crate) fn asks_resume(&self, space: &SpaceName) {
        self.resumed.borrow_mut().insert(space.clone());
    }

    /// Checks that the requests of other clients explain a refusal.
    pub(crate) fn explains(&self, key: &str, code: Code) -> Result<(), String> {
        let all = self.asked.borrow();
        let asked = &all[key];
        let is_explained = match code {
            Code::OlderBuild | Code::OutOfOrder => all.values().any(|other| {
                let orders = asked.order.as_ref().zip(other.order.as_ref());
                other.channel == asked.channel
                    && orders.is_some_and(|(own, other)| own.is_older_than(other))
            }),
            Code::Held => self.rolled_back.borrow().contains(&asked.channel.0),
            Code::Conflict => asked.replace != Replace::Any,
            _ => true,
        };
        if is_explained {
            return Ok(());
        }
        Err(format!("{key} was refused by {code} without a reason"))
    }

    /// Compares the history of a space, oldest first, with the requests.
    pub(crate) fn check(
        &self,
        catalogue: &Catalogue,
        space: &SpaceName,
        deploys: &[DeployView],
        removed: impl Fn(Option<&AliasName>) -> bool,
    ) -> Result<(), String> {
        for found in self.unchanged.borrow().iter() {
            let is_there =
                |deploy: &DeployView| (deploy.number, deploy.root) == (found.deploy, found.folder);
            if found.channel.0 == *space && !deploys.iter().any(is_there) {
                return Err(format!(
                    "{found:?}: deploy {} is not what its folder holds",
                    found.deploy
                ));
            }
        }
        let aliases: BTreeSet<_> = deploys.iter().map(|deploy| deploy.alias.clone()).collect();
        for alias in aliases {
            let is_own = |deploy: &&DeployView| deploy.alias == alias;
            let own: Vec<&DeployView> = deploys.iter().filter(is_own).collect();
            let channel = (space.clone(), alias);
            for (at, deploy) in own.iter().enumerate() {
                let before = at.checked_sub(1).map(|at| own[at]);
                // A deleted preview begins anew.
                let before = before.filter(|_| deploy.parent > 0 || !removed(channel.1.as_ref()));
                self.check_deploy(catalogue, deploys, before, deploy)
                    .and_then(|()| self.check_order(&channel, &own[..at], deploy))
                    .map_err(|why| format!("{space}: deploy {}: {why}", deploy.number))?;
            }
        }
        Ok(())
    }

    fn check_deploy(
        &self,
        catalogue: &Catalogue,
        deploys: &[DeployView],
        before: Option<&DeployView>,
        deploy: &DeployView,
    ) -> Result<(), String> {
        let replaced = before.map_or(0, |before| before.number);
        let key = key(deploy);
        if deploy.kind == DeployKind::Rollback {
            let rollbacks = self.rollbacks.borrow();
            let rollback = rollbacks.get(key).ok_or("it was never asked for")?;
            return match rollback.expect {
                Some(expect) if expect != replaced => Err(format!(
                    "the rollback {key} replaced {replaced}, but expected {expect}"
                )),
                Some(_) | None => Ok(()),
            };
        }
        let all = self.asked.borrow();
        let asked = all.get(key).ok_or("it was never asked for")?;
        if asked.folder != deploy.root {
            return Err(format!("{key} published what is not what its folder holds"));
        }
        self.check_hold(asked, key, before)?;
        self.check_replaced(asked, key, deploys, before, deploy)?;
        check_removals(catalogue, asked, before, deploy)
    }

    fn check_hold(
        &self,
        asked: &Asked,
        key: &str,
        before: Option<&DeployView>,
    ) -> Result<(), String> {
        let Some(held) = before.filter(|before| before.kind == DeployKind::Rollback) else {
            return Ok(());
        };
        self.holds_met.set(self.holds_met.get() + 1);
        let is_named = asked.replace == Replace::Named && asked.expect == Some(held.number);
        let is_resumed = self.resumed.borrow().contains(&asked.channel.0);
        if is_named || is_resumed || asked.replace == Replace::Any {
            return Ok(());
        }
        Err(format!(
            "{key} broke the hold of the rollback {}",
            held.number
        ))
    }

    fn check_replaced(
        &self,
        asked: &Asked,
        key: &str,
        deploys: &[DeployView],
        before: Option<&DeployView>,
        deploy: &DeployView,
    ) -> Result<(), String> {
        let replaced = before.map_or(0, |before| before.number);
        let is_allowed = match asked.replace {
            Replace::Any => true,
            Replace::Exact | Replace::Named => asked.expect == Some(replaced),
            Replace::Seen => {
                let is_known = deploys
                    .iter()
                    .any(|other| other.number < deploy.number && other.root == deploy.root);
                let is_seen = match asked.expect {
                    Some(seen) => seen == replaced,
                    // A first request with a known root replaces the deploy that it meets, even if
                    // its reply is lost.
                    None => asked.met.is_empty() || asked.met.contains(&replaced) || is_known,
                };
                let is_resumed = self.resumed.borrow().contains(&asked.channel.0);
                replaced == 0 || is_seen || is_resumed || self.is_newer(asked, before)
            }
        };
        if is_allowed {
            return Ok(());
        }
        Err(format!(
            "{key} replaced {replaced}, which it never saw, but expected {asked:?}"
        ))
    }

    /// Whether a build may replace a deploy by its order. A build of the same sequence, not newer,
    /// must have made that deploy or found its content unchanged.
    fn is_newer(&self, asked: &Asked, before: Option<&DeployView>) -> bool {
        let (Some(order), Some(before)) = (&asked.order, before) else {
            return false;
        };
        let is_not_newer =
            |other: &Order| other.kind() == order.kind() && other.value() <= order.value();
        let all = self.asked.borrow();
        let made = all.get(key(before)).and_then(|made| made.order.as_ref());
        // Another build of the same folder may have found it unchanged, and its reply was lost.
        let is_found = self.found(before);
        let mut others = all.values().filter(|other| {
            other.channel == asked.channel && (is_found || other.folder == before.root)
        });
        made.is_some_and(is_not_newer)
            || others.any(|other| other.order.as_ref().is_some_and(is_not_newer))
    }

    fn found(&self, deploy: &DeployView) -> bool {
        let unchanged = self.unchanged.borrow();
        unchanged.iter().any(|found| found.deploy == deploy.number)
    }

    /// Checks that no newer build of the same sequence got a deploy or a reply before.
    fn check_order(
        &self,
        channel: &ChannelKey,
        before: &[&DeployView],
        deploy: &DeployView,
    ) -> Result<(), String> {
        let all = self.asked.borrow();
        let own = key(deploy);
        let Some(asked) = all.get(own).filter(|asked| asked.replace != Replace::Any) else {
            return Ok(());
        };
        let Some(order) = &asked.order else {
            return Ok(());
        };
        for earlier in before {
            let made = all.get(key(earlier)).and_then(|made| made.order.as_ref());
            if let Some(newer) = made.filter(|made| order.is_older_than(made)) {
                let number = earlier.number;
                return Err(format!(
                    "{own} ({order}) came after deploy {number} ({newer})"
                ));
            }
        }
        for found in self.unchanged.borrow().iter() {
            let is_before = found.channel == *channel && found.deploy < deploy.number;
            let newer = found
                .order
                .as_ref()
                .filter(|found| order.is_older_than(found));
            if let Some(newer) = newer.filter(|_| is_before) {
                return Err(format!(
                    "{own} ({order}) came after {newer} found its site live"
                ));
            }
        }
        Ok(())
    }
}

/// The key of a deploy's publish: the simulated publishers write it in the message.
fn key(deploy: &DeployView) -> &str {
    let message = deploy.meta.message.as_deref().unwrap_or_default();
    message.strip_prefix("as ").unwrap_or(message)
}

fn check_removals(
    catalogue: &Catalogue,
    asked: &Asked,
    before: Option<&DeployView>,
    deploy: &DeployView,
) -> Result<(), String> {
    let (Some(bound), Some(before)) = (asked.max_delete, before) else {
        return Ok(());
    };
    let files = |deploy: &DeployView| catalogue.site(&deploy.root).map(|site| &site.files);
    let (Some(old), Some(new)) = (files(before), files(deploy)) else {
        return Err("no publisher has its root".into());
    };
    let removed = old.keys().filter(|path| !new.contains_key(*path)).count();
    let allowed = match bound {
        MaxDelete::Files(files) => files as usize,
        MaxDelete::Percent(percent) => old.len() * usize::from(percent) / 100,
    };
    if removed <= allowed {
        return Ok(());
    }
    let key = key(deploy);
    Err(format!(
        "{key} removed {removed} files, but allowed {bound}"
    ))
}
