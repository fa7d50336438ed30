//! Push: the client's half of a publish, as a state machine without I/O.
//!
//! [`Push::next`] returns the next action; the driver carries it out and reports the result. The
//! driver may use HTTP with retries and several uploads at once, or a simulated network that loses
//! every third reply. Every step may be repeated.
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
//! Every request of a publish carries its preconditions, so only the server decides, against the
//! deploy that is active then. The client never mistakes another deploy for the one that it may
//! replace.

mod action;
mod changeset;
mod delta_base;
mod error;
mod intent;
mod outline;
mod progress;
mod requests;
mod upload_plan;

use pmx_core::code::Code;
use pmx_core::id::{PackId, Root};
use pmx_core::limits::PACK_RAW_BYTES_MAX;
use pmx_core::problem::Problem;

use crate::limits::{
    PACKS_NAMED_MAX, PATCH_RAW_BYTES_MAX, PREFIX_RAW_BYTES_MAX, REFERENCING_PACK_RAW_BYTES,
    SMALL_PUBLISH_RAW_BYTES,
};
use crate::manifest::{NewNode, NodeSource};
use crate::wire::{BeginReply, PublishState, Replace, Summary};

pub use action::{Action, PushOutcome, PushOutcomeKind, Request};
pub use delta_base::DeltaBase;
pub use error::PushError;
pub use intent::{Base, BaseBlobs, Intent, Mode};
pub use upload_plan::{DeltaReference, Uploads};

use changeset::Changeset;
use progress::StallDetector;
use requests::patch_section;

/// A publish in progress.
pub struct Push<'a, S> {
    source: &'a S,
    intent: Intent,
    phase: Phase,
    /// The ids of the outline in the client's request, in order.
    outline: Option<Vec<NewNode>>,
    /// Nodes still to be sent.
    nodes: Vec<NewNode>,
    /// The active deploy in the server's last reply.
    active: u64,
    /// Whether the server has answered yet.
    is_first: bool,
    progress: StallDetector,
    /// The new blobs, while the server checks whether it has the base.
    changeset: Option<Changeset>,
    /// The patch to send once its blobs are uploaded.
    patch: Option<Vec<u8>>,
    /// The counts of changes against the base.
    summary: Option<Summary>,
    /// Whether packs may refer to the base.
    references: References,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum References {
    /// Neither side has ruled references out.
    Allowed,
    /// The server did not find the referenced blobs, or this machine does not store them.
    Refused,
}

#[derive(Debug)]
enum Phase {
    Start,
    /// Send the patch that references the blobs of uploaded packs, and commit.
    CommitWithPacks(Vec<u8>, Vec<PackId>),
    /// Send the root alone.
    Query,
    /// Send a patch, but commit separately: another deploy overtook the small publish.
    SendPatch,
    SendOutline,
    SendNodes,
    Upload(Uploads),
    Commit,
    /// The driver has an action in progress.
    Waiting,
    Done(Box<PushOutcome>),
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
            progress: StallDetector::default(),
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

    /// The deploy that a commit would replace, if known; 0 if there is none.
    pub const fn active(&self) -> u64 {
        self.active
    }

    /// The root's changes against its base, if known. A commit with a patch makes these changes.
    pub const fn summary(&self) -> Option<Summary> {
        self.summary
    }

    /// Applies the server's reply to the last request.
    pub fn on_reply(&mut self, reply: BeginReply) -> Result<(), PushError> {
        self.active = reply.active;
        if std::mem::take(&mut self.is_first) && self.intent.replace == Replace::Seen {
            // Without a cache, the client first sees the deploy that is active now.
            self.intent.expect.get_or_insert(reply.active);
        }
        self.progress.on_reply(&reply, self.nodes.len())?;
        self.phase = match reply.state {
            PublishState::Current => done(PushOutcomeKind::Unchanged, reply),
            PublishState::Published => done(PushOutcomeKind::Published, reply),
            PublishState::Ready if self.intent.mode == Mode::Dry => {
                done(PushOutcomeKind::Planned, reply)
            }
            PublishState::Ready => Phase::Commit,
            PublishState::Base => self.on_base_known(reply)?,
            PublishState::Outline if !self.nodes.is_empty() => Phase::SendNodes,
            PublishState::Outline if self.outline.is_none() => Phase::SendOutline,
            PublishState::Outline if self.intent.mode == Mode::Dry => {
                done(PushOutcomeKind::Planned, reply)
            }
            // What the server had expired, because the publish paused: it begins anew.
            PublishState::Outline => {
                self.outline = None;
                Phase::SendOutline
            }
            PublishState::Nodes => {
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
            PublishState::Blobs => {
                let uploads = Uploads::missing(self.source, self.intent.root, &reply)?;
                if uploads.is_empty() {
                    return Err(PushError::Protocol("it lacks blobs but names none"));
                }
                if self.intent.mode == Mode::Dry {
                    let mut phase = done(PushOutcomeKind::Planned, reply);
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

    /// Records that the last [`Action::Upload`] is complete, in these packs.
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
            // The root alone: if it is active or was deployed, the client sends nothing else.
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

    /// The server has the base: the client uploads the new blobs first, then the patch for them.
    fn on_base_known(&mut self, reply: BeginReply) -> Result<Phase, PushError> {
        let Some(base) = self.intent.base else {
            return Err(PushError::Protocol(
                "it knows a base that the client never named",
            ));
        };
        if reply.root != Some(base.root) {
            // Another root is active: only the server can compute the changes against it.
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

    fn compute_changeset(&mut self, base: Root) -> Result<Changeset, PushError> {
        let raw_bytes = match self.references {
            References::Allowed => REFERENCING_PACK_RAW_BYTES,
            References::Refused => PACK_RAW_BYTES_MAX,
        };
        let changeset = Changeset::of(self.source, base, self.intent.root, raw_bytes)?;
        self.summary = Some(changeset.summary);
        Ok(changeset)
    }
}

fn done(kind: PushOutcomeKind, reply: BeginReply) -> Phase {
    Phase::Done(Box::new(PushOutcome {
        kind,
        active: reply.active,
        deploy: reply.deploy.map(|deploy| *deploy),
        url: reply.url,
        expires: reply.expires,
        summary: reply.summary,
        missing_bytes: 0,
    }))
}
