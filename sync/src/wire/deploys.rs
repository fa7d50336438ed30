//! Deploy messages: history, rollback and differences on the wire.

use std::collections::BTreeMap;

use pmx_core::id::Root;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::backup_view::BackupView;
use super::order::{Order, of_deploy};
use crate::manifest::Change;
use crate::path::SitePath;

/// Origin of a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeployKind {
    /// A new root was committed.
    Publish,
    /// An older deploy's root was made active again.
    Rollback,
}

/// Metadata of a deploy: free text under short names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployMeta {
    /// The message, in the publisher's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The commit of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Whether the deploy's pages get the live script.
    #[serde(default, skip_serializing_if = "is_no")]
    pub live: bool,
    /// Whether visitors may read the lists of paths in the deploy's events. A separate client needs
    /// them, such as that of a PathMX build.
    #[serde(default, skip_serializing_if = "is_no")]
    pub events: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_no(flag: &bool) -> bool {
    !*flag
}

impl DeployMeta {
    /// Whether the metadata is empty.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts of files that differ between two deploys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Paths that only the new one has.
    pub added: u64,
    /// Paths whose bytes or type differ.
    pub modified: u64,
    /// Paths that only the old one has.
    pub removed: u64,
    /// Paths that are the same in both.
    pub unchanged: u64,
}

impl Summary {
    /// Counts changes that lead to a manifest of `files` files.
    pub fn of(changes: &[Change], files: u64) -> Self {
        let mut summary = Self::default();
        for change in changes {
            match (&change.before, &change.after) {
                (None, _) => summary.added += 1,
                (Some(_), None) => summary.removed += 1,
                (Some(_), Some(_)) => summary.modified += 1,
            }
        }
        summary.unchanged = files.saturating_sub(summary.added + summary.modified);
        summary
    }
}

/// One deploy, as the history lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployView {
    /// Its number; every activation and every preview has the next one.
    pub number: u64,
    /// Its root.
    pub root: Root,
    /// The deploy it replaced; 0 if it is the first of its site or preview.
    pub parent: u64,
    /// Origin of the deploy.
    pub kind: DeployKind,
    /// With a rollback: the deploy whose root it made active again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
    /// Time of the deploy.
    pub at: Timestamp,
    /// Files of the site.
    pub files: u64,
    /// Bytes of the site.
    pub bytes: u64,
    /// Uncompressed bytes of the blobs that were new to the space.
    pub new_bytes: u64,
    /// The changes against the deploy it replaced; with a new preview, against the active one.
    pub summary: Summary,
    /// The build's place in its sequence.
    #[serde(flatten, with = "of_deploy")]
    pub order: Option<Order>,
    /// The metadata.
    #[serde(default, skip_serializing_if = "DeployMeta::is_empty")]
    pub meta: DeployMeta,
    /// With a preview: the alias that it was published for. It was never active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasName>,
    /// Whether the space still has its content.
    #[serde(default, skip_serializing_if = "DeployContent::is_kept")]
    pub content: DeployContent,
    /// Whether it is kept whatever the retention policy says.
    #[serde(default, skip_serializing_if = "is_no")]
    pub pinned: bool,
}

/// Whether a space has the content of a deploy. The row of a deploy stays in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeployContent {
    /// The space has it.
    #[default]
    Kept,
    /// The space gave it up: by its policy, with a preview, or because a client asked for it.
    Dropped,
    /// The space gave it up, and readers were not waited for.
    Purged,
}

impl DeployContent {
    /// Whether the space has the content.
    pub const fn is_kept(&self) -> bool {
        matches!(self, Self::Kept)
    }
}

/// The answer of `GET /api/deploys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploysReply {
    /// The number of the active deploy; 0 if there is none yet.
    pub active: u64,
    /// The deploy that each alias names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<AliasName, u64>,
    /// The hold of a rollback, while it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldView>,
    /// Newest first.
    pub deploys: Vec<DeployView>,
    /// The site's address.
    pub url: String,
    /// With `backup=1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupView>,
}

/// The answer of `GET /api/aliases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewsReply {
    /// In the order of their names.
    pub previews: Vec<PreviewView>,
    /// The site's address.
    pub url: String,
}

/// One preview, as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewView {
    /// The preview's name.
    pub name: AliasName,
    /// The deploy that it shows.
    pub deploy: DeployView,
    /// When it ends; absent if it stays until its removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The preview's address. The space does not know it; the server adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A hold: until it is lifted, only a publish that names the active deploy replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// The held deploy, which is active.
    pub deploy: u64,
    /// The time of the rollback.
    pub at: Timestamp,
}

/// The body of `POST /api/publish/resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeHead {
    /// The version of the API.
    pub v: u8,
    /// The space.
    pub space: SpaceName,
}

/// The answer of `POST /api/publish/resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeReply {
    /// The deploy that was held, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<u64>,
    /// The site's address.
    pub url: String,
}

/// The body of `POST /api/publish/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackHead {
    /// The version of the API.
    pub v: u8,
    /// The space.
    pub space: SpaceName,
    /// The deploy to restore; by default the one before the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// The deploy that must be active; any by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// Idempotency key: the same rollback sent twice makes one deploy.
    pub key: String,
    /// The metadata, with the reason.
    #[serde(default, skip_serializing_if = "DeployMeta::is_empty")]
    pub meta: DeployMeta,
}

/// The answer of `POST /api/publish/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackReply {
    /// The active deploy: the new one, or the unchanged one if it has the same root.
    pub deploy: DeployView,
    /// The site's address.
    pub url: String,
}

/// The answer of `DELETE /api/aliases/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnaliasReply {
    /// The deploy that the alias named, if the alias existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<u64>,
}

/// The answer of `GET /api/diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffReply {
    /// The older side.
    pub from: u64,
    /// The newer side.
    pub to: u64,
    /// Counts of all changes.
    pub summary: Summary,
    /// The changes in order of path, at most 10,000.
    pub rows: Vec<DiffRow>,
    /// Whether there are more changes than rows.
    pub truncated: bool,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRow {
    /// The path.
    pub path: SitePath,
    /// Bytes before; absent if the path is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Bytes after; absent if the path is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

impl From<&Change> for DiffRow {
    fn from(change: &Change) -> Self {
        Self {
            path: change.path.clone(),
            before: change.before.as_ref().map(|entry| entry.size),
            after: change.after.as_ref().map(|entry| entry.size),
        }
    }
}
