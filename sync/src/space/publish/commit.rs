//! Commit: writes the index object of a complete root, then activates the root in one transaction.

use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::id::SpaceId;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::super::blob_index::{self, BlobIndex};
use super::super::closure::{Closure, Incoming};
use super::super::command::PublishCommand;
use super::super::decide::CommitDecision;
use super::super::events::{self, Changes};
use super::super::index_object::{IndexObject, build};
use super::super::ledger::{DeployWithKey, Ledger};
use super::super::preconditions::decide;
use super::super::previews;
use super::super::restore;
use super::comparison::{changes, comparison_base, summary};
use super::reply::published;
use crate::manifest::Change;
use crate::wire::{
    BeginReply, CommitPreconditions, DeployContent, DeployKind, DeployView, Summary,
};

/// A commit whose root is complete.
pub(super) struct Commit<'a, S: Sql> {
    pub(super) ledger: &'a Ledger<'a, S>,
    pub(super) incoming: &'a Incoming,
    pub(super) closure: &'a Closure,
    pub(super) preconditions: &'a CommitPreconditions,
    pub(super) seen: Seen,
}

/// What a commit relies on since it first looked at the ledger, beside its preconditions.
pub(super) struct Seen {
    /// The epoch of the last sweep.
    swept: u64,
    /// The number of the last deploy.
    last: u64,
    /// How often index nodes moved, at least.
    revision: u64,
}

impl Seen {
    pub(super) fn of<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Self, SqlError> {
        Ok(Self {
            swept: ledger.collector()?.swept,
            last: ledger.last_number()?,
            revision: ledger.revision()?,
        })
    }

    /// Refuses a commit if what its index nodes name may be garbage now, or if another deploy has
    /// the same new nodes: readers of this one would follow its own index nodes, and a collection
    /// those of the other. The client repeats the commit.
    fn check<S: Sql>(
        &self,
        turn: &Ledger<'_, S>,
        closure: &Closure,
        prepared: &IndexObject,
    ) -> Result<(), Problem> {
        let refused = |why: &str| Err(Problem::new(Code::Unavailable, why));
        if turn.collector()?.swept != self.swept {
            return refused("the space collected garbage while a deploy was written");
        }
        if turn.revision()? != self.revision {
            // A collection follows the rows of nodes, and readers of the deploy its index nodes.
            for (child, named) in &prepared.named {
                if turn.node_extent(child)? != Some(*named) {
                    return refused("index nodes moved while a deploy was written");
                }
            }
            if !prepared.repaired.is_empty() {
                return refused("index nodes moved while a deploy repaired lost content");
            }
            // The ledger forgets a blob with the object in which it has it.
            let have = BlobIndex::new(turn);
            for (blob, held) in &closure.located {
                if have.find(blob)?.is_some_and(|now| now != *held) {
                    return refused("content moved while a deploy was written");
                }
            }
        }
        if turn.last_number()? == self.last {
            return Ok(());
        }
        let damaged = turn.damaged()?;
        for (node, ..) in &prepared.nodes {
            if !damaged.contains(&node.id) && turn.node_extent(&node.id)?.is_some() {
                return refused(
                    "another deploy with the same content was written at the same time",
                );
            }
        }
        if !prepared.repaired.is_empty() {
            return refused("another deploy was written while this one repaired lost content");
        }
        Ok(())
    }
}

impl<S: Sql> Commit<'_, S> {
    /// Writes the index object, then commits in one transaction.
    pub(super) async fn run<B: Blobs>(
        &self,
        blobs: &B,
        space: SpaceId,
        publish: &PublishCommand,
        now: Timestamp,
    ) -> Result<BeginReply, Problem> {
        // Decided twice: here to avoid an unnecessary write, and in the transaction for good.
        if let CommitDecision::Repeat(deploy) = decide(self.ledger, publish, self.preconditions)? {
            return Ok(published(*deploy));
        }
        if self.preconditions.max_delete.is_some() {
            let replaced = self.ledger.current(publish.alias.as_ref())?;
            self.changes(self.ledger, replaced.as_ref(), publish)?;
        }
        // What was live once is restored, whatever the rules of today say.
        if self.preconditions.restore.is_empty() {
            self.check_rules(blobs, space, publish).await?;
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
            // The row comes first: an object without one would never be deleted.
            let bytes = object.len() as u64;
            self.ledger.record_object(&publish.index, bytes)?;
            let key = ObjectKey {
                space,
                object: publish.index,
            };
            blobs.write(key, object.clone()).await?;
        }
        let deploy = self.ledger.atomically(|turn| {
            // The write of the object let other commands pass, a deletion too.
            turn.check_same(space)?;
            self.seen.check(turn, self.closure, &prepared)?;
            self.commit_in_transaction(turn, &prepared, publish, now)
        })?;
        Ok(published(deploy))
    }

    /// The changes against the replaced deploy; refused if the preconditions allow fewer.
    fn changes(
        &self,
        ledger: &Ledger<'_, S>,
        replaced: Option<&DeployView>,
        publish: &PublishCommand,
    ) -> Result<(Option<Vec<Change>>, Summary), Problem> {
        let compared = comparison_base(ledger, replaced)?;
        let changes = changes(ledger, self.incoming, compared.as_ref(), &publish.root)?;
        let summary = summary(changes.as_deref(), self.closure);
        if let Some(bound) = self.preconditions.max_delete {
            bound.check(&summary)?;
        }
        Ok((changes, summary))
    }

    /// Moves the root's arrived blobs to the blob index.
    fn move_arrived(
        &self,
        ledger: &Ledger<'_, S>,
        prepared: &IndexObject,
        publish: &PublishCommand,
    ) -> Result<(), Problem> {
        let mut arrived = self.closure.arrived.clone();
        if prepared.bytes.is_none() {
            // The root was indexed before, so the commit wrote no object and no inline pack.
            arrived.retain(|_, held| held.location.extent.object != publish.index);
        }
        // The space takes a pack that is sent again for recorded, so all its blobs must be found.
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

    /// The one transaction that makes a root active, or its preview's.
    fn commit_in_transaction(
        &self,
        ledger: &Ledger<'_, S>,
        prepared: &IndexObject,
        publish: &PublishCommand,
        now: Timestamp,
    ) -> Result<DeployView, Problem> {
        let (number, parent) = match decide(ledger, publish, self.preconditions)? {
            CommitDecision::Repeat(deploy) => return Ok(*deploy),
            CommitDecision::Activate { number, parent } => (number, parent),
        };
        // The current deploy, not the one from before the write of the object. A new preview is
        // compared with a deploy that it does not expect.
        let replaced = ledger.current(publish.alias.as_ref())?;
        let (changes, summary) = self.changes(ledger, replaced.as_ref(), publish)?;
        if ledger.lost()? != self.ledger.lost()? {
            let detail = "content was lost while its deploy was written";
            return Err(Problem::new(Code::MissingObjects, detail));
        }
        let damaged = ledger.damaged()?;
        let is_repair = prepared
            .nodes
            .iter()
            .any(|(node, ..)| damaged.contains(&node.id));
        for (node, index_node, references) in &prepared.nodes {
            ledger.record_indexed_node(node, index_node, references)?;
        }
        for (node, index_node, references) in &prepared.repaired {
            ledger.record_repaired_node(node, index_node, references)?;
        }
        if is_repair || !prepared.repaired.is_empty() {
            ledger.announce_all_again()?;
        }
        for big in &self.closure.assembled {
            ledger.record_big(&big.blob, big.table.locations())?;
        }
        self.move_arrived(ledger, prepared, publish)?;
        let changes = Changes {
            since: replaced.map(|deploy| deploy.root),
            all: changes.unwrap_or_default(),
        };
        if let Some((last, before)) = self.preconditions.restore.split_last() {
            return restore::commit(ledger, before, last, self.closure.totals, &changes);
        }
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
            content: DeployContent::Kept,
            pinned: false,
        };
        ledger.record(&DeployWithKey {
            deploy: deploy.clone(),
            key: self.preconditions.key.clone(),
        })?;
        previews::set_end(ledger, publish)?;
        ledger.end_hold(publish.alias.as_ref())?;
        events::append_event(ledger, &deploy, &changes)?;
        Ok(deploy)
    }
}
