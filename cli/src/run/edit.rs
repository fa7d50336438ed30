//! Edits of a site: publishes changes to the active deploy, or to a preview, without its folder.
//!
//! The commit replaces only the deploy that was read. If another publish came first, the job reads
//! that one's deploy and applies the changes to it, unless that one changed the same paths.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::name::AliasName;
use pmx_sync::manifest::{Entry, Row};
use pmx_sync::path::SitePath;
use pmx_sync::push::{Mode, PushOutcomeKind};
use pmx_sync::rules::RuleFile;
use pmx_sync::scan::{Collisions, ScanError, ScanFault, Secrets, Sources, collide};
use pmx_sync::wire::{DeployMeta, DeployView};

use super::pull;
use super::report::Report;
use super::{Context, Ended};
use crate::args::{Compression, EditArgs, Promoted, ScanArgs};
use crate::client::edited_site::{BaseSite, EditedSite, SiteEdits};
use crate::client::http::{Client, Traffic};
use crate::client::publish::{PublishTask, Replaces, Terms};
use crate::client::publish_source::PublishSource as _;
use crate::config::{FolderConfig, SiteConfig};
use crate::error::Failure;
use crate::rule_files::{self, RuleFiles};
use crate::source_tree::{AllowEmpty, check_empty};
use crate::suggest::suggest;
use crate::ui;
use crate::warnings;

/// Deploys that a job reads before it gives up: each of them came between a read and its commit.
const ATTEMPTS: usize = 5;

/// The first deploy that a job read.
struct FirstRead {
    number: u64,
    /// Its entries at the changed paths.
    entries: Vec<Option<Entry>>,
}

/// A publish of changes to a site.
pub(super) struct EditJob {
    args: EditArgs,
    folder: FolderConfig,
    site: SiteConfig,
    client: Client,
    pub(super) allow_empty: AllowEmpty,
}

impl EditJob {
    pub(super) fn new(
        args: EditArgs,
        how: &ScanArgs,
        context: &Context<'_>,
    ) -> Result<Self, Failure> {
        let folder = context.layers.folder_at(None, how)?;
        let site = context.site(&args.site, &folder.dir)?;
        let client = context.client(&site);
        context.note_preview(args.preview.as_ref());
        Ok(Self {
            args,
            folder,
            site,
            client,
            allow_empty: AllowEmpty::No,
        })
    }

    /// Policy for private keys.
    pub(super) const fn secrets(&self) -> Secrets {
        self.folder.secrets
    }

    /// Publishes the changes. `message` is the default one of the deploy.
    pub(super) fn run(
        &self,
        edits: &SiteEdits,
        message: String,
        context: &Context<'_>,
    ) -> Result<Ended, Failure> {
        let given = self.args.message.clone().unwrap_or(message);
        let meta = super::meta(Some(given), context)?;
        let (started, before) = (Instant::now(), self.client.traffic());
        let (mut attempt, mut first) = (1, None);
        let mut report = loop {
            match self.once(edits, &meta, &mut first, context) {
                Err(failure) if attempt < ATTEMPTS && self.is_overtaken(&failure) => attempt += 1,
                result => break result.map_err(hinted)?,
            }
            context
                .ui
                .detail("another publish came first: reading its deploy");
        };
        report.total = started.elapsed();
        report.traffic = self.client.traffic().since(before);
        report.print_with(sentence(&report, edits), context.ui);
        Ok(Ended::Done)
    }

    /// Whether the server refused because another deploy became active after the job had read one.
    fn is_overtaken(&self, failure: &Failure) -> bool {
        let is_refused = failure.problem.is_some() && failure.code == Code::Conflict;
        self.args.expect.is_none() && is_refused
    }

    /// Reads the deploy, and publishes the changes to it.
    fn once(
        &self,
        edits: &SiteEdits,
        meta: &DeployMeta,
        first: &mut Option<FirstRead>,
        context: &Context<'_>,
    ) -> Result<Report, Failure> {
        context.interrupt.check()?;
        let space = &self.site.space;
        let deploy = self.deploy()?;
        let channel = Channel {
            space: space.clone(),
            alias: self.alias(),
        };
        let site = context.cache.site(&self.site.server, &channel);
        let base = BaseSite::fetch(&self.client, space, &deploy, site.nodes())?;
        let entries = base.entries(edits)?;
        if let Some(first) = first {
            check_unchanged(edits, first, &entries, deploy.number)?;
        } else {
            check_removals(edits, &base)?;
            let number = deploy.number;
            *first = Some(FirstRead { number, entries });
        }
        self.check_collisions(edits, &base, context)?;
        let cache = context.cache.edited(&self.site.server, &channel);
        let edited = base.edited(edits, cache)?;
        self.check(edits, &edited, deploy.number, context)?;
        let terms = self.terms(&deploy, meta);
        let publish = PublishTask {
            client: &self.client,
            space,
            tree: &edited,
            site: &site,
            seen: None,
            packs: &site.packs(),
            terms: &terms,
            send_ahead: &|| Ok(()),
            interrupt: &context.interrupt,
            ui: context.ui,
        };
        let published = publish.run();
        let published = published.map_err(|failure| held(failure, deploy.number))?;
        Ok(Report {
            space: space.clone(),
            alias: self.alias(),
            totals: edited.totals(),
            root: edited.root(),
            outcome: published.outcome,
            times: published.times,
            scan: Duration::ZERO,
            total: Duration::ZERO,
            traffic: Traffic::default(),
            paths: Vec::new(),
        })
    }

    fn alias(&self) -> Option<AliasName> {
        let preview = self.args.preview.as_ref();
        preview.map(|preview| preview.alias.clone())
    }

    /// The deploy to change.
    fn deploy(&self) -> Result<DeployView, Failure> {
        let preview = self.args.preview.clone().map(Promoted::Preview);
        let deploy = pull::deploy(preview.as_ref(), &self.client, &self.site)?;
        match self.args.expect {
            Some(expected) if expected != deploy.number => {
                let number = deploy.number;
                let message = format!("deploy {number} is active, not deploy {expected}");
                let hint = format!("Look at it with `pmx diff`; `--expect {number}` changes it.");
                Err(Failure::new(Code::Conflict, message).with_hint(hint))
            }
            Some(_) | None => Ok(deploy),
        }
    }

    fn terms(&self, deploy: &DeployView, meta: &DeployMeta) -> Terms {
        let mode = if self.args.dry_run {
            Mode::Dry
        } else {
            Mode::Publish
        };
        Terms {
            alias: self.alias(),
            replaces: match self.args.expect {
                Some(number) => Replaces::Named(number),
                None => Replaces::Exactly(deploy.number),
            },
            meta: DeployMeta {
                // The site keeps its serving settings.
                live: deploy.meta.live,
                events: deploy.meta.events,
                ..meta.clone()
            },
            ..Terms::plain(mode, Compression::Auto)
        }
    }

    /// Warns about a new path that some file systems can't store beside another, or refuses it.
    fn check_collisions(
        &self,
        edits: &SiteEdits,
        base: &BaseSite,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        if self.folder.collisions == Collisions::Allow {
            return Ok(());
        }
        for path in edits.put_paths() {
            if base.has(path)? {
                continue;
            }
            let rows = base.rows()?;
            let Some(other) = rows.iter().find(|row| collide(path, &row.path)) else {
                continue;
            };
            let [path, other] = [path, &other.path].map(|path| ui::escaped(path.as_str()));
            if self.folder.collisions == Collisions::Refuse {
                return Err(ScanError::from(ScanFault::Collision { path, other }).into());
            }
            warnings::about_collisions(context.ui, std::iter::once(format!("{path} and {other}")));
        }
        Ok(())
    }

    /// Checks the changed site as a sync checks a folder.
    fn check(
        &self,
        edits: &SiteEdits,
        edited: &EditedSite<'_>,
        number: u64,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        check_empty(edited.totals(), self.allow_empty).map_err(|failure| Failure {
            message: "the site would have no files".to_owned(),
            ..failure
        })?;
        let mut files = RuleFile::ALL.into_iter();
        if !files.any(|file| edits.has(&file.site_path())) {
            return Ok(());
        }
        let rules = RuleFiles::gather(|file| self.rule_file(file, edits, edited, number))?;
        rules.check(&|path| edited.has(path), context.ui)
    }

    /// A rule file of the changed site, with the content of the deploy if it is not changed.
    fn rule_file(
        &self,
        file: RuleFile,
        edits: &SiteEdits,
        edited: &EditedSite<'_>,
        number: u64,
    ) -> Result<Option<Bytes>, Failure> {
        let path = file.site_path();
        if !edited.has(&path) {
            return Ok(None);
        }
        if edits.has(&path) {
            return rule_files::read(&mut Sources::of(edits.scan()), file);
        }
        let bytes = self.client.file(&self.site.space, number, &path)?;
        Ok(Some(bytes.into()))
    }
}

/// The result, in one line.
fn sentence(report: &Report, edits: &SiteEdits) -> String {
    let paths: Vec<_> = edits.paths().map(SitePath::as_str).collect();
    match report.outcome.kind {
        PushOutcomeKind::Unchanged => {
            let (number, paths) = (report.outcome.active, ui::escaped(&paths.join(", ")));
            let content = match edits.put_paths().next() {
                Some(_) => "this content",
                None => "no file",
            };
            format!("unchanged: deploy {number} has {content} at {paths}")
        }
        PushOutcomeKind::Published | PushOutcomeKind::Planned | PushOutcomeKind::Superseded => {
            report.sentence()
        }
    }
}

/// Names a hold as the reason of a conflict with the very deploy that the job had read. The server
/// calls it a conflict for the clients that are older than holds.
fn held(mut failure: Failure, read: u64) -> Failure {
    if let Some(problem) = &mut failure.problem
        && problem.code == Code::Conflict
        && problem.active == Some(read)
    {
        problem.code = Code::Held;
        failure.code = Code::Held;
    }
    failure
}

/// Gives a refusal the hint for this command, which has no `--force`.
fn hinted(failure: Failure) -> Failure {
    let active = failure.problem.as_ref().and_then(|problem| problem.active);
    let Some(number) = active else {
        return failure;
    };
    match failure.code {
        Code::Held => failure.with_hint(format!(
            "`pmx resume` lifts the hold; `--expect {number}` changes the held deploy at once."
        )),
        Code::Conflict => failure.with_hint(format!(
            "Look at it with `pmx diff`; `--expect {number}` changes it."
        )),
        _ => failure,
    }
}

/// Fails if another publish changed a path of the edits after the job's first read.
fn check_unchanged(
    edits: &SiteEdits,
    first: &FirstRead,
    entries: &[Option<Entry>],
    number: u64,
) -> Result<(), Failure> {
    let Some(path) = edits.overtaken(&first.entries, entries) else {
        return Ok(());
    };
    let (path, before) = (ui::escaped(path.as_str()), first.number);
    let message = format!("another publish changed \"{path}\" after deploy {before} was read");
    let hint = format!("Look at it with `pmx get`; `--expect {number}` changes deploy {number}.");
    Err(Failure::new(Code::Conflict, message).with_hint(hint))
}

/// Fails if the site has not all files to be removed.
fn check_removals(edits: &SiteEdits, base: &BaseSite) -> Result<(), Failure> {
    let mut absent = Vec::new();
    for path in edits.removed_paths() {
        if !base.has(path)? {
            absent.push(path);
        }
    }
    let Some(first) = absent.first() else {
        return Ok(());
    };
    let message = format!("the site has no file \"{first}\", and nothing was removed");
    let failure = Failure::new(Code::NotFound, message).with_hint(hint(first, &base.rows()?));
    let items = absent.iter().skip(1).map(ToString::to_string).collect();
    Err(Failure { items, ..failure })
}

/// What the user may have meant by a path that the site does not have.
fn hint(absent: &SitePath, rows: &[Row]) -> String {
    let folder = format!("{absent}/");
    let paths: Vec<_> = rows.iter().map(|row| row.path.as_str()).collect();
    let beneath = paths
        .iter()
        .filter(|path| path.starts_with(&folder))
        .count();
    if beneath > 0 {
        let count = ui::count(beneath as u64, "file", "files");
        return format!("It is a folder with {count}: name each file.");
    }
    match suggest(absent.as_str(), &paths) {
        Some(near) => format!("Did you mean \"{}\"?", ui::escaped(near)),
        None => "`pmx pull DIR` writes the files of the site into a folder.".to_owned(),
    }
}
