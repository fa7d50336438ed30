//! Publish intent: the client's wishes for a publish, and the server state that it has seen.

use pmx_core::id::Root;
use pmx_core::name::{AliasName, SpaceName};

use crate::wire::{DeployMeta, MaxDelete, Order, PreviewExpiry, Replace, RestoredDeploy};

/// A publish as the client wants it, and the server state that it has seen.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The space.
    pub space: SpaceName,
    /// The preview to publish; `None` publishes the active deploy.
    pub alias: Option<AliasName>,
    /// The root to publish.
    pub root: Root,
    /// The base of a patch: a root that the client saw on the server, and whose nodes are in
    /// memory.
    pub base: Option<Base>,
    /// The deploys that the publish may replace.
    pub replace: Replace,
    /// The deploy to replace: the one that the user named, or the last one that this machine saw.
    /// `None` with [`Replace::Seen`] is the one that is active at the first request.
    pub expect: Option<u64>,
    /// The most files that the publish may delete.
    pub max_delete: Option<MaxDelete>,
    /// Idempotency key of the publish.
    pub key: String,
    /// The build's place in its sequence.
    pub order: Option<Order>,
    /// The metadata of the deploy.
    pub meta: DeployMeta,
    /// With a preview: how long it stays; `None` leaves the end that it has.
    pub expires: Option<PreviewExpiry>,
    /// Deploys of a backup that the publish records as they were; the last one has the root.
    pub restore: Vec<RestoredDeploy>,
    /// Whether to publish or only to ask.
    pub mode: Mode,
    /// Whether this machine has the bytes of the base, so that packs can refer to them.
    pub base_blobs: BaseBlobs,
}

impl Intent {
    /// An intent to publish a root in place of any deploy, without a base. `key` makes repeats
    /// idempotent.
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
            expires: None,
            restore: Vec::new(),
            mode: Mode::Publish,
            base_blobs: BaseBlobs::Missing,
        }
    }
}

/// The blobs of the base deploy on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseBlobs {
    /// Stored on this machine.
    Available,
    /// Not stored on this machine.
    Missing,
}

/// Whether to publish or only to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Publish.
    Publish,
    /// Ask for the changes of a publish; the server stores nothing.
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
