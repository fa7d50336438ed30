//! A publish, carried out: `pmx_sync::push` says what to do next, and this does it over HTTP.

use std::time::{Duration, Instant};

use pmx_sync::code::Code;
use pmx_sync::codec::{Encoder, Level};
use pmx_sync::name::{AliasName, SpaceName};
use pmx_sync::push::{
    Action, Base, Intent, Mode, Old, Outcome, OutcomeKind, Push, Request, Uploads,
};
use pmx_sync::wire::{BeginReply, DeployMeta, Envelope, Order, Section, SectionKind, Summary};

use super::http::Client;
use super::upload::Upload;
use crate::args::Compression;
use crate::cache::{Active, LocalPacks, SiteCache};
use crate::error::Failure;
use crate::guard::MaxDelete;
use crate::interrupt::Interrupt;
use crate::local::Local;
use crate::ui::{Counting, Ui};

/// On which terms a folder is published.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The preview that is published, if it shall not become active.
    pub alias: Option<AliasName>,
    /// Publish, or only ask.
    pub mode: Mode,
    /// The deploy that must be active.
    pub expect: Option<u64>,
    /// The build's place in its sequence.
    pub order: Option<Order>,
    /// What shall be remembered.
    pub meta: DeployMeta,
    /// The most files that may go.
    pub max_delete: Option<MaxDelete>,
    /// How hard to compress.
    pub compression: Compression,
}

impl Terms {
    /// No terms: of the site itself, whatever is active, and nothing to be remembered.
    pub fn plain(mode: Mode, compression: Compression) -> Self {
        Self {
            alias: None,
            mode,
            expect: None,
            order: None,
            meta: DeployMeta::default(),
            max_delete: None,
            compression,
        }
    }
}

/// What a publish did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// How it ended.
    pub outcome: Outcome,
    /// How long its steps took.
    pub times: Times,
}

/// How long the steps of a publish took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Learning what is missing.
    pub negotiate: Duration,
    /// Sending it.
    pub upload: Duration,
    /// Committing.
    pub commit: Duration,
}

/// Everything a publish works with.
pub struct Publish<'a> {
    /// The server.
    pub client: &'a Client,
    /// The space.
    pub space: &'a SpaceName,
    /// The folder.
    pub local: &'a Local,
    /// What is known of the site.
    pub site: &'a SiteCache,
    /// The bytes of what was published there.
    pub packs: &'a LocalPacks,
    /// The terms.
    pub terms: &'a Terms,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Where to say what happens.
    pub ui: &'a Ui,
}

impl Publish<'_> {
    /// Publishes. Whatever interrupts it, what was uploaded stays, and the next run goes on there.
    pub fn run(&self) -> Result<Published, Failure> {
        let known = self.site.active();
        let base = known.filter(|known| self.local.knows(&known.root));
        let mut push = Push::new(self.local, self.intent(base)?);
        let mut times = Times::default();
        let mut guard = Guard {
            bound: self.terms.max_delete,
            verdict: Verdict::Unknown,
        };
        loop {
            self.interrupt.check()?;
            let action = push.next()?;
            let started = Instant::now();
            match action {
                Action::Begin(request) => {
                    if request.head.commit.is_some() {
                        guard.check_base(push.summary())?;
                    }
                    let body = self.body(request)?;
                    let reply = self.client.begin(&body);
                    times.negotiate += started.elapsed();
                    tell(&mut push, &mut guard, reply)?;
                }
                Action::Upload(uploads) => {
                    if uploads.behind.is_some() {
                        // What the base lacks is all that changes.
                        guard.check_base(push.summary())?;
                    }
                    guard.check_before_upload()?;
                    self.ui.detail(format!(
                        "uploading {} blobs, {}",
                        uploads.rows.len(),
                        crate::ui::bytes(uploads.raw_bytes())
                    ));
                    let bar = self.ui.bar(Counting::Bytes, uploads.raw_bytes());
                    let compression = self.compression(push.active(), &uploads);
                    push.uploaded(self.upload(&bar, compression).run(&uploads)?);
                    times.upload += started.elapsed();
                }
                Action::Commit(request) => {
                    guard.check_before_commit()?;
                    let body = self.body(request)?;
                    let reply = self.client.commit(&body);
                    times.commit += started.elapsed();
                    tell(&mut push, &mut guard, reply)?;
                }
                Action::Done(mut outcome) => {
                    self.keep(known, &outcome);
                    self.settle(&outcome);
                    self.count_first(&guard, &mut outcome);
                    return Ok(Published {
                        outcome: *outcome,
                        times,
                    });
                }
            }
        }
    }

    /// Keeps the bytes of what is published, for the next pack to start from.
    fn settle(&self, outcome: &Outcome) {
        match outcome.kind {
            OutcomeKind::Published | OutcomeKind::Unchanged => self.packs.settle(|| {
                let rows = self.local.scan().rows();
                rows.iter().map(|row| row.entry.blob).collect()
            }),
            OutcomeKind::Planned => {}
        }
    }

    fn intent(&self, base: Option<Active>) -> Result<Intent, Failure> {
        Ok(Intent {
            space: self.space.clone(),
            alias: self.terms.alias.clone(),
            root: self.local.root(),
            base: base.map(|Active { root, deploy }| Base { root, deploy }),
            expect: self.terms.expect,
            key: fresh_key()?,
            order: self.terms.order,
            meta: self.terms.meta.clone(),
            mode: self.terms.mode,
            old: if base.is_some_and(|base| base.root != self.local.root())
                && !(self.packs.is_empty() && self.packs.signatures().is_empty())
            {
                Old::Here
            } else {
                Old::Gone
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

    /// An upgrade is worth more work if nothing of what travels can be said by what the server has:
    /// a harder search within the packs makes up for some of it.
    fn compression(&self, active: u64, uploads: &Uploads) -> Compression {
        match self.terms.compression {
            Compression::Auto if active > 0 && uploads.behind.is_none() => {
                Compression::Level(Level::WIRE_SMALL)
            }
            asked => asked,
        }
    }

    fn upload<'a>(&'a self, bar: &'a crate::ui::Bar, compression: Compression) -> Upload<'a> {
        Upload {
            client: self.client,
            space: self.space,
            scan: self.local.scan(),
            packs: self.packs,
            compression,
            interrupt: self.interrupt,
            bar,
        }
    }

    /// Counts what the server does not: if there is no deploy yet, everything is new.
    fn count_first(&self, guard: &Guard, outcome: &mut Outcome) {
        match (outcome.kind, outcome.summary, guard.verdict) {
            (OutcomeKind::Planned, None, Verdict::First) => {
                let totals = self.local.totals();
                outcome.missing_bytes = outcome.missing_bytes.max(totals.bytes);
                outcome.summary = Some(Summary {
                    added: totals.files,
                    ..Summary::default()
                });
            }
            (OutcomeKind::Planned, None, Verdict::Unknown | Verdict::Counted(_)) => self
                .ui
                .warn("the server can't count the changes without more of the manifest"),
            (OutcomeKind::Planned | OutcomeKind::Published | OutcomeKind::Unchanged, ..) => {}
        }
    }

    /// Remembers what is active now, for the next patch to start from.
    fn keep(&self, known: Option<Active>, outcome: &Outcome) {
        match outcome.kind {
            OutcomeKind::Published | OutcomeKind::Unchanged => {
                let active = Active {
                    root: self.local.root(),
                    deploy: outcome.active,
                };
                if Some(active) != known {
                    self.site.keep(&active);
                    self.site.keep_folder(self.local.cache());
                }
            }
            OutcomeKind::Planned => {}
        }
    }
}

/// Passes an answer on to the machine: a reply, or a refusal that it may know a way around.
fn tell<S: pmx_sync::manifest::NodeSource>(
    push: &mut Push<'_, S>,
    guard: &mut Guard,
    reply: Result<BeginReply, Failure>,
) -> Result<(), Failure> {
    match reply {
        Ok(reply) => {
            guard.hear(&reply);
            Ok(push.replied(reply)?)
        }
        Err(failure) => match failure.problem {
            Some(problem) => Ok(push.refused(*problem)?),
            None => Err(failure),
        },
    }
}

/// What `--max-delete` has to say.
struct Guard {
    bound: Option<MaxDelete>,
    verdict: Verdict,
}

/// What is known of the changes that a commit would make.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Unknown,
    Counted(Summary),
    /// There is no deploy, so nothing can be removed.
    First,
}

impl Guard {
    fn hear(&mut self, reply: &BeginReply) {
        self.verdict = match reply.summary {
            Some(summary) => Verdict::Counted(summary),
            None if reply.active == 0 => Verdict::First,
            None => Verdict::Unknown,
        };
    }

    /// Before a commit in the first request: it happens only if the base is what is active.
    fn check_base(&mut self, summary: Option<Summary>) -> Result<(), Failure> {
        match summary {
            Some(summary) => {
                self.verdict = Verdict::Counted(summary);
                self.check_before_commit()
            }
            None => Ok(()),
        }
    }

    /// As early as it can be told, so that nothing is sent in vain.
    fn check_before_upload(&self) -> Result<(), Failure> {
        match self.verdict {
            Verdict::Unknown => Ok(()),
            Verdict::Counted(_) | Verdict::First => self.check_before_commit(),
        }
    }

    fn check_before_commit(&self) -> Result<(), Failure> {
        let Some(bound) = self.bound else {
            return Ok(());
        };
        match self.verdict {
            Verdict::First => Ok(()),
            Verdict::Counted(summary) => {
                let before = summary.removed + summary.modified + summary.unchanged;
                bound.check(summary.removed, before)
            }
            Verdict::Unknown => {
                let message = "the server does not say how many files this would remove";
                Err(Failure::new(Code::Protocol, message))
            }
        }
    }
}

/// Names one publish: 16 random bytes.
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
    fn removals_are_checked_against_what_the_server_counts() {
        let reply = |active: u64, summary: &str| -> BeginReply {
            let json = format!("{{\"state\":\"ready\",\"active\":{active}{summary}}}");
            serde_json::from_str(&json).unwrap()
        };
        let counted = r#","summary":{"added":0,"modified":1,"removed":5,"unchanged":4}"#;
        for (bound, active, summary, code) in [
            (None, 3, counted, None),
            (None, 3, "", None),
            (Some("50%"), 3, counted, None),
            (Some("49%"), 3, counted, Some(Code::MaxDelete)),
            (Some("4"), 3, counted, Some(Code::MaxDelete)),
            (Some("0"), 0, "", None),
            (Some("0"), 3, "", Some(Code::Protocol)),
        ] {
            let bound = bound.map(|text| text.parse().unwrap());
            let mut guard = Guard {
                bound,
                verdict: Verdict::Unknown,
            };
            guard.hear(&reply(active, summary));
            let failed = guard
                .check_before_commit()
                .map_err(|failure| failure.code)
                .err();
            assert_eq!(failed, code, "{bound:?} {summary}");
        }
    }

    #[test]
    fn keys_differ() {
        let (one, two) = (fresh_key().unwrap(), fresh_key().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
