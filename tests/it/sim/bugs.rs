//! Bugs to be planted, as decorators around the seam of spaces: the simulation must find them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use pmx_sync::encode::write_varint;
use pmx_sync::id::{BlobId, PackId};
use pmx_sync::name::SpaceName;
use pmx_sync::pack::rest::Toc;
use pmx_sync::serve::{Pointers as _, Spaces as _};
use pmx_sync::site::Selector;
use pmx_sync::space::{Command, Reply};
use pmx_sync::testing::Faulty;
use pmx_sync::time::Timestamp;
use pmx_sync::wire::{Problem, State};

use super::chaos::Hooked;
use super::world::{Pointers, Spaces};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A commit replaces whatever is active.
    NoCompareAndSwap,
    /// The pointer is written after the commit, instead of from the outbox.
    PointerInline,
    /// What a client claims to have sent is believed.
    NoVerification,
}

/// Spaces, with a bug or without.
#[derive(Clone)]
pub(crate) struct Planted {
    pub(crate) bug: Option<Bug>,
    pub(crate) plain: Spaces,
    pub(crate) faulty: Faulty<Spaces, Hooked>,
    pub(crate) pointers: Pointers,
    pub(crate) changed: Rc<RefCell<BTreeMap<PackId, Vec<BlobId>>>>,
}

impl pmx_sync::serve::Spaces for Planted {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        match self.bug {
            None => self.faulty.call(space, command, now).await,
            Some(Bug::NoCompareAndSwap) => {
                let command = self.without_expectation(space, command, now).await?;
                self.faulty.call(space, command, now).await
            }
            Some(Bug::PointerInline) => {
                let reply = self.faulty.call(space, command, now).await?;
                if let Reply::Publish(reply) = &reply
                    && reply.state == State::Published
                    && reply
                        .deploy
                        .as_ref()
                        .is_some_and(|made| made.alias.is_none())
                {
                    self.point(space, now).await?;
                }
                Ok(reply)
            }
            Some(Bug::NoVerification) => {
                let command = self.believed(command);
                self.faulty.call(space, command, now).await
            }
        }
    }
}

impl Planted {
    async fn without_expectation(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Command, Problem> {
        let Command::Publish(mut publish) = command else {
            return Ok(command);
        };
        if let (Some(terms), None) = (&mut publish.commit, &publish.alias) {
            let newest = Command::Deploys {
                before: None,
                limit: 1,
            };
            if let Reply::Deploys { active, .. } = self.plain.call(space, newest, now).await? {
                terms.expect = Some(active);
            }
        }
        Ok(Command::Publish(publish))
    }

    async fn point(&self, space: &SpaceName, now: Timestamp) -> Result<(), Problem> {
        let active = Command::Locate {
            deploy: Selector::Active,
        };
        if let Reply::Pointer(pointer) = self.plain.call(space, active, now).await? {
            let (alias, order) = (None, pointer.order());
            let delivered = Command::Delivered { alias, order };
            self.plain.call(space, delivered, now).await?;
            let channel = space.clone().into();
            self.pointers.write(&channel, &pointer).await?;
        }
        Ok(())
    }

    fn believed(&self, command: Command) -> Command {
        let Command::PackArrived { pack, object, toc } = command else {
            return command;
        };
        let toc = match self.changed.borrow().get(&pack) {
            Some(claimed) => claim(&toc, claimed),
            None => toc,
        };
        Command::PackArrived { pack, object, toc }
    }
}

/// The table of contents with other ids.
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
