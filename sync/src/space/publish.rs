//! Publish command: reads an offer, reports what is missing, and commits if nothing is.

mod commit;
mod comparison;
mod offer;
mod reply;
mod rules;

use std::collections::BTreeMap;

use pmx_core::backend::Blobs;
use pmx_core::code::Code;
use pmx_core::id::{BlobId, SpaceId};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::begun;
use super::blob_index::{StoredBlob, toc_blobs};
use super::closure::{Incoming, Unfinished, check_closure};
use super::command::{Offer, PublishCommand};
use super::decide::CommitDecision;
use super::lease;
use super::ledger::Ledger;
use super::preconditions::{self, check_limits, decide};
use super::previews;
use super::repair;
use super::restore;
use crate::pack::stored::Toc;
use crate::wire::{BeginReply, CommitPreconditions, DeployView, PublishState};

use commit::{Commit, Seen};
use comparison::{changes, comparison_base, summary};
use offer::{ManifestUpdate, read_offer};
use reply::{outstanding, published, reply, with_arrived};

/// Carries out a publish as far as it can.
pub(crate) async fn publish<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    publish: PublishCommand,
    now: Timestamp,
) -> Result<BeginReply, Problem> {
    check_end(&publish)?;
    publish.commit.as_ref().map_or(Ok(()), check_limits)?;
    let alias = publish.alias.clone();
    let reply = carry_out(ledger, blobs, space, publish, now).await?;
    previews::with_end(ledger, alias.as_ref(), reply)
}

async fn carry_out<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    mut publish: PublishCommand,
    now: Timestamp,
) -> Result<BeginReply, Problem> {
    repair_first(ledger, blobs, space, &publish).await?;
    lease::begin(ledger, now, publish.lease, publish.dry)?;
    let seen = Seen::of(ledger)?;
    let active = ledger.current(publish.alias.as_ref())?;
    if let Some(deploy) = restore::begin(ledger, &publish)? {
        return Ok(published(deploy));
    }
    let is_whole = !ledger.damaged()?.contains(&publish.root) && restore::of(&publish).is_empty();
    let same = active.as_ref().filter(|deploy| deploy.root == publish.root);
    if let Some(deploy) = same.filter(|_| is_whole) {
        return unchanged(ledger, &publish, deploy);
    }
    begun::resolve(ledger, &mut publish, active.as_ref())?;
    // The space refuses early, before the client uploads anything for it.
    if let Some(preconditions) = publish.commit.as_ref().filter(|_| !publish.dry)
        && let CommitDecision::Repeat(deploy) = decide(ledger, &publish, preconditions)?
    {
        return Ok(published(*deploy));
    }
    let mut incoming = Incoming::default();
    match read_offer(ledger, &publish)? {
        ManifestUpdate::Incomplete(state, nodes) => {
            renew(ledger, &publish, now)?;
            let rest = reply(state, active.as_ref());
            return with_arrived(ledger, BeginReply { nodes, ..rest });
        }
        ManifestUpdate::Nodes(nodes) => incoming.nodes.extend(nodes),
    }
    incoming.unverified = matches!(publish.offer, Offer::Nodes(_));
    incoming.pack = inline_pack(&publish)?;
    let closure = match check_closure(ledger, &incoming, &publish.root, publish.files_max) {
        Ok(closure) => closure,
        Err(Unfinished::Fault(problem)) => return Err(problem),
        Err(Unfinished::Incomplete) => {
            keep_nodes(ledger, &incoming, &publish, now)?;
            return Ok(reply(PublishState::Outline, active.as_ref()));
        }
    };
    if let Some(preconditions) = publish.commit.as_ref().filter(|_| !publish.dry)
        && closure.is_closed
        && may_commit(ledger, &publish, preconditions)?
    {
        let commit = Commit {
            ledger,
            incoming: &incoming,
            closure: &closure,
            preconditions,
            seen,
        };
        return commit.run(blobs, space, &publish, now).await;
    }
    // Without a commit the inline pack is discarded, and its blobs are reported missing.
    let compared = comparison_base(ledger, active.as_ref())?;
    let changes = changes(ledger, &incoming, compared.as_ref(), &publish.root)?;
    let summary = summary(changes.as_deref(), &closure);
    keep_nodes(ledger, &incoming, &publish, now)?;
    Ok(BeginReply {
        summary: Some(summary),
        ..outstanding(closure, active.as_ref())
    })
}

/// The blobs of the inline pack, which only a commit writes.
fn inline_pack(publish: &PublishCommand) -> Result<BTreeMap<BlobId, StoredBlob>, Problem> {
    let Some(pack) = publish.pack.as_ref().filter(|_| publish.commit.is_some()) else {
        return Ok(BTreeMap::new());
    };
    let toc = Toc::decode(&pack.toc);
    let toc = toc.map_err(|e| Problem::new(Code::PackMalformed, format!("reading a pack: {e}")))?;
    Ok(toc_blobs(publish.index, &toc).collect())
}

/// Refuses an end for the site itself: only previews have one.
fn check_end(publish: &PublishCommand) -> Result<(), Problem> {
    let expires = publish.commit.as_ref().and_then(|commit| commit.expires);
    if publish.alias.is_some() || expires.is_none() {
        return Ok(());
    }
    let detail = "a publish names an end (`expires`) without a preview; only previews end";
    Err(Problem::new(Code::RequestMalformed, detail))
}

/// Takes in the losses that readers reported, before anything is compared with the ledger.
async fn repair_first<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    publish: &PublishCommand,
) -> Result<(), Problem> {
    if !ledger.has_losses()? {
        return Ok(());
    }
    let active = ledger.current(publish.alias.as_ref())?;
    let active = active.map(|deploy| deploy.root);
    let roots = [Some(publish.root), publish.base, active];
    let roots = roots.into_iter().flatten().collect();
    // A separate ledger, because the caller's caches its look-ups.
    repair::take_in(&Ledger::new(ledger.sql()), blobs, space, roots).await?;
    ledger.check_same(space)
}

/// Whether a request may commit. A first request that names only the root commits only if the root
/// was deployed before. If it arrives late, after a refusal of its publish, it commits nothing.
fn may_commit<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
    preconditions: &CommitPreconditions,
) -> Result<bool, Problem> {
    let is_bare = preconditions.is_first() && matches!(publish.offer, Offer::Root);
    // An index node alone proves no deploy: it may belong to another root, or to a refused commit.
    let is_indexed = ledger.node_extent(&publish.root)?.is_some();
    Ok(!is_bare || is_indexed && ledger.was_deployed(&publish.root)?)
}

/// The reply if the root is already active.
fn unchanged<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
    deploy: &DeployView,
) -> Result<BeginReply, Problem> {
    // A client that repeats a commit, because it lost the answer, gets the same answer.
    if let Some(preconditions) = &publish.commit
        && let Some(made) = ledger.find_by_idempotency_key(&preconditions.key)?
        && made.deploy.root == publish.root
        && made.deploy.alias == publish.alias
    {
        return Ok(published(made.deploy));
    }
    if let Some(preconditions) = publish.commit.as_ref().filter(|_| !publish.dry) {
        preconditions::note_unchanged(ledger, publish, preconditions, deploy)?;
        ledger.atomically(|ledger| previews::set_end(ledger, publish))?;
    }
    Ok(reply(PublishState::Current, Some(deploy)))
}

fn keep_nodes<S: Sql>(
    ledger: &Ledger<'_, S>,
    incoming: &Incoming,
    publish: &PublishCommand,
    now: Timestamp,
) -> Result<(), Problem> {
    renew(ledger, publish, now)?;
    if publish.dry || incoming.nodes.is_empty() {
        return Ok(());
    }
    Ok(ledger.keep_nodes(incoming.nodes.iter(), incoming.unverified, now)?)
}

/// A publish in progress renews the lease of its uploads.
fn renew<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
    now: Timestamp,
) -> Result<(), SqlError> {
    if publish.dry {
        return Ok(());
    }
    lease::touch(ledger, now)
}
