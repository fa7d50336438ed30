//! Space commands: values that cross a Durable Object call or a function call
//! unchanged.
//!
//! They cross as JSON, because most of their content is JSON for clients as well, and because one
//! codec suits a Worker of bounded size. The bytes among them (a patch, nodes, a pack of a small
//! publish) follow the JSON unencoded ([`SpaceCall`](super::SpaceCall)). Packs and parts never
//! cross. A new field or variant needs a default: see `crossing`.

use std::time::Duration;

use bytes::Bytes;
use pmx_core::domain::Selector;
use pmx_core::id::{BlobId, NodeId, ObjectId, PackId, Root, SpaceId};
use pmx_core::location::{Extent, Location};
use pmx_core::name::AliasName;
use pmx_streams::Read;
use serde::{Deserialize, Serialize};

use crate::pointer::Pointer;
use crate::wire::{CommitPreconditions, Repack, Retention, RollbackHead, VerifyCursor, VerifyData};

/// A command to one space.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// Returns the space's internal id, and creates the space with `fresh` if it is new.
    Open {
        /// The id of a new space.
        fresh: SpaceId,
    },
    /// Reads an offer, reports what is missing, and commits if nothing is and the request has
    /// preconditions.
    Publish(Box<PublishCommand>),
    /// Records that a pack was verified and written.
    #[serde(rename = "PackArrived")]
    RecordPack {
        /// The id of the pack as the client sent it.
        pack: PackId,
        /// The space that the object was written for.
        space: SpaceId,
        /// The object that holds its frames.
        object: ObjectId,
        /// Files that the platform can commit at once.
        #[serde(default = "embedded_files_max")]
        files_max: u64,
        /// The object's table of contents, encoded.
        #[serde(skip)]
        toc: Bytes,
    },
    /// Records that a part of a big blob was decoded and written.
    #[serde(rename = "PartArrived")]
    RecordPart(ArrivedPart),
    /// Makes an older deploy's root active again.
    Rollback(RollbackHead),
    /// Lifts the hold that a rollback put on the site.
    Resume,
    /// Deletes an alias, and gives up the deploys that it named.
    #[serde(rename = "Unalias")]
    DeleteAlias {
        /// The alias.
        alias: AliasName,
    },
    /// Removes previews whose time is over. A space sends it to itself, by its alarm.
    ExpirePreviews,
    /// Deletes the space, with its history. Its objects go later, see [`Removal`](super::Removal).
    DeleteSpace {
        /// The number of the active deploy that the client saw; 0 for none.
        expect: u64,
        /// Whether the objects go at once, although some readers still have its pointers.
        #[serde(default)]
        purge: bool,
    },
    /// Records that a deleted space has no objects any more.
    ForgetRemoved {
        /// The deleted space.
        space: SpaceId,
    },
    /// Pins a deploy, or unpins it.
    Pin {
        /// The deploy.
        number: u64,
        /// Whether it is pinned from now on.
        pinned: bool,
    },
    /// Gives up the content of a deploy.
    RemoveDeploy {
        /// The deploy.
        number: u64,
        /// Whether its content goes at once, although some readers still have its pointers.
        purge: bool,
    },
    /// Reads the retention policy.
    Retention,
    /// Sets the retention policy.
    SetRetention(Retention),
    /// Takes one step of a collection (`sync/src/space/collect`).
    Collect {
        /// Whether a collection begins although nothing asks for one.
        start: bool,
        /// Whether the reply says what a whole collection would do, and nothing changes.
        dry: bool,
        /// What it may copy to free more; counts with `start` and `dry`.
        #[serde(default)]
        repack: Repack,
    },
    /// Takes one step of a verification (`sync/src/space/verify`).
    Verify(VerifyStep),
    /// Lists previews.
    Previews,
    /// Lists deploys, newest first.
    Deploys {
        /// Only those with smaller numbers.
        before: Option<u64>,
        /// At most so many.
        limit: u64,
        /// Whether the reply has what only a backup needs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        backup: bool,
    },
    /// Compares two deploys.
    Diff {
        /// The older side.
        from: u64,
        /// The newer side.
        to: u64,
    },
    /// Reads manifest nodes.
    Nodes {
        /// Which ones.
        ids: Vec<NodeId>,
    },
    /// Reads the log of the deploys' changes.
    Events {
        /// The preview whose deploys are read; `None` reads those that were active.
        alias: Option<AliasName>,
        /// Where the read starts, and how much it returns.
        read: Read,
    },
    /// Returns the changes from one deploy to another.
    #[serde(rename = "Net")]
    DiffSince {
        /// The deploy to compare with.
        from: u64,
        /// The deploy that is compared.
        to: u64,
        /// Most paths that the reply names.
        most: usize,
    },
    /// Locates a deploy's serving index.
    Locate {
        /// The deploy.
        deploy: Selector,
    },
    /// Locates the serving index of a root, whichever deploy has it.
    Index {
        /// The root.
        root: Root,
    },
    /// Lists pointers that are not yet propagated, the newest first.
    #[serde(rename = "Undelivered")]
    PendingPointers,
    /// Marks content that a reader found lost, so that the next publish sends it again.
    Lost(Loss),
    /// Records that a pointer was written; lists the others as [`Command::PendingPointers`] does.
    #[serde(rename = "Delivered")]
    AckPointer {
        /// The pointer's alias; `None` for the active deploy's pointer.
        alias: Option<AliasName>,
        /// The pointer's [`Pointer::order`].
        order: u64,
        /// Its revision: a pointer that was made anew since still waits. Without one, any counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
    },
}

impl Command {
    /// Whether the command creates a space that does not exist.
    pub const fn creates(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// The command's name in a log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Publish(_) => "publish",
            Self::RecordPack { .. } => "pack",
            Self::RecordPart(_) => "part",
            Self::Rollback(_) => "rollback",
            Self::Resume => "resume",
            Self::DeleteAlias { .. } => "unalias",
            Self::ExpirePreviews => "expire",
            Self::DeleteSpace { .. } => "delete",
            Self::ForgetRemoved { .. } => "forget",
            Self::Pin { .. } => "pin",
            Self::RemoveDeploy { .. } => "remove",
            Self::Retention => "retention",
            Self::SetRetention(_) => "set-retention",
            Self::Collect { .. } => "collect",
            Self::Verify(_) => "verify",
            Self::Previews => "previews",
            Self::Deploys { .. } => "deploys",
            Self::Diff { .. } => "diff",
            Self::Nodes { .. } => "nodes",
            Self::Events { .. } => "events",
            Self::DiffSince { .. } => "net",
            Self::Locate { .. } => "locate",
            Self::Index { .. } => "index",
            Self::Lost(_) => "lost",
            Self::PendingPointers => "undelivered",
            Self::AckPointer { .. } => "delivered",
        }
    }

    /// Records that a pointer was written.
    pub const fn ack(alias: Option<AliasName>, pointer: &Pointer) -> Self {
        Self::AckPointer {
            alias,
            order: pointer.order(),
            revision: Some(pointer.revision),
        }
    }

    /// Whether the command brings an object that was written for another space.
    pub(crate) fn is_of_another(&self, own: SpaceId) -> bool {
        match self {
            Self::RecordPack { space, .. } | Self::RecordPart(ArrivedPart { space, .. }) => {
                *space != own
            }
            _ => false,
        }
    }

    /// Whether a caller that got no answer may send the command again. The answer is then the same,
    /// whether or not the space carried out the first one. Commits and rollbacks have a key.
    pub const fn may_repeat(&self) -> bool {
        !matches!(self, Self::Resume | Self::DeleteAlias { .. })
    }

    /// Whether the command only reads, for visitors and lists.
    pub const fn is_reading(&self) -> bool {
        match self {
            Self::Previews
            | Self::Retention
            | Self::Deploys { .. }
            | Self::Diff { .. }
            | Self::Nodes { .. }
            | Self::Events { .. }
            | Self::DiffSince { .. }
            | Self::Locate { .. }
            | Self::Index { .. }
            | Self::PendingPointers => true,
            Self::Open { .. }
            | Self::Publish(_)
            | Self::RecordPack { .. }
            | Self::RecordPart(_)
            | Self::Rollback(_)
            | Self::Resume
            | Self::DeleteAlias { .. }
            | Self::ExpirePreviews
            | Self::DeleteSpace { .. }
            | Self::ForgetRemoved { .. }
            | Self::Pin { .. }
            | Self::RemoveDeploy { .. }
            | Self::SetRetention(_)
            | Self::Collect { .. }
            | Self::Verify(_)
            | Self::Lost(_)
            | Self::AckPointer { .. } => false,
        }
    }

    /// Whether the command may change the space or its objects.
    pub const fn is_changing(&self) -> bool {
        match self {
            Self::Verify(step) => step.repair,
            Self::Collect { dry, .. } => !*dry,
            _ => !self.is_reading(),
        }
    }

    /// Whether the command may leave something to the alarm: pointers, or a collection.
    pub const fn may_announce(&self) -> bool {
        match self {
            Self::Publish(_)
            | Self::Rollback(_)
            | Self::DeleteAlias { .. }
            | Self::DeleteSpace { .. }
            | Self::Pin { .. }
            | Self::RemoveDeploy { .. }
            | Self::SetRetention(_)
            | Self::Collect { dry: false, .. } => true,
            Self::Open { .. }
            | Self::RecordPack { .. }
            | Self::RecordPart(_)
            | Self::Resume
            | Self::ExpirePreviews
            | Self::ForgetRemoved { .. }
            | Self::Retention
            | Self::Collect { dry: true, .. }
            | Self::Verify(_)
            | Self::Previews
            | Self::Deploys { .. }
            | Self::Diff { .. }
            | Self::Nodes { .. }
            | Self::Events { .. }
            | Self::DiffSince { .. }
            | Self::Locate { .. }
            | Self::Index { .. }
            | Self::Lost(_)
            | Self::PendingPointers
            | Self::AckPointer { .. } => false,
        }
    }

    /// The alias whose deploy the command may replace; `None` for the active deploy.
    pub const fn alias(&self) -> Option<&AliasName> {
        match self {
            Self::Publish(publish) => publish.alias.as_ref(),
            Self::DeleteAlias { alias } => Some(alias),
            Self::Open { .. }
            | Self::RecordPack { .. }
            | Self::RecordPart(_)
            | Self::Rollback(_)
            | Self::Resume
            | Self::ExpirePreviews
            | Self::DeleteSpace { .. }
            | Self::ForgetRemoved { .. }
            | Self::Pin { .. }
            | Self::RemoveDeploy { .. }
            | Self::Retention
            | Self::SetRetention(_)
            | Self::Collect { .. }
            | Self::Verify(_)
            | Self::Previews
            | Self::Deploys { .. }
            | Self::Diff { .. }
            | Self::Nodes { .. }
            | Self::Events { .. }
            | Self::DiffSince { .. }
            | Self::Locate { .. }
            | Self::Index { .. }
            | Self::Lost(_)
            | Self::PendingPointers
            | Self::AckPointer { .. } => None,
        }
    }
}

/// See [`Command::Verify`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct VerifyStep {
    /// Where the step begins; `None` for the first one.
    pub after: Option<VerifyCursor>,
    /// The objects whose bytes are read and hashed; `None` for none.
    pub data: Option<VerifyData>,
    /// Whether the space marks what it finds, so that the next publish sends it again.
    pub repair: bool,
}

/// See [`Command::Publish`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishCommand {
    /// The preview to publish; `None` publishes the active deploy.
    pub alias: Option<AliasName>,
    /// The root to publish.
    pub root: Root,
    /// The root that a patch starts from.
    pub base: Option<Root>,
    /// The part of the manifest that the client sent.
    pub offer: Offer,
    /// The inline pack of the request, verified but not yet written.
    pub pack: Option<SmallPack>,
    /// Arrived packs whose blobs the patch references.
    pub packs: Vec<PackId>,
    /// Commit under these preconditions.
    pub commit: Option<CommitPreconditions>,
    /// Whether the space only answers and stores nothing.
    pub dry: bool,
    /// Whether the space remembers the active deploy from a request without a commit, as the one
    /// that the commit of the same root expects.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun: bool,
    /// Time that content waits for its commit.
    pub lease: Duration,
    /// Files that the platform can commit at once.
    pub files_max: u64,
    /// The object that a commit writes its serving index into.
    pub index: ObjectId,
}

/// The part of its manifest that a client sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Offer {
    /// Only the root.
    Root,
    /// A patch against the base.
    Patch(#[serde(skip)] Bytes),
    /// The ids of all its nodes, a node before its children.
    Outline(Vec<NodeId>),
    /// Nodes.
    Nodes(#[serde(with = "pmx_core::crossing::count")] Vec<Bytes>),
}

/// A verified pack of a small publish, encoded for storage but not written yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SmallPack {
    /// The object, in the format of a stored pack.
    #[serde(skip)]
    pub object: Bytes,
    /// Its table of contents, encoded.
    #[serde(skip)]
    pub toc: Bytes,
}

/// See [`Command::RecordPart`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArrivedPart {
    /// The space that the object was written for.
    pub space: SpaceId,
    /// The blob that the part is claimed to belong to.
    pub blob: BlobId,
    /// Bytes of the whole blob, as claimed.
    pub size: u64,
    /// The part's index.
    pub number: u64,
    /// The BLAKE3 chaining value of its bytes at their position in the blob.
    pub chaining_value: [u8; 32],
    /// The location of its bytes.
    pub location: Location,
}

/// Stored content that two reads found damaged or absent. An error or a timeout is no loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loss {
    /// The content.
    pub lost: Lost,
    /// The object that was read.
    pub object: ObjectId,
    /// Whether the object does not exist or ends too early; otherwise its bytes differ.
    pub is_absent: bool,
}

/// The content that a [`Loss`] concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lost {
    /// A blob, or a part of one.
    Blob {
        /// The blob.
        blob: BlobId,
        /// The blob's location in the serving index.
        at: Location,
    },
    /// A node of the serving index.
    Node {
        /// The manifest node.
        node: NodeId,
        /// The expected location of its index node.
        at: Extent,
    },
}

/// The default for callers of earlier releases.
const fn embedded_files_max() -> u64 {
    crate::limits::FILES_MAX
}
