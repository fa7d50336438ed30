//! Replies of a space: values that cross a Durable Object call or a function call unchanged.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmx_core::id::{ObjectId, SpaceId};
use pmx_core::location::Extent;
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_streams::Page;
use serde::{Deserialize, Serialize};

use crate::live::ChangeMessage;
use crate::pointer::Pointer;
use crate::wire::{
    BackupView, BeginReply, CollectReply, DeployView, DiffReply, HoldView, PreviewView, Retention,
    VerifyReply,
};

/// Reply of a space.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// The space's internal id. For an arrival it means: the object was written for an earlier
    /// space of this name, and this space recorded nothing.
    Space(SpaceId),
    /// To a publish.
    Publish(Box<BeginReply>),
    /// To an arrival: the object that counts. If it is another one, the caller may delete its own.
    #[serde(rename = "Kept")]
    Recorded(ObjectId),
    /// To a loss mark: the space has recorded it.
    Noted,
    /// To a rollback: the new deploy. To a pin or a removal: the deploy.
    Deploy(Box<DeployView>),
    /// The history.
    Deploys {
        /// The number of the active deploy; 0 if there is none yet.
        active: u64,
        /// The deploy that each alias names.
        aliases: BTreeMap<AliasName, u64>,
        /// The hold on the active deploy, if one is in force.
        hold: Option<HoldView>,
        /// Newest first.
        deploys: Vec<DeployView>,
        /// What only a backup needs, if it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backup: Option<Box<BackupView>>,
    },
    /// To a resume: the deploy that was held, if one was.
    Resumed(Option<u64>),
    /// To the deletion of an alias: the deploy that the alias named, if it existed.
    #[serde(rename = "Unaliased")]
    AliasDeleted(Option<u64>),
    /// To the removal of previews whose time is over.
    Expired {
        /// The removed previews.
        removed: Vec<AliasName>,
        /// When the next one ends, the objects of a deleted space may go, or the next step of a
        /// collection is due.
        next: Option<Timestamp>,
        /// The deleted space whose objects may go now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purge: Option<SpaceId>,
    },
    /// To the deletion of the space.
    SpaceDeleted(Removal),
    /// The retention policy.
    Retention(Retention),
    /// A step of a collection.
    Collected(CollectReply),
    /// A step of a verification.
    Verified(Box<VerifyReply>),
    /// The previews, in the order of their names.
    Previews(Vec<PreviewView>),
    /// A difference.
    Diff(Box<DiffReply>),
    /// Nodes: the first of the requested ones, as many as fit.
    Nodes(#[serde(with = "pmx_core::crossing::count")] Vec<Bytes>),
    /// The pointer to a deploy's serving index.
    Pointer(Box<Pointer>),
    /// The location of the serving index of a root.
    Index {
        /// The space's internal id.
        space: SpaceId,
        /// The extent of the root's index node.
        index: Extent,
    },
    /// The pointers that readers do not see yet.
    Due(Outbox),
    /// A page of the log of the deploys' changes.
    Events {
        /// The page.
        page: Box<Page>,
        /// Whether the current deploy lets visitors read lists of paths.
        is_open: bool,
    },
    /// The changes between two deploys.
    #[serde(rename = "Net")]
    DiffSince(Box<ChangeMessage>),
}

/// What the deletion of a space removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Deploys.
    pub deploys: u64,
    /// Previews.
    pub previews: Vec<AliasName>,
    /// When its objects may go: readers may have its pointers until then.
    pub purge: Option<Timestamp>,
}

/// A pointer to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The pointer's alias; `None` for the active deploy's pointer.
    pub alias: Option<AliasName>,
    /// The pointer.
    pub pointer: Pointer,
}

/// The pointers of a space that are not written yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// Pointers to write, each independent of the others.
    pub due: Vec<Due>,
    /// Why the pointers of other channels cannot be made. Those stay in the outbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<Problem>,
}
