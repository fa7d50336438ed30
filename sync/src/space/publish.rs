//! Publish command: reads an offer, reports what is missing, and commits if nothing is.

use std::collections::BTreeSet;

use bytes::Bytes;
use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId, Root, SpaceId};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::blob_index;
use super::blob_index::toc_blobs;
use super::closure::{Closure, Incoming, Unfinished, check_closure};
use super::command::{Offer, Publish};
use super::decide::Verdict;
use super::events::{self, Changes};
use super::index_object::{IndexObject, build};
use super::lease;
use super::ledger::{DeployWithKey, Ledger, NodeState};
use super::preconditions::{self, check_limits, decide};
use super::repair;
use crate::limits::PREFIX_RAW_BYTES_MAX;
use crate::manifest::{
    Change, Edit, Layered, ManifestError, NewNode, Node, check_clashes, decode_patch, diff, edit,
    lookup,
};
use crate::pack::stored::Toc;
use crate::path::SitePath;
use crate::wire::{
    BeginReply, CommitPreconditions, DeployKind, DeployView, Ranges, State, Summary,
};

/// The manifest nodes that a client's offer yields.
enum ManifestUpdate {
    /// The nodes it brought or led to.
    Nodes(Vec<NewNode>),
    /// The client has to send more first.
    Incomplete(State, Ranges),
}

/// Carries a publish out as far as it gets.
pub(crate) async fn publish<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    publish: Publish,
    now: Timestamp,
) -> Result<BeginReply, Problem> {
    repair_first(ledger, blobs, space, &publish).await?;
    lease::begin(ledger, now, publish.lease, publish.dry)?;
    let active = ledger.current(publish.alias.as_ref())?;
    if let Some(preconditions) = &publish.commit {
        check_limits(preconditions)?;
    }
    let is_whole = !ledger.damaged()?.contains(&publish.root);
    let same = active.as_ref().filter(|deploy| deploy.root == publish.root);
    if let Some(deploy) = same.filter(|_| is_whole) {
        return unchanged(ledger, &publish, deploy);
    }
    // What would be refused in the end is refused before anything is sent for it.
    if let Some(preconditions) = publish.commit.as_ref().filter(|_| !publish.dry)
        && let Verdict::Repeat(deploy) = decide(ledger, &publish, preconditions)?
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
    if let Some(pack) = publish.pack.as_ref().filter(|_| publish.commit.is_some()) {
        let toc = Toc::decode(&pack.toc)
            .map_err(|e| Problem::new(Code::PackMalformed, format!("reading a pack: {e}")))?;
        incoming.pack = toc_blobs(publish.index, &toc).collect();
    }
    let closure = match check_closure(ledger, &incoming, &publish.root, publish.files_max) {
        Ok(closure) => closure,
        Err(Unfinished::Fault(problem)) => return Err(problem),
        Err(Unfinished::Incomplete) => {
            keep_nodes(ledger, &incoming, &publish, now)?;
            return Ok(reply(State::Outline, active.as_ref()));
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

/// Takes in what readers found lost, before anything is compared with it.
async fn repair_first<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    publish: &Publish,
) -> Result<(), Problem> {
    if !ledger.has_losses()? {
        return Ok(());
    }
    let active = ledger.current(publish.alias.as_ref())?;
    let active = active.map(|deploy| deploy.root);
    let roots = [Some(publish.root), publish.base, active];
    let roots = roots.into_iter().flatten().collect();
    // A ledger of its own, because the caller's remembers what it looks up.
    repair::take_in(&Ledger::new(ledger.sql()), blobs, space, roots).await
}

/// Whether a request may commit: a first one that names the root alone commits a root that was a
/// deploy's before. If it arrives late, after what it led to was refused, it commits nothing.
fn may_commit<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &Publish,
    preconditions: &CommitPreconditions,
) -> Result<bool, Problem> {
    let is_bare = preconditions.is_first() && matches!(publish.offer, Offer::Root);
    // An index alone is no deploy: the node may be another root's, or a refused commit's.
    let is_indexed = ledger.node_extent(&publish.root)?.is_some();
    Ok(!is_bare || is_indexed && ledger.was_deployed(&publish.root)?)
}

/// The reply to an offer that does not lead to the root yet.
fn with_arrived<S: Sql>(ledger: &Ledger<'_, S>, reply: BeginReply) -> Result<BeginReply, Problem> {
    if reply.state == State::Outline && reply.active == 0 {
        // A client that read its files ahead asks whether it began to send them before.
        let packs = ledger.arrived_packs()?;
        return Ok(BeginReply { packs, ..reply });
    }
    if reply.state != State::Base {
        return Ok(reply);
    }
    Ok(BeginReply {
        parts: ledger.arrived_parts()?,
        packs: ledger.arrived_packs()?,
        prefix_max: Some(PREFIX_RAW_BYTES_MAX),
        ..reply
    })
}

/// The reply that names what a root lacks.
fn outstanding(closure: Closure, active: Option<&DeployView>) -> BeginReply {
    let state = if closure.missing.is_empty() {
        State::Ready
    } else {
        State::Blobs
    };
    BeginReply {
        blobs: closure.missing,
        parts: closure.parts,
        ..reply(state, active)
    }
}

/// The reply if the root is already active.
fn unchanged<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &Publish,
    deploy: &DeployView,
) -> Result<BeginReply, Problem> {
    // A commit that is repeated because its answer was lost is answered as then.
    if let Some(preconditions) = &publish.commit
        && let Some(made) = ledger.find_by_idempotency_key(&preconditions.key)?
        && made.deploy.root == publish.root
        && made.deploy.alias == publish.alias
    {
        return Ok(published(made.deploy));
    }
    if let Some(preconditions) = publish.commit.as_ref().filter(|_| !publish.dry) {
        preconditions::note_unchanged(ledger, publish, preconditions, deploy)?;
    }
    Ok(reply(State::Current, Some(deploy)))
}

fn reply(state: State, active: Option<&DeployView>) -> BeginReply {
    BeginReply {
        state,
        active: active.map_or(0, |deploy| deploy.number),
        root: active
            .map(|deploy| deploy.root)
            .filter(|_| state != State::Current),
        nodes: Ranges::default(),
        blobs: Ranges::default(),
        parts: Vec::new(),
        packs: Vec::new(),
        prefix_max: None,
        summary: None,
        deploy: None,
        url: None,
    }
}

/// Reads what the client sent of its manifest.
fn read_offer<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &Publish,
) -> Result<ManifestUpdate, Problem> {
    let nothing = Ranges::default();
    match &publish.offer {
        Offer::Nodes(nodes) => {
            let nodes = nodes.iter().map(verify_node).collect::<Result<_, _>>()?;
            Ok(ManifestUpdate::Nodes(nodes))
        }
        Offer::Outline(ids) => {
            if ids.first() != Some(&publish.root) {
                let detail = "an outline begins with another node than the root";
                return Err(Problem::new(Code::RequestMalformed, detail));
            }
            let (mut missing, mut seen) = (Ranges::default(), BTreeSet::new());
            for (id, place) in ids.iter().zip(0..) {
                if seen.insert(id) && ledger.node_state(id)? == NodeState::Absent {
                    missing.push(place);
                }
            }
            let complete = missing.is_empty();
            Ok(if complete {
                ManifestUpdate::Nodes(Vec::new())
            } else {
                ManifestUpdate::Incomplete(State::Nodes, missing)
            })
        }
        Offer::Root | Offer::Patch(_) if is_known(ledger, &publish.root)? => {
            Ok(ManifestUpdate::Nodes(Vec::new()))
        }
        Offer::Root | Offer::Patch(_) => match (publish.base, &publish.offer) {
            (Some(base), offer) if ledger.node_extent(&base)?.is_some() => {
                let Offer::Patch(patch) = offer else {
                    return Ok(ManifestUpdate::Incomplete(State::Base, nothing));
                };
                let uploaded = uploaded_blobs(ledger, publish)?;
                let nodes = apply_patch(ledger, (base, patch), &uploaded, publish.root)?;
                Ok(ManifestUpdate::Nodes(nodes))
            }
            (Some(_) | None, _) => Ok(ManifestUpdate::Incomplete(State::Outline, nothing)),
        },
    }
}

/// The blobs that a patch counts: those of the packs it names, or of the one that came along.
fn uploaded_blobs<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &Publish,
) -> Result<Vec<(BlobId, u64)>, Problem> {
    let unreadable = |e| Problem::new(Code::PackMalformed, format!("reading a pack: {e}"));
    let mut uploaded = Vec::new();
    let mut add = |toc: &[u8]| {
        let toc = Toc::decode(toc).map_err(unreadable)?;
        uploaded.extend(toc.entries().iter().map(|entry| (entry.blob, entry.raw)));
        Ok::<_, Problem>(())
    };
    for pack in &publish.packs {
        let toc = ledger.pending_toc(pack)?.ok_or_else(|| {
            let detail =
                format!("the patch counts blobs of pack {pack}, which the space does not hold");
            Problem::new(Code::MissingObjects, detail)
        })?;
        add(&toc)?;
    }
    if let Some(pack) = &publish.pack {
        add(&pack.toc)?;
    }
    Ok(uploaded)
}

fn is_known<S: Sql>(ledger: &Ledger<'_, S>, root: &Root) -> Result<bool, Problem> {
    Ok(ledger.node_state(root)? != NodeState::Absent)
}

fn verify_node(bytes: &Bytes) -> Result<NewNode, ManifestError> {
    let id = NodeId::of(bytes);
    Node::verify(bytes, id)?;
    Ok(NewNode {
        id,
        bytes: bytes[..].into(),
    })
}

/// Applies a patch to our own copy of its base: arriving at the announced root is the proof.
fn apply_patch<S: Sql>(
    ledger: &Ledger<'_, S>,
    (base, patch): (Root, &Bytes),
    uploaded: &[(BlobId, u64)],
    announced: Root,
) -> Result<Vec<NewNode>, Problem> {
    let edits = decode_patch(patch, ledger, base, uploaded)?;
    let built = edit(ledger, base, &edits)?;
    if built.root != announced {
        let arrived = built.root;
        return Err(ManifestError::WrongRoot { announced, arrived }.into());
    }
    let mut nodes = crate::manifest::NodeMap::default();
    nodes.extend(built.nodes.iter().cloned());
    let source = Layered {
        new: &nodes,
        old: ledger,
    };
    check_clashes(&source, announced, new_paths(ledger, base, &edits)?)?;
    Ok(built.nodes)
}

fn new_paths<'e, S: Sql>(
    ledger: &Ledger<'_, S>,
    base: Root,
    edits: &'e [Edit],
) -> Result<Vec<&'e SitePath>, ManifestError> {
    let mut paths = Vec::new();
    for edit in edits.iter().filter(|edit| edit.entry.is_some()) {
        if lookup(ledger, base, &edit.path)?.is_none() {
            paths.push(&edit.path);
        }
    }
    Ok(paths)
}

fn keep_nodes<S: Sql>(
    ledger: &Ledger<'_, S>,
    incoming: &Incoming,
    publish: &Publish,
    now: Timestamp,
) -> Result<(), Problem> {
    renew(ledger, publish, now)?;
    if publish.dry || incoming.nodes.is_empty() {
        return Ok(());
    }
    Ok(ledger.keep_nodes(incoming.nodes.iter(), incoming.unverified, now)?)
}

/// A publish that goes on keeps what waits for it.
fn renew<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &Publish,
    now: Timestamp,
) -> Result<(), SqlError> {
    if publish.dry {
        return Ok(());
    }
    lease::touch(ledger, now)
}

/// What a publish is compared with: the deploy that it replaces, or with a new preview, the active
/// one.
fn comparison_base<S: Sql>(
    ledger: &Ledger<'_, S>,
    replaced: Option<&DeployView>,
) -> Result<Option<DeployView>, Problem> {
    match replaced {
        Some(replaced) => Ok(Some(replaced.clone())),
        None => Ok(ledger.active()?),
    }
}

/// What differs from a deploy; nothing if there is none.
fn changes<S: Sql>(
    ledger: &Ledger<'_, S>,
    incoming: &Incoming,
    active: Option<&DeployView>,
    root: &Root,
) -> Result<Option<Vec<Change>>, Problem> {
    let Some(active) = active else {
        return Ok(None);
    };
    let source = Layered {
        new: &incoming.nodes,
        old: ledger,
    };
    Ok(Some(diff(ledger, active.root, &source, *root)?))
}

fn summary(changes: Option<&[Change]>, closure: &Closure) -> Summary {
    let files = closure.totals.files;
    match changes {
        Some(changes) => Summary::of(changes, files),
        None => Summary {
            added: files,
            ..Summary::default()
        },
    }
}

/// A commit whose root lacks nothing.
struct Commit<'a, S: Sql> {
    ledger: &'a Ledger<'a, S>,
    incoming: &'a Incoming,
    closure: &'a Closure,
    preconditions: &'a CommitPreconditions,
}

impl<S: Sql> Commit<'_, S> {
    /// Writes the index object, then commits in one turn.
    async fn run<B: Blobs>(
        &self,
        blobs: &B,
        space: SpaceId,
        publish: &Publish,
        now: Timestamp,
    ) -> Result<BeginReply, Problem> {
        // Decided twice: here to avoid an unnecessary write, and in the transaction for good.
        if let Verdict::Repeat(deploy) = decide(self.ledger, publish, self.preconditions)? {
            return Ok(published(*deploy));
        }
        if self.preconditions.max_delete.is_some() {
            let replaced = self.ledger.current(publish.alias.as_ref())?;
            self.changes(self.ledger, replaced.as_ref(), publish)?;
        }
        let pack = publish.pack.as_ref().map(|pack| &pack.object);
        let prepared = build(
            self.ledger,
            self.incoming,
            self.closure,
            publish.index,
            pack,
        )?;
        if let Some(object) = &prepared.bytes {
            let key = ObjectKey {
                space,
                object: publish.index,
            };
            blobs.write(key, object.clone()).await?;
        }
        let deploy = self
            .ledger
            .atomically(|turn| self.commit_in_transaction(turn, &prepared, publish, now))?;
        Ok(published(deploy))
    }

    /// What the root changes in the deploy that it replaces, if the preconditions allow so much.
    fn changes(
        &self,
        ledger: &Ledger<'_, S>,
        replaced: Option<&DeployView>,
        publish: &Publish,
    ) -> Result<(Option<Vec<Change>>, Summary), Problem> {
        let compared = comparison_base(ledger, replaced)?;
        let changes = changes(ledger, self.incoming, compared.as_ref(), &publish.root)?;
        let summary = summary(changes.as_deref(), self.closure);
        if let Some(bound) = self.preconditions.max_delete {
            bound.check(&summary)?;
        }
        Ok((changes, summary))
    }

    /// Moves what arrived for the root to what the space has.
    fn move_arrived(
        &self,
        ledger: &Ledger<'_, S>,
        prepared: &IndexObject,
        publish: &Publish,
    ) -> Result<(), Problem> {
        let mut arrived = self.closure.arrived.clone();
        if prepared.bytes.is_none() {
            // The root was indexed before, so nothing was written, nor the pack that came along.
            arrived.retain(|_, held| held.location.extent.object != publish.index);
        }
        // A pack that is sent again is taken for kept, so all its blobs have to be found.
        for pack in &self.closure.packs {
            for (blob, held) in ledger.pending_blobs(pack)? {
                arrived.entry(blob).or_insert(held);
            }
        }
        arrived.extend(&prepared.assembled);
        blob_index::add(ledger, &arrived)?;
        for pack in &self.closure.packs {
            ledger.fold_pack(pack)?;
        }
        for blob in prepared.assembled.keys() {
            ledger.drop_parts(blob)?;
        }
        Ok(())
    }

    /// The one turn that makes a root active, or its preview's: all of it or nothing.
    fn commit_in_transaction(
        &self,
        ledger: &Ledger<'_, S>,
        prepared: &IndexObject,
        publish: &Publish,
        now: Timestamp,
    ) -> Result<DeployView, Problem> {
        let (number, parent) = match decide(ledger, publish, self.preconditions)? {
            Verdict::Repeat(deploy) => return Ok(*deploy),
            Verdict::Activate { number, parent } => (number, parent),
        };
        // What is there now, not when the object began to be written: a new preview is compared
        // with a deploy that it does not expect.
        let replaced = ledger.current(publish.alias.as_ref())?;
        let (changes, summary) = self.changes(ledger, replaced.as_ref(), publish)?;
        if ledger.lost()? != self.ledger.lost()? {
            let detail = "content was lost while its deploy was written";
            return Err(Problem::new(Code::MissingObjects, detail));
        }
        for (node, index_node) in &prepared.nodes {
            ledger.record_indexed_node(node, index_node)?;
        }
        for (node, index_node) in &prepared.repaired {
            ledger.record_repaired_node(node, index_node)?;
        }
        self.move_arrived(ledger, prepared, publish)?;
        let deploy = DeployView {
            number,
            root: publish.root,
            parent,
            kind: DeployKind::Publish,
            restores: None,
            at: now,
            files: self.closure.totals.files,
            bytes: self.closure.totals.bytes,
            new_bytes: self.closure.new_bytes,
            summary,
            order: self.preconditions.order.clone(),
            meta: self.preconditions.meta.clone(),
            alias: publish.alias.clone(),
        };
        ledger.record(&DeployWithKey {
            deploy: deploy.clone(),
            key: self.preconditions.key.clone(),
        })?;
        ledger.end_hold(publish.alias.as_ref())?;
        let changes = Changes {
            since: replaced.map(|deploy| deploy.root),
            all: changes.unwrap_or_default(),
        };
        events::append_event(ledger, &deploy, &changes)?;
        Ok(deploy)
    }
}

fn published(deploy: DeployView) -> BeginReply {
    let summary = Some(deploy.summary);
    let active = deploy.number;
    let base = reply(State::Published, None);
    BeginReply {
        active,
        summary,
        deploy: Some(Box::new(deploy)),
        ..base
    }
}
