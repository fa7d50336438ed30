//! Outbox delivery: writes the pointers that a space decided to the pointer store of readers.

use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::id::SpaceId;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::{Backend, Pointers};
use super::publish::unexpected;
use super::server::Server;
use crate::space::{Command, Due, Outbox, Reply};
use crate::wire::{CollectReply, Repack};

/// How long a caller waits before it tries again to write a pointer.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

impl<B: Backend> Server<B> {
    /// Removes previews whose time is over, writes the pointers of the space's outbox, each
    /// independent of the others, and then deletes objects of removed spaces. Returns when to call
    /// again, if a write failed, a preview ends or objects are left.
    ///
    /// # Errors
    ///
    /// The space's own failure, or one of deleting objects. If no write failed, also the reason why
    /// a pointer cannot be made.
    pub async fn deliver(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Problem> {
        let (ends, purge) = self.expire(space, now).await?;
        let mut failed = Vec::new();
        let mut outbox = self.outbox(space, Command::PendingPointers, now).await?;
        // Each acknowledgement returns the current outbox: another deploy may have become active.
        while let Some(Due { alias, pointer }) = next(&mut outbox, &failed) {
            let channel = Channel {
                space: space.clone(),
                alias,
            };
            let written = self.backend().pointers().write(&channel, &pointer).await;
            if written.is_err() {
                failed.push(channel.alias);
                continue;
            }
            outbox = self
                .outbox(space, Command::ack(channel.alias, &pointer), now)
                .await?;
        }
        // Objects that cannot be deleted hold up no pointer.
        if let Some(removed) = purge {
            self.purge_of(space, removed, now).await?;
        }
        match outbox.blocked.into_iter().next() {
            Some(problem) if failed.is_empty() => Err(problem),
            Some(_) | None if failed.is_empty() => Ok(ends),
            Some(_) | None => Ok(Some(now.after(WRITE_PAUSE))),
        }
    }

    /// Does what the space's alarm has to do: delivers, and then takes one step of a collection if
    /// one is due. Returns when to call again.
    ///
    /// # Errors
    ///
    /// Those of [`Server::deliver`], or of the collection. The caller calls again in any case.
    pub async fn tend(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Problem> {
        let next = self.deliver(space, now).await?;
        if next.is_none_or(|next| next > now) {
            return Ok(next);
        }
        match self.collect(space, now).await {
            Ok(step) if step.more => Ok(Some(now)),
            Ok(_) => self.deliver(space, now).await,
            // The space was deleted since.
            Err(absent) if absent.code == Code::NotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Takes one step of a collection.
    async fn collect(&self, space: &SpaceName, now: Timestamp) -> Result<CollectReply, Problem> {
        let step = Command::Collect {
            start: false,
            dry: false,
            repack: Repack::default(),
        };
        match self.call(space, step, now).await? {
            Reply::Collected(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes previews whose time is over. Returns when the next one ends, and the removed space
    /// whose objects may go now.
    async fn expire(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<(Option<Timestamp>, Option<SpaceId>), Problem> {
        match self.call(space, Command::ExpirePreviews, now).await? {
            Reply::Expired { next, purge, .. } => Ok((next, purge)),
            other => Err(unexpected(&other)),
        }
    }

    async fn outbox(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Outbox, Problem> {
        match self.call(space, command, now).await? {
            Reply::Due(outbox) => Ok(outbox),
            other => Err(unexpected(&other)),
        }
    }
}

/// Takes the next pointer of a channel whose write has not failed.
fn next(outbox: &mut Outbox, failed: &[Option<pmx_core::name::AliasName>]) -> Option<Due> {
    let at = outbox
        .due
        .iter()
        .position(|due| !failed.contains(&due.alias))?;
    Some(outbox.due.remove(at))
}
