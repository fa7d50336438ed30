//! Planted bugs, as decorators of the port of spaces: the simulation must find each of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::encode::write_varint;
use pmx_core::id::{BlobId, PackId, Root};
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::pack::stored::Toc;
use pmx_sync::serve::{Pointers as _, Spaces as _};
use pmx_sync::space::{Command, PublishCommand, Reply};
use pmx_sync::testing::Faulty;
use pmx_sync::wire::{Order, PublishState, Replace};

use super::chaos::Hooked;
use super::mutant::Flaw;
use super::world::{Pointers, Spaces};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A commit replaces any active deploy.
    NoCompareAndSwap,
    /// The pointer is written after the commit, instead of from the outbox.
    PointerInline,
    /// The server trusts a client's claim about a pack.
    NoVerification,
    /// A build that changes nothing records no order.
    UnchangedForgetsOrder,
    /// A publish without `--expect` replaces the deploy that it meets.
    ReplacesWhatItMeets,
    /// A publish that saw a rollback replaces it, as if it were any deploy.
    HoldIgnored,
    /// The space compares builds of all sequences.
    OrdersOfOneSequence,
    /// The server does not apply the bound on removals to the replaced deploy.
    MaxDeleteUnchecked,
    /// A client publishes the content of its cache, not of its folder.
    CacheTrusted,
    /// A space does not record losses of its store.
    LossUnnoticed,
    /// One of the collection.
    Collection(Flaw),
}

/// Spaces with or without a bug.
#[derive(Clone)]
pub(crate) struct Planted {
    pub(crate) bug: Option<Bug>,
    pub(crate) plain: Spaces,
    pub(crate) faulty: Faulty<Spaces, Hooked>,
    pub(crate) pointers: Pointers,
    pub(crate) changed: Rc<RefCell<BTreeMap<PackId, Vec<BlobId>>>>,
    pub(crate) arrivals: Rc<RefCell<Vec<(Command, Timestamp)>>>,
}

impl pmx_sync::serve::Spaces for Planted {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let command = match command {
            Command::Publish(publish) => {
                let publish = self.spoilt(space, *publish, now).await?;
                Command::Publish(Box::new(publish))
            }
            Command::Lost(_) if self.bug == Some(Bug::LossUnnoticed) => {
                return Err(Problem::new(Code::Storage, "the planted bug"));
            }
            command if self.bug == Some(Bug::NoVerification) => self.believed(command),
            command => command,
        };
        if matches!(command, Command::RecordPack { .. }) {
            self.arrivals.borrow_mut().push((command.clone(), now));
        }
        let reply = self.faulty.call(space, command, now).await?;
        if let (Some(Bug::PointerInline), Reply::Publish(reply)) = (self.bug, &reply) {
            let made = reply.deploy.as_ref().filter(|made| made.alias.is_none());
            if reply.state == PublishState::Published && made.is_some() {
                self.point(space, now).await?;
            }
        }
        Ok(reply)
    }
}

impl Planted {
    /// A publish request, as a server with the bug reads it.
    async fn spoilt(
        &self,
        space: &SpaceName,
        mut publish: PublishCommand,
        now: Timestamp,
    ) -> Result<PublishCommand, Problem> {
        let (Some(bug), Some(terms)) = (self.bug, &mut publish.commit) else {
            return Ok(publish);
        };
        let (active, root) = self.active(space, publish.alias.as_ref(), now).await?;
        match bug {
            Bug::NoCompareAndSwap => terms.expect = Some(active),
            Bug::UnchangedForgetsOrder if root == Some(publish.root) => terms.order = None,
            Bug::ReplacesWhatItMeets if terms.replace == Replace::Seen => {
                terms.expect = Some(active);
            }
            Bug::HoldIgnored if terms.replace == Replace::Seen && terms.expect == Some(active) => {
                terms.replace = Replace::Named;
            }
            Bug::OrdersOfOneSequence => {
                terms.order = terms.order.take().map(|order| Order::run(order.value()));
            }
            Bug::MaxDeleteUnchecked => terms.max_delete = None,
            Bug::UnchangedForgetsOrder
            | Bug::ReplacesWhatItMeets
            | Bug::HoldIgnored
            | Bug::PointerInline
            | Bug::NoVerification
            | Bug::CacheTrusted
            | Bug::LossUnnoticed
            | Bug::Collection(_) => {}
        }
        Ok(publish)
    }

    /// The number and root of a channel's active deploy; 0 if there is none.
    async fn active(
        &self,
        space: &SpaceName,
        alias: Option<&AliasName>,
        now: Timestamp,
    ) -> Result<(u64, Option<Root>), Problem> {
        let deploy = alias.map_or(Selector::Active, |alias| Selector::Alias(alias.clone()));
        let located = self
            .plain
            .call(space, Command::Locate { deploy }, now)
            .await;
        match located {
            Ok(Reply::Pointer(pointer)) => Ok((pointer.deploy, Some(pointer.root))),
            Ok(_) => Ok((0, None)),
            Err(problem) if problem.code == Code::NotFound => Ok((0, None)),
            Err(problem) => Err(problem),
        }
    }

    async fn point(&self, space: &SpaceName, now: Timestamp) -> Result<(), Problem> {
        let active = Command::Locate {
            deploy: Selector::Active,
        };
        if let Reply::Pointer(pointer) = self.plain.call(space, active, now).await? {
            let delivered = Command::AckPointer {
                alias: None,
                order: pointer.order(),
                revision: None,
            };
            self.plain.call(space, delivered, now).await?;
            let channel = space.clone().into();
            self.pointers.write(&channel, &pointer).await?;
        }
        Ok(())
    }

    fn believed(&self, command: Command) -> Command {
        let Command::RecordPack {
            pack,
            space,
            object,
            files_max,
            toc,
        } = command
        else {
            return command;
        };
        let toc = match self.changed.borrow().get(&pack) {
            Some(claimed) => claim(&toc, claimed),
            None => toc,
        };
        Command::RecordPack {
            pack,
            space,
            object,
            files_max,
            toc,
        }
    }
}

/// The table of contents with forged ids.
fn claim(toc: &Bytes, claimed: &[BlobId]) -> Bytes {
    let toc = Toc::decode(toc).unwrap();
    let mut out = Vec::new();
    write_varint(&mut out, claimed.len() as u64);
    for (entry, claimed) in toc.entries().iter().zip(claimed) {
        out.extend_from_slice(claimed.as_bytes());
        out.push(entry.codec.tag());
        write_varint(&mut out, entry.stored);
        write_varint(&mut out, entry.raw);
    }
    out.into()
}
