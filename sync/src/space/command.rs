//! What can be asked of a space. Commands and replies are values, so they cross a Durable Object
//! call or a function call unchanged.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{BlobId, NodeId, ObjectId, PackId, Root, SpaceId};
use crate::location::Location;
use crate::serve::Pointer;
use crate::wire::{BeginReply, CommitTerms, DeployView, DiffReply, RollbackHead};

/// A command to one space.
#[derive(Debug, Clone)]
pub enum Command {
    /// Names the space's internal id, making the space with `fresh` if it is new.
    Open {
        /// The id it gets if it is new.
        fresh: SpaceId,
    },
    /// Learns about a root, says what is missing, and commits it if nothing is and terms came.
    Publish(Box<Publish>),
    /// Notes that a pack was verified and written.
    PackArrived {
        /// The pack as it travelled.
        pack: PackId,
        /// The object that holds its frames.
        object: ObjectId,
        /// The object's table of contents, encoded.
        toc: Bytes,
    },
    /// Notes that a part of a big blob was decoded and written.
    PartArrived(PartArrived),
    /// Makes an older deploy's root active again.
    Rollback(RollbackHead),
    /// Lists deploys, newest first.
    Deploys {
        /// Only those with smaller numbers.
        before: Option<u64>,
        /// At most so many.
        limit: u64,
    },
    /// Compares two deploys.
    Diff {
        /// The older side.
        from: u64,
        /// The newer side.
        to: u64,
    },
    /// Names where a deploy's serving index lies; the active one's if no number is given.
    Locate {
        /// The deploy.
        number: Option<u64>,
    },
    /// Names the pointer that has still to be delivered to readers.
    Undelivered,
    /// Notes that the pointer of a deploy was delivered.
    Delivered {
        /// The deploy.
        deploy: u64,
    },
}

impl Command {
    /// Whether the command makes a space that is not there yet.
    pub const fn creates(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

/// See [`Command::Publish`].
#[derive(Debug, Clone)]
pub struct Publish {
    /// The root to be published.
    pub root: Root,
    /// The root that a patch starts from.
    pub base: Option<Root>,
    /// What the client told of the manifest.
    pub offer: Offer,
    /// A pack that came along, verified, not yet written.
    pub pack: Option<SmallPack>,
    /// Commit on these terms.
    pub commit: Option<CommitTerms>,
    /// Keep nothing.
    pub dry: bool,
    /// The object that a commit writes its serving index into.
    pub index: ObjectId,
}

/// What a client told of its manifest.
#[derive(Debug, Clone)]
pub enum Offer {
    /// Nothing but the root.
    Root,
    /// A patch against the base.
    Patch(Bytes),
    /// The ids of all its nodes, a node before its children.
    Outline(Vec<NodeId>),
    /// Nodes.
    Nodes(Vec<Bytes>),
}

/// A verified pack of a small publish, laid out for rest but not written yet.
#[derive(Debug, Clone)]
pub struct SmallPack {
    /// The object, as a pack of its own would lie.
    pub object: Bytes,
    /// Its table of contents, encoded.
    pub toc: Bytes,
}

/// See [`Command::PartArrived`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartArrived {
    /// The blob that the part is claimed to belong to.
    pub blob: BlobId,
    /// Bytes of the whole blob, as claimed.
    pub size: u64,
    /// Which part this is.
    pub number: u64,
    /// The BLAKE3 chaining value of its bytes at their place.
    pub chaining_value: [u8; 32],
    /// Where its bytes lie.
    pub location: Location,
}

/// What a space answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The space's internal id.
    Space(SpaceId),
    /// To a publish.
    Publish(Box<BeginReply>),
    /// To an arrival: which object counts. If it is another, the caller's own may go.
    Kept(ObjectId),
    /// To a rollback: the new deploy.
    Deploy(Box<DeployView>),
    /// The history.
    Deploys {
        /// The number of the active deploy; 0 if there is none yet.
        active: u64,
        /// Newest first.
        deploys: Vec<DeployView>,
    },
    /// A difference.
    Diff(Box<DiffReply>),
    /// Where a deploy's serving index lies.
    Pointer(Box<Pointer>),
    /// Nothing to say.
    Done,
}
