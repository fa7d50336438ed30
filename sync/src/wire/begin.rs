//! Publish request and reply.

use pmx_core::id::{BlobId, PackId, Root};
use pmx_core::name::{AliasName, SpaceName};
use serde::{Deserialize, Serialize};

use super::deploys::{DeployMeta, DeployView, Summary};
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
    /// The preview to be published, beside the active deploy: what the reply calls active is its
    /// deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasName>,
    /// The root of the site to be published.
    pub root: Root,
    /// The root that a patch section starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Root>,
    /// Whether this only asks: nothing is kept.
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
    /// left out: then it is the one that is active when the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// The deploys beside `expect` that this one may replace.
    #[serde(default, skip_serializing_if = "Replace::is_exact")]
    pub replace: Replace,
    /// Names this publish: the same commit sent twice makes one deploy.
    pub key: String,
    /// The build's place in its sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The most files of the replaced deploy that may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delete: Option<MaxDelete>,
    /// The metadata of the deploy.
    #[serde(default, skip_serializing_if = "DeployMeta::is_empty")]
    pub meta: DeployMeta,
}

impl CommitPreconditions {
    /// Whether they are of a first request, by a client that never saw what is active.
    pub fn is_first(&self) -> bool {
        self.replace == Replace::Seen && self.expect.is_none()
    }
}

/// Policy for the deploys that a publish may replace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replace {
    /// `expect`, unless a rollback holds it: what clients mean that do not say.
    #[default]
    Exact,
    /// `expect`, which this client saw last, or an older build of the same sequence. No hold.
    Seen,
    /// `expect`, which the user named, even if a rollback holds it.
    Named,
    /// Whatever is active, even if a rollback holds it or a newer build made it.
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
    /// How far the publish is.
    pub state: State,
    /// The number of the active deploy; 0 if there is none yet.
    pub active: u64,
    /// The root of the active deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// With [`State::Nodes`]: which nodes of the outline are missing, by their place in it.
    #[serde(default, skip_serializing_if = "Ranges::is_empty")]
    pub nodes: Ranges,
    /// With [`State::Blobs`]: which rows' blobs are missing, by the rows' ranks in the new
    /// manifest.
    #[serde(default, skip_serializing_if = "Ranges::is_empty")]
    pub blobs: Ranges,
    /// With [`State::Blobs`] and [`State::Base`]: parts of missing big blobs that have arrived
    /// already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Offered>,
    /// With [`State::Base`], and with [`State::Outline`] where there is no deploy yet: packs that
    /// arrived and are in no deploy, so that they need not be sent again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PackId>,
    /// With [`State::Base`]: the most raw bytes of rows of the base that a pack may refer to. None
    /// if packs may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_max: Option<u64>,
    /// The counts of changes against the active deploy, once the server can compute them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// With [`State::Published`]: the new deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Box<DeployView>>,
    /// With [`State::Published`] and [`State::Current`]: where the site is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl BeginReply {
    /// A reply of a state where no deploy is active, which names nothing.
    pub fn new(state: State) -> Self {
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
        }
    }
}

/// How far a publish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The root is the active deploy: nothing to do.
    Current,
    /// Everything is here: commit.
    Ready,
    /// The base is unknown here, or none was named: send an outline.
    Outline,
    /// The base is known here, the root is not: send what is new in packs, then a patch that
    /// counts their blobs.
    Base,
    /// Nodes are missing: send them.
    Nodes,
    /// Blobs are missing: send them in packs and parts, then commit.
    Blobs,
    /// The commit that came along is done.
    Published,
}

/// Parts of a big blob that have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The blob.
    pub blob: BlobId,
    /// Its parts, by number.
    pub have: Ranges,
}

/// The query of `PUT /api/publish/blobs/<id>/<part>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHead {
    /// The space.
    pub space: SpaceName,
    /// Bytes of the whole blob.
    pub size: u64,
}
