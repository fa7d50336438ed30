//! Publish request and reply: the JSON of `begin` and `commit`.

use pmx_core::id::{BlobId, PackId, Root};
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::backup::RestoredDeploy;
use super::deploys::{DeployMeta, DeployView, Summary};
use super::expiry::PreviewExpiry;
use super::max_delete::MaxDelete;
use super::order::Order;
use super::ranges::Ranges;

/// The head of `POST /api/publish/begin` and of `POST /api/publish/commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginHead {
    /// The version of the API.
    pub v: u8,
    /// The space.
    pub space: SpaceName,
    /// The preview to publish. The reply's `active` is then the deploy of this preview, not the
    /// active deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasName>,
    /// The root to publish.
    pub root: Root,
    /// The base of the patch section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Root>,
    /// Whether this only asks: the server stores nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry: bool,
    /// Commit in the same request, if nothing is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitPreconditions>,
}

/// The preconditions under which a root becomes the active deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitPreconditions {
    /// The deploy that this one replaces; 0 if there is none yet. With [`Replace::Seen`] it may be
    /// absent: then it is the one that is active when the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// The deploys beside `expect` that this one may replace.
    #[serde(default, skip_serializing_if = "Replace::is_exact")]
    pub replace: Replace,
    /// Idempotency key: the same commit sent twice makes one deploy.
    pub key: String,
    /// The build's place in its sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The most files of the replaced deploy that the publish may remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delete: Option<MaxDelete>,
    /// The metadata of the deploy.
    #[serde(default, skip_serializing_if = "DeployMeta::is_empty")]
    pub meta: DeployMeta,
    /// With a preview: how long it stays. Absent, it keeps the end that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<PreviewExpiry>,
    /// Deploys of a backup, in the order of their numbers: the commit records them as they were.
    /// The content of the last one may be kept, and then the request publishes its root. Every
    /// other precondition is void.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore: Vec<RestoredDeploy>,
}

impl CommitPreconditions {
    /// Whether they belong to a first request, by a client that never saw the active deploy.
    pub fn is_first(&self) -> bool {
        self.replace == Replace::Seen && self.expect.is_none()
    }
}

/// Policy for the deploys that a publish may replace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replace {
    /// `expect`, unless a rollback holds it: the default of older clients.
    #[default]
    Exact,
    /// `expect`, the last deploy that this client saw, or an older build of the same sequence. No
    /// hold.
    Seen,
    /// `expect`, the deploy that the user named, even if a rollback holds it.
    Named,
    /// Any active deploy, even if a rollback holds it or a newer build made it.
    Any,
}

impl Replace {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    const fn is_exact(&self) -> bool {
        matches!(self, Self::Exact)
    }
}

/// Reply of the server to a [`BeginHead`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginReply {
    /// Progress of the publish.
    pub state: PublishState,
    /// The number of the active deploy; 0 if there is none yet.
    pub active: u64,
    /// The root of the active deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// With [`PublishState::Nodes`]: the missing nodes, by their index in the outline.
    #[serde(default, skip_serializing_if = "Ranges::is_empty")]
    pub nodes: Ranges,
    /// With [`PublishState::Blobs`]: the rows with missing blobs, by the rows' ranks in the new
    /// manifest.
    #[serde(default, skip_serializing_if = "Ranges::is_empty")]
    pub blobs: Ranges,
    /// With [`PublishState::Blobs`] and [`PublishState::Base`]: parts of missing big blobs that
    /// have already arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ArrivedParts>,
    /// With [`PublishState::Base`], and with [`PublishState::Outline`] before the first deploy:
    /// packs that arrived and that no deploy has. The client need not send them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PackId>,
    /// With [`PublishState::Base`]: the most raw bytes of base rows that a pack may refer to.
    /// `None` forbids references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_max: Option<u64>,
    /// The counts of changes against the active deploy, once the server can compute them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// With [`PublishState::Published`]: the new deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Box<DeployView>>,
    /// With [`PublishState::Published`] and [`PublishState::Current`]: the site's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// With a preview: when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl BeginReply {
    /// A reply without an active deploy, and without missing data.
    pub fn new(state: PublishState) -> Self {
        Self {
            state,
            active: 0,
            root: None,
            nodes: Ranges::default(),
            blobs: Ranges::default(),
            parts: Vec::new(),
            packs: Vec::new(),
            prefix_max: None,
            summary: None,
            deploy: None,
            url: None,
            expires: None,
        }
    }
}

/// Progress of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishState {
    /// The root is the active deploy: the publish is done.
    Current,
    /// The server has everything: commit.
    Ready,
    /// The server does not know the base, or the request named none: send an outline.
    Outline,
    /// The server has the base, but not the root: send the new blobs in packs, then a patch that
    /// references them.
    Base,
    /// The server lacks nodes: send them.
    Nodes,
    /// The server lacks blobs: send them in packs and parts, then commit.
    Blobs,
    /// The request's commit is done.
    Published,
}

/// Parts of a big blob that have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivedParts {
    /// The blob.
    pub blob: BlobId,
    /// The numbers of its parts.
    pub have: Ranges,
}

/// The query of `PUT /api/publish/blobs/<id>/<part>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHead {
    /// The space.
    pub space: SpaceName,
    /// Size of the whole blob in bytes.
    pub size: u64,
}
