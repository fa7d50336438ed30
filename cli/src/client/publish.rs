//! Publish driver: performs over HTTP the steps that `pmx_sync::push` decides.

use std::time::{Duration, Instant};

use pmx_core::code::Code;
use pmx_core::codec::{Encoder, Level};
use pmx_core::name::{AliasName, SpaceName};
use pmx_sync::push::{
    Action, Base, BaseBlobs, Intent, Mode, Push, PushOutcome, PushOutcomeKind, Request, Uploads,
};
use pmx_sync::wire::{
    BeginReply, DeployMeta, Envelope, MaxDelete, Order, PreviewExpiry, PublishState, Replace,
    RestoredDeploy, Section, SectionKind, Summary,
};

use super::http::Client;
use super::publish_source::PublishSource;
use super::upload::Upload;
use crate::args::Compression;
use crate::cache::{Active, LocalPacks, SiteCache};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::max_delete::DeleteGuard;
use crate::order::Older;
use crate::source_tree::SourceTree;
use crate::ui::{Counting, Ui};

/// The terms of a publish.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The preview to publish, if the deploy shall not become active.
    pub alias: Option<AliasName>,
    /// Publish, or only compare.
    pub mode: Mode,
    /// The deploys that may be replaced.
    pub replaces: Replaces,
    /// The build's place in its sequence.
    pub order: Option<Order>,
    /// Policy for a newer build that was published before.
    pub older: Older,
    /// The metadata of the deploy.
    pub meta: DeployMeta,
    /// With a preview: how long it stays; `None` leaves the end that it has.
    pub expires: Option<PreviewExpiry>,
    /// The most files that a publish may remove.
    pub max_delete: Option<MaxDelete>,
    /// Deploys of a backup to be recorded as they were, the last with the content to publish.
    pub restore: Vec<RestoredDeploy>,
    /// How hard to compress.
    pub compression: Compression,
}

/// Policy for the deploys that a publish may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// The deploy that this machine saw last, or an older build of the same sequence.
    Seen,
    /// The deploy that the user named.
    Named(u64),
    /// The deploy with this number, unless a rollback holds it.
    Exactly(u64),
    /// Any deploy.
    Anything,
}

impl Terms {
    /// The default terms: publish to the site itself, without order, message or bound.
    pub fn plain(mode: Mode, compression: Compression) -> Self {
        Self {
            alias: None,
            mode,
            replaces: Replaces::Seen,
            order: None,
            older: Older::Refuse,
            meta: DeployMeta::default(),
            expires: None,
            max_delete: None,
            restore: Vec::new(),
            compression,
        }
    }
}

/// Result of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// How it ended.
    pub outcome: PushOutcome,
    /// How long its steps took.
    pub times: Times,
}

/// How long the steps of a publish took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Finding the missing blobs.
    pub negotiate: Duration,
    /// Sending them.
    pub upload: Duration,
    /// Committing.
    pub commit: Duration,
}

/// Everything a publish works with.
pub struct PublishTask<'a, C = SourceTree> {
    /// The server.
    pub client: &'a Client,
    /// The space.
    pub space: &'a SpaceName,
    /// The site to publish: a folder, or a changed deploy.
    pub tree: &'a C,
    /// The cached state of the site.
    pub site: &'a SiteCache,
    /// The deploy that this machine, or this command, saw last.
    pub seen: Option<u64>,
    /// The bytes of earlier publishes to this site.
    pub packs: &'a LocalPacks,
    /// The terms.
    pub terms: &'a Terms,
    /// Sends the prefetched packs, to a server that knows nothing of the site.
    pub send_ahead: &'a dyn Fn() -> Result<(), Failure>,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Where progress is shown.
    pub ui: &'a Ui,
}

impl<C: PublishSource> PublishTask<'_, C> {
    /// Publishes. After an interruption, uploaded packs stay on the server, and the next run
    /// resumes there.
    pub fn run(&self) -> Result<Published, Failure> {
        let known = self.site.active();
        let base = self.tree.base(known);
        let mut push = Push::new(self.tree, self.intent(base)?);
        let mut times = Times::default();
        let mut guard = DeleteGuard::new(self.terms.max_delete);
        loop {
            self.interrupt.check()?;
            let action = push.next()?;
            let started = Instant::now();
            match action {
                Action::Begin(request) => {
                    let body = self.body(request)?;
                    let reply = self.client.begin(&body);
                    times.negotiate += started.elapsed();
                    if reply.as_ref().is_ok_and(knows_nothing) {
                        let started = Instant::now();
                        (self.send_ahead)()?;
                        times.upload += started.elapsed();
                    }
                    if let Some(outcome) = self.take(&mut push, &mut guard, reply)? {
                        return Ok(Published { outcome, times });
                    }
                }
                Action::Upload(uploads) => {
                    self.tree.check_available(&uploads)?;
                    if uploads.reference.is_some() {
                        // The base's root is active, so its difference is the whole change.
                        guard.on_summary(push.summary());
                    }
                    guard.check()?;
                    self.ui.detail(format!(
                        "uploading {} blobs, {}",
                        uploads.rows.len(),
                        crate::ui::bytes(uploads.raw_bytes())
                    ));
                    let bar = self.ui.bar(Counting::Bytes, uploads.raw_bytes());
                    let compression = self.compression(push.active(), &uploads);
                    push.on_uploaded(self.upload(&bar, compression).run(&uploads)?);
                    times.upload += started.elapsed();
                }
                Action::Commit(request) => {
                    let body = self.body(request)?;
                    let reply = self.client.commit(&body);
                    times.commit += started.elapsed();
                    if let Some(outcome) = self.take(&mut push, &mut guard, reply)? {
                        return Ok(Published { outcome, times });
                    }
                }
                Action::Done(mut outcome) => {
                    self.keep(known, &outcome);
                    self.settle(&outcome);
                    self.count_first(&mut outcome);
                    return Ok(Published {
                        outcome: *outcome,
                        times,
                    });
                }
            }
        }
    }

    /// Stores the published bytes, from which the next pack can start.
    fn settle(&self, outcome: &PushOutcome) {
        match outcome.kind {
            PushOutcomeKind::Published | PushOutcomeKind::Unchanged => {
                self.packs.settle(|| self.tree.blobs());
            }
            PushOutcomeKind::Planned | PushOutcomeKind::Superseded => {}
        }
    }

    /// Passes an answer to the state machine: a reply, or a refusal that it may handle. Returns the
    /// outcome if a newer build makes this one obsolete, and the user allows that.
    fn take<S: pmx_sync::manifest::NodeSource>(
        &self,
        push: &mut Push<'_, S>,
        guard: &mut DeleteGuard,
        reply: Result<BeginReply, Failure>,
    ) -> Result<Option<PushOutcome>, Failure> {
        let failure = match reply {
            Ok(reply) => {
                guard.on_reply(&reply);
                push.on_reply(reply)?;
                return Ok(None);
            }
            Err(failure) => failure,
        };
        let Some(problem) = failure.problem else {
            return Err(failure);
        };
        if problem.code == Code::OlderBuild && self.terms.older == Older::Ok {
            return Ok(Some(PushOutcome {
                kind: PushOutcomeKind::Superseded,
                active: problem.active.unwrap_or(0),
                deploy: None,
                url: None,
                expires: None,
                summary: None,
                missing_bytes: 0,
            }));
        }
        push.on_refusal(*problem)?;
        Ok(None)
    }

    fn intent(&self, base: Option<Active>) -> Result<Intent, Failure> {
        let (replace, expect) = match self.terms.replaces {
            Replaces::Seen => (Replace::Seen, self.seen),
            Replaces::Named(number) => (Replace::Named, Some(number)),
            Replaces::Exactly(number) => (Replace::Exact, Some(number)),
            Replaces::Anything => (Replace::Any, None),
        };
        Ok(Intent {
            space: self.space.clone(),
            alias: self.terms.alias.clone(),
            root: self.tree.root(),
            base: base.map(|Active { root, deploy }| Base { root, deploy }),
            replace,
            expect,
            max_delete: self.terms.max_delete,
            key: match self.terms.restore.last() {
                Some(restored) => restored.key.clone(),
                None => fresh_key()?,
            },
            order: self.terms.order.clone(),
            meta: self.terms.meta.clone(),
            expires: self.terms.expires,
            restore: self.terms.restore.clone(),
            mode: self.terms.mode,
            base_blobs: if base.is_some_and(|base| base.root != self.tree.root())
                && !(self.packs.is_empty() && self.packs.signatures().is_empty())
            {
                BaseBlobs::Available
            } else {
                BaseBlobs::Missing
            },
        })
    }

    fn body(&self, request: Request) -> Result<Vec<u8>, Failure> {
        let mut sections = request.sections;
        if let Some(uploads) = &request.pack {
            let bar = self.ui.bar(Counting::Bytes, 0);
            if let Some(pack) = self
                .upload(&bar, self.terms.compression)
                .small_pack(uploads)?
            {
                let bytes = pack.into_bytes().into();
                sections.push(Section {
                    kind: SectionKind::Pack,
                    bytes,
                });
            }
        }
        let head = serde_json::to_vec(&request.head);
        let head = head.map_err(|error| Failure::new(Code::RequestMalformed, error.to_string()))?;
        let envelope = Envelope {
            head: head.into(),
            sections,
        };
        Ok(envelope.encode(&mut Encoder::new()))
    }

    /// An upgrade deserves more work if the server has no base for any sent blob. A harder search
    /// within the packs then makes up for some of it.
    fn compression(&self, active: u64, uploads: &Uploads) -> Compression {
        match self.terms.compression {
            Compression::Auto if active > 0 && uploads.reference.is_none() => {
                Compression::Level(Level::WIRE_SMALL)
            }
            asked => asked,
        }
    }

    fn upload<'a>(&'a self, bar: &'a crate::ui::Bar, compression: Compression) -> Upload<'a> {
        Upload {
            client: self.client,
            space: self.space,
            scan: self.tree.scan(),
            packs: self.packs,
            compression,
            interrupt: self.interrupt,
            bar,
        }
    }

    /// Counts the changes that the server does not: without a deploy, every file is new.
    fn count_first(&self, outcome: &mut PushOutcome) {
        match (outcome.kind, outcome.summary, outcome.active) {
            (PushOutcomeKind::Planned, None, 0) => {
                let totals = self.tree.totals();
                outcome.missing_bytes = outcome.missing_bytes.max(totals.bytes);
                outcome.summary = Some(Summary {
                    added: totals.files,
                    ..Summary::default()
                });
            }
            (PushOutcomeKind::Planned, None, _) => self
                .ui
                .warn("the server can't count the changes without more of the manifest"),
            (
                PushOutcomeKind::Planned
                | PushOutcomeKind::Published
                | PushOutcomeKind::Unchanged
                | PushOutcomeKind::Superseded,
                ..,
            ) => {}
        }
    }

    /// Stores the active deploy, from which the next patch can start.
    fn keep(&self, known: Option<Active>, outcome: &PushOutcome) {
        match outcome.kind {
            PushOutcomeKind::Published | PushOutcomeKind::Unchanged => {
                let active = Active {
                    root: self.tree.root(),
                    deploy: outcome.active,
                };
                if Some(active) != known {
                    self.tree.keep_active(&active, self.site);
                }
            }
            PushOutcomeKind::Planned | PushOutcomeKind::Superseded => {}
        }
    }
}

/// Whether a server has no data of a site: neither a deploy nor the packs of an unfinished publish.
fn knows_nothing(reply: &BeginReply) -> bool {
    reply.state == PublishState::Outline && reply.active == 0 && reply.packs.is_empty()
}

/// Draws a key that names one publish: 16 random bytes.
pub fn fresh_key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(
            Code::Local,
            format!("the system has no randomness: {error}"),
        )
    })?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_differ() {
        let (one, two) = (fresh_key().unwrap(), fresh_key().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
