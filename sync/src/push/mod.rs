//! Push: the client's half of a publish, as a state machine without I/O.
//!
//! [`Push::next`] returns the next action; the driver does it and reports the result. The driver
//! decides how: over HTTP with retries and several uploads at once, or over a simulated network
//! that loses every third reply. Every step may be repeated.
//!
//! ```text
//! begin -> current                                   done: nothing to do
//!       -> published                                 done: a small publish takes one request
//!       -> base    -> upload -> begin(patch, packs)  done: no id of uploaded blobs is sent
//!       -> outline -> begin(outline) -> nodes -> begin(nodes)
//!       -> blobs   -> upload -> commit               done
//!       -> ready   -> commit                         done
//! ```
//!
//! Every request of a publish carries its preconditions, so the server alone decides, from what is
//! active when it decides: the client never takes another deploy for the one that it may replace.

mod changeset;
mod delta_base;
mod outline;
mod progress;
mod upload_plan;

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::encode::write_bytes;
use pmx_core::id::{PackId, Root};
use pmx_core::limits::PACK_RAW_BYTES_MAX;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use thiserror::Error;

use crate::limits::{
    NODES_BATCH_RAW_BYTES, PACKS_NAMED_MAX, PATCH_RAW_BYTES_MAX, REFERENCING_PACK_RAW_BYTES,
};
use crate::limits::{PREFIX_RAW_BYTES_MAX, SMALL_PUBLISH_RAW_BYTES};
use crate::manifest::{ManifestError, NewNode, NodeSource, diff, encode_patch};
use crate::wire::{
    BeginHead, BeginReply, CommitPreconditions, DeployMeta, DeployView, MaxDelete, Order, Replace,
    Section, SectionKind, State, Summary, VERSION,
};

use changeset::Changeset;
pub use delta_base::DeltaBase;
use progress::Progress;
pub use upload_plan::{DeltaReference, Uploads};

/// What a client wants to publish, and what it knows.
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
    /// What may be replaced.
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
    /// What shall be remembered of the deploy.
    pub meta: DeployMeta,
    /// Whether to publish or only to ask.
    pub mode: Mode,
    /// Whether this machine has the bytes of the base, so that packs can refer to them.
    pub base_blobs: BaseBlobs,
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

/// What to do next.
#[derive(Debug)]
pub enum Action {
    /// `POST /api/publish/begin`; call [`Push::on_reply`] or [`Push::on_refusal`].
    Begin(Request),
    /// Send the missing blobs, in any order; pass [`Push::on_uploaded`] the ids of the packs, in
    /// the order of the plan.
    Upload(Uploads),
    /// `POST /api/publish/commit`; call [`Push::on_reply`] or [`Push::on_refusal`].
    Commit(Request),
    /// The end.
    Done(Box<Outcome>),
}

/// A request: its head, its sections, and the blobs that shall travel along in a pack section.
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
pub struct Outcome {
    /// What happened.
    pub kind: OutcomeKind,
    /// The number of the deploy that is active now, 0 if there is none.
    pub active: u64,
    /// With [`OutcomeKind::Published`]: the new deploy.
    pub deploy: Option<DeployView>,
    /// Where the site is, if the server said.
    pub url: Option<String>,
    /// What changed, or would.
    pub summary: Option<Summary>,
    /// With [`OutcomeKind::Planned`]: raw bytes of the blobs that would travel.
    pub missing_bytes: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKind {
    /// A new deploy is active.
    Published,
    /// The site is what is active already.
    Unchanged,
    /// A newer build of the same sequence was published before.
    Superseded,
    /// Nothing was sent: this is what would be.
    Planned,
}

/// A publish can't go on.
#[derive(Debug, Error)]
pub enum PushError {
    /// The client's own manifest is at fault.
    #[error("reading the manifest of the folder: {0}")]
    Manifest(#[from] ManifestError),
    /// The server's answer does not follow from what it was asked.
    #[error("the server's answer makes no sense here: {0}")]
    Protocol(&'static str),
    /// The server names the same as missing, however often it is sent.
    #[error(
        "the server still lacks {lacking} after {rounds} rounds in which it got all that it named"
    )]
    Stalled {
        /// What it lacks.
        lacking: String,
        /// The rounds.
        rounds: u32,
    },
    /// The server refused.
    #[error("{0}")]
    Refused(Box<Problem>),
}

impl PushError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Manifest(error) => error.code(),
            Self::Protocol(_) => Code::Protocol,
            Self::Stalled { .. } => Code::MissingObjects,
            Self::Refused(problem) => problem.code,
        }
    }
}

/// A publish under way.
pub struct Push<'a, S> {
    source: &'a S,
    intent: Intent,
    phase: Phase,
    /// The ids of the outline that was sent, in its order.
    outline: Option<Vec<NewNode>>,
    /// Nodes still to be sent.
    nodes: Vec<NewNode>,
    /// The active deploy, as the server said last.
    active: u64,
    /// Whether the server has answered yet.
    is_first: bool,
    progress: Progress,
    /// What is new, while the server is asked whether it has the base.
    changeset: Option<Changeset>,
    /// The patch to send once its blobs are uploaded.
    patch: Option<Vec<u8>>,
    /// What the root would change in its base.
    summary: Option<Summary>,
    /// Whether packs may refer to the base.
    references: References,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum References {
    /// Neither side has ruled them out.
    Allowed,
    /// The server did not find the referenced blobs, or this machine does not keep them.
    Refused,
}

#[derive(Debug)]
enum Phase {
    Start,
    /// Send the patch that counts the blobs of uploaded packs, and commit.
    CommitWithPacks(Vec<u8>, Vec<PackId>),
    /// Send the root alone.
    Query,
    /// Send a patch, but commit separately: another deploy overtook the small publish.
    SendPatch,
    SendOutline,
    SendNodes,
    Upload(Uploads),
    Commit,
    /// An action is with the driver.
    Waiting,
    Done(Box<Outcome>),
}

impl<'a, S: NodeSource> Push<'a, S> {
    /// Starts a publish. `source` holds the nodes of the new root and of the base.
    pub fn new(source: &'a S, intent: Intent) -> Self {
        let phase = Phase::Start;
        let references = match intent.base_blobs {
            BaseBlobs::Available => References::Allowed,
            BaseBlobs::Missing => References::Refused,
        };
        Self {
            source,
            intent,
            phase,
            outline: None,
            nodes: Vec::new(),
            active: 0,
            is_first: true,
            progress: Progress::default(),
            changeset: None,
            patch: None,
            summary: None,
            references,
        }
    }

    /// Returns the next action.
    #[expect(
        clippy::should_implement_trait,
        reason = "a step can fail, and the last one stays"
    )]
    pub fn next(&mut self) -> Result<Action, PushError> {
        match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Start => self.start(),
            Phase::Query => Ok(Action::Begin(self.request(None, Vec::new()))),
            Phase::CommitWithPacks(patch, packs) => self.commit_with_packs(patch, &packs),
            Phase::SendPatch => match self.intent.base {
                Some(base) => self.send_patch(base.root),
                None => self.send_outline(),
            },
            Phase::SendOutline => self.send_outline(),
            Phase::SendNodes => Ok(self.send_nodes()),
            Phase::Upload(uploads) => Ok(Action::Upload(uploads)),
            Phase::Commit => Ok(Action::Commit(self.request(None, Vec::new()))),
            Phase::Waiting => Err(PushError::Protocol(
                "nothing came back from the step before",
            )),
            Phase::Done(outcome) => Ok(Action::Done(outcome)),
        }
    }

    /// The deploy that a commit would replace, as far as is known; 0 if there is none yet.
    pub const fn active(&self) -> u64 {
        self.active
    }

    /// What the root would change in its base, if that is known: it is what a commit changes that
    /// goes with a patch.
    pub const fn summary(&self) -> Option<Summary> {
        self.summary
    }

    /// Applies the server's reply to the last request.
    pub fn on_reply(&mut self, reply: BeginReply) -> Result<(), PushError> {
        self.active = reply.active;
        if std::mem::take(&mut self.is_first) && self.intent.replace == Replace::Seen {
            // Without a cache, what is active at the first request is what this client saw.
            self.intent.expect.get_or_insert(reply.active);
        }
        self.progress.on_reply(&reply, self.nodes.len())?;
        self.phase = match reply.state {
            State::Current => done(OutcomeKind::Unchanged, reply),
            State::Published => done(OutcomeKind::Published, reply),
            State::Ready if self.intent.mode == Mode::Dry => done(OutcomeKind::Planned, reply),
            State::Ready => Phase::Commit,
            State::Base => self.on_base_known(reply)?,
            State::Outline if !self.nodes.is_empty() => Phase::SendNodes,
            State::Outline if self.outline.is_none() => Phase::SendOutline,
            State::Outline if self.intent.mode == Mode::Dry => done(OutcomeKind::Planned, reply),
            State::Outline => return Err(PushError::Protocol("it knows the root no more")),
            State::Nodes => {
                let Some(outline) = &self.outline else {
                    return Err(PushError::Protocol(
                        "it names nodes of an outline it never got",
                    ));
                };
                let places = reply.nodes.iter(outline.len() as u64);
                self.nodes = places
                    .map(|place| outline[place as usize].clone())
                    .collect();
                if self.nodes.is_empty() {
                    return Err(PushError::Protocol("it lacks nodes but names none"));
                }
                Phase::SendNodes
            }
            State::Blobs => {
                let uploads = Uploads::missing(self.source, self.intent.root, &reply)?;
                if uploads.is_empty() {
                    return Err(PushError::Protocol("it lacks blobs but names none"));
                }
                if self.intent.mode == Mode::Dry {
                    let mut phase = done(OutcomeKind::Planned, reply);
                    if let Phase::Done(outcome) = &mut phase {
                        outcome.missing_bytes = uploads.raw_bytes();
                    }
                    phase
                } else {
                    Phase::Upload(uploads)
                }
            }
        };
        Ok(())
    }

    /// Records that everything of the last [`Action::Upload`] arrived, in these packs.
    pub fn on_uploaded(&mut self, packs: Vec<PackId>) {
        self.phase = match self.patch.take() {
            Some(patch) => Phase::CommitWithPacks(patch, packs),
            None => Phase::Commit,
        };
    }

    /// Applies a refusal of the last request; an `Err` is final.
    pub fn on_refusal(&mut self, problem: Problem) -> Result<(), PushError> {
        let is_missing = problem.code == Code::MissingObjects && self.progress.on_refusal();
        if problem.code == Code::PrefixMissing && self.references == References::Allowed {
            self.references = References::Refused;
            self.phase = Phase::Start;
            Ok(())
        } else if is_missing && self.intent.base.is_some() && self.outline.is_none() {
            // With every id in the request, the server can name what it lacks.
            self.phase = Phase::SendPatch;
            Ok(())
        } else if is_missing {
            self.phase = Phase::Query;
            Ok(())
        } else {
            Err(PushError::Refused(Box::new(problem)))
        }
    }

    fn start(&mut self) -> Result<Action, PushError> {
        let Some(base) = self.intent.base else {
            // The root alone: if it is active, or was, nothing else has to travel.
            return Ok(Action::Begin(self.request(None, Vec::new())));
        };
        self.active = base.deploy;
        if base.root == self.intent.root {
            return Ok(Action::Begin(self.request(None, Vec::new())));
        }
        if self.intent.mode == Mode::Dry {
            return self.send_patch(base.root);
        }
        let changeset = self.compute_changeset(base.root)?;
        if changeset.patch.len() > PATCH_RAW_BYTES_MAX {
            return self.send_outline();
        }
        let is_small = changeset.uploads.raw_bytes() <= SMALL_PUBLISH_RAW_BYTES
            && changeset.uploads.is_one_pack();
        if !is_small {
            self.changeset = Some(changeset);
            return Ok(Action::Begin(self.request(Some(base.root), Vec::new())));
        }
        let mut request = self.request(Some(base.root), vec![patch_section(changeset.patch)]);
        request.pack = (!changeset.uploads.is_empty())
            .then(|| self.with_references(changeset.uploads, Some(PREFIX_RAW_BYTES_MAX)));
        Ok(Action::Begin(request))
    }

    /// The server has the base: what is new travels first, and the patch then counts it.
    fn on_base_known(&mut self, reply: BeginReply) -> Result<Phase, PushError> {
        let Some(base) = self.intent.base else {
            return Err(PushError::Protocol(
                "it knows a base that the client never named",
            ));
        };
        if reply.root != Some(base.root) {
            // Another root is active: only the server can compute what this one changes there.
            self.summary = None;
            return Ok(Phase::SendPatch);
        }
        let Some(changeset) = self.changeset.take() else {
            return Err(PushError::Protocol(
                "it asks for packs that the client never offered",
            ));
        };
        if changeset.uploads.plan.packs.len() > PACKS_NAMED_MAX {
            return Ok(Phase::SendPatch);
        }
        self.patch = Some(changeset.patch);
        let mut uploads = self.with_references(changeset.uploads, reply.prefix_max);
        uploads.parts = upload_plan::arrived(&reply);
        uploads.arrived = reply.packs.into_iter().collect();
        Ok(Phase::Upload(uploads))
    }

    fn with_references(&self, mut uploads: Uploads, raw_bytes_max: Option<u64>) -> Uploads {
        uploads.reference = match (self.references, self.intent.base, raw_bytes_max) {
            (References::Allowed, Some(base), Some(raw_bytes_max)) => Some(DeltaReference {
                base: base.root,
                raw_bytes_max,
            }),
            (References::Allowed | References::Refused, ..) => None,
        };
        uploads
    }

    fn commit_with_packs(&self, patch: Vec<u8>, packs: &[PackId]) -> Result<Action, PushError> {
        let Some(base) = self.intent.base else {
            return Err(PushError::Protocol("packs were sent without a base"));
        };
        let patch = patch_section(patch);
        let ids: Vec<u8> = packs.iter().flat_map(|pack| *pack.as_bytes()).collect();
        let packs = Section {
            kind: SectionKind::Packs,
            bytes: ids.into(),
        };
        Ok(Action::Begin(
            self.request(Some(base.root), vec![patch, packs]),
        ))
    }

    fn compute_changeset(&mut self, base: Root) -> Result<Changeset, PushError> {
        let raw_bytes = match self.references {
            References::Allowed => REFERENCING_PACK_RAW_BYTES,
            References::Refused => PACK_RAW_BYTES_MAX,
        };
        let changeset = Changeset::of(self.source, base, self.intent.root, raw_bytes)?;
        self.summary = Some(changeset.summary);
        Ok(changeset)
    }

    fn send_patch(&mut self, base: Root) -> Result<Action, PushError> {
        let changes = diff(self.source, base, self.source, self.intent.root)?;
        let patch = encode_patch(&changes);
        if patch.len() > PATCH_RAW_BYTES_MAX {
            return self.send_outline();
        }
        let request = self.request(Some(base), vec![patch_section(patch)]);
        Ok(Action::Begin(request))
    }

    fn send_outline(&mut self) -> Result<Action, PushError> {
        let nodes = outline::nodes(self.source, self.intent.root)?;
        let bytes: usize = nodes.iter().map(|node| node.bytes.len()).sum();
        if bytes <= SMALL_MANIFEST_BYTES {
            // The nodes themselves are cheaper to send than a round trip.
            self.nodes.clone_from(&nodes);
            self.outline = Some(nodes);
            return Ok(self.send_nodes());
        }
        let ids: Vec<u8> = nodes.iter().flat_map(|node| *node.id.as_bytes()).collect();
        self.outline = Some(nodes);
        let section = Section {
            kind: SectionKind::Outline,
            bytes: ids.into(),
        };
        Ok(Action::Begin(self.request(None, vec![section])))
    }

    /// Sends the next nodes, as many as fit one request.
    fn send_nodes(&mut self) -> Action {
        let mut bytes = Vec::new();
        let mut count = 0;
        for node in &self.nodes {
            if count > 0 && bytes.len() + node.bytes.len() > NODES_BATCH_RAW_BYTES {
                break;
            }
            write_bytes(&mut bytes, &node.bytes);
            count += 1;
        }
        self.nodes.drain(..count);
        let section = Section {
            kind: SectionKind::Nodes,
            bytes: bytes.into(),
        };
        Action::Begin(self.request(None, vec![section]))
    }

    fn request(&self, base: Option<Root>, sections: Vec<Section>) -> Request {
        let head = BeginHead {
            v: VERSION,
            space: self.intent.space.clone(),
            alias: self.intent.alias.clone(),
            root: self.intent.root,
            base,
            dry: self.intent.mode == Mode::Dry,
            commit: (self.intent.mode == Mode::Publish).then(|| self.preconditions()),
        };
        Request {
            head,
            sections,
            pack: None,
        }
    }

    fn preconditions(&self) -> CommitPreconditions {
        let Intent {
            replace,
            expect,
            key,
            order,
            max_delete,
            meta,
            ..
        } = &self.intent;
        CommitPreconditions {
            expect: *expect,
            replace: *replace,
            key: key.clone(),
            order: order.clone(),
            max_delete: *max_delete,
            meta: meta.clone(),
        }
    }
}

/// A manifest below this is sent at once instead of its outline.
const SMALL_MANIFEST_BYTES: usize = 64 * 1024;

fn patch_section(patch: Vec<u8>) -> Section {
    Section {
        kind: SectionKind::Patch,
        bytes: Bytes::from(patch),
    }
}

fn done(kind: OutcomeKind, reply: BeginReply) -> Phase {
    Phase::Done(Box::new(Outcome {
        kind,
        active: reply.active,
        deploy: reply.deploy.map(|deploy| *deploy),
        url: reply.url,
        summary: reply.summary,
        missing_bytes: 0,
    }))
}
