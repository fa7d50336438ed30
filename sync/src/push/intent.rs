//! Publish intent: what a client wants to publish, and what it knows of the server.

use pmx_core::id::Root;
use pmx_core::name::{AliasName, SpaceName};

use crate::wire::{DeployMeta, MaxDelete, Order, Replace};

/// A publish as the client wants it, and the state that it knows.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The space.
    pub space: SpaceName,
    /// The preview to be published, if the root shall not become active.
    pub alias: Option<AliasName>,
    /// The root to be published.
    pub root: Root,
    /// A root that the client saw on the server, whose nodes are in memory: what a patch starts
    /// from.
    pub base: Option<Base>,
    /// The deploys that it may replace.
    pub replace: Replace,
    /// The deploy to be replaced: the one that the user named, or the one that this machine saw
    /// last. None with [`Replace::Seen`]: the one that is active at the first request.
    pub expect: Option<u64>,
    /// The most files that may go.
    pub max_delete: Option<MaxDelete>,
    /// Names this publish.
    pub key: String,
    /// The build's place in its sequence.
    pub order: Option<Order>,
    /// The metadata of the deploy.
    pub meta: DeployMeta,
    /// Whether to publish or only to ask.
    pub mode: Mode,
    /// Whether this machine has the bytes of the base, so that packs can refer to them.
    pub base_blobs: BaseBlobs,
}

impl Intent {
    /// Publishes a root in place of any deploy, without a base. `key` makes repeats idempotent.
    pub fn new(space: SpaceName, root: Root, key: &str) -> Self {
        Self {
            space,
            alias: None,
            root,
            base: None,
            replace: Replace::Any,
            expect: None,
            max_delete: None,
            key: key.to_owned(),
            order: None,
            meta: DeployMeta::default(),
            mode: Mode::Publish,
            base_blobs: BaseBlobs::Missing,
        }
    }
}

/// The blobs of the base deploy on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseBlobs {
    /// Kept on this machine.
    Available,
    /// Not kept on this machine.
    Missing,
}

/// Whether to publish or only to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Publish.
    Publish,
    /// Ask what a publish would change; nothing is kept.
    Dry,
}

/// A deploy that a client saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its root.
    pub root: Root,
    /// Its number.
    pub deploy: u64,
}
