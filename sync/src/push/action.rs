//! Push actions: what the driver does next, and the outcome that it reports in the end.

use pmx_core::time::Timestamp;

use super::Uploads;
use crate::wire::{BeginHead, DeployView, Section, Summary};

/// The driver's next action. The driver passes its result to the [`Push`](super::Push).
#[derive(Debug)]
pub enum Action {
    /// `POST /api/publish/begin`; the result goes to `Push::on_reply` or `Push::on_refusal`.
    Begin(Request),
    /// Send the missing blobs, in any order. The ids of the packs go to `Push::on_uploaded`, in the
    /// order of the plan.
    Upload(Uploads),
    /// `POST /api/publish/commit`; the result goes to `Push::on_reply` or `Push::on_refusal`.
    Commit(Request),
    /// The publish has ended.
    Done(Box<PushOutcome>),
}

/// A request: its head, its sections, and the blobs of its inline pack.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: BeginHead,
    /// The sections, without the pack's.
    pub sections: Vec<Section>,
    /// One pack to be built and appended as the last section.
    pub pack: Option<Uploads>,
}

/// How a publish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOutcome {
    /// How the publish ended.
    pub kind: PushOutcomeKind,
    /// The number of the deploy that is active now, 0 if there is none.
    pub active: u64,
    /// With [`PushOutcomeKind::Published`]: the new deploy.
    pub deploy: Option<DeployView>,
    /// The site's address, if the server sent it.
    pub url: Option<String>,
    /// With a preview: when it ends, if it does.
    pub expires: Option<Timestamp>,
    /// The counts of changed files, or of those that would change.
    pub summary: Option<Summary>,
    /// With [`PushOutcomeKind::Planned`]: raw bytes of the blobs to upload.
    pub missing_bytes: u64,
}

/// How the publish ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcomeKind {
    /// A new deploy is active.
    Published,
    /// The active deploy already has this root.
    Unchanged,
    /// A newer build of the same sequence was published before.
    Superseded,
    /// A dry run: the client uploaded nothing.
    Planned,
}
