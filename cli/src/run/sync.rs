//! `pmx sync`: publishes a folder, once or after each change.

mod follow;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::Instant;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::id::Root;
use pmx_sync::push::{Mode, PushOutcome, PushOutcomeKind};
use pmx_sync::wire::DeployMeta;

use super::report::Report;
use super::{Context, Ended, meta, rollback};
use crate::args::{FolderArgs, RollbackArgs, ScanArgs, SyncArgs};
use crate::cache::{LocalPacks, SiteCache};
use crate::client::http::{Client, Traffic};
use crate::client::initial_upload::{self, InitialUpload, Prefetched};
use crate::client::publish::{PublishTask, Published, Replaces, Terms};
use crate::config::{FolderConfig, SiteConfig};
use crate::error::Failure;
use crate::source_tree::{self, AllowEmpty, SourceTree, WatchedRead, check_empty};
use crate::ui;

pub(super) use follow::Follow;

pub(super) fn run(args: SyncArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    if let Some(deploy) = args.rollback {
        return rollback::run(instead(args, deploy), context);
    }
    let folder_args = FolderArgs {
        dir: output(args.folder.dir, args.outdir),
        scan: args.folder.scan,
    };
    let mut folder = context.layers.folder(&folder_args)?;
    if args.watch {
        folder = folder.absolute();
    }
    let site = context.site(&args.site, &folder.dir)?;
    context.note_preview(args.preview.as_ref());
    let terms = Terms {
        alias: args.preview.map(|preview| preview.alias),
        mode: if args.dry_run {
            Mode::Dry
        } else {
            Mode::Publish
        },
        replaces: match (args.expect, args.force) {
            (Some(number), _) => Replaces::Named(number),
            (None, true) => Replaces::Anything,
            (None, false) => Replaces::Seen,
        },
        order: args.order.resolve(&context.layers.env),
        older: args.older,
        meta: DeployMeta {
            live: args.live,
            ..meta(args.message, context)?
        },
        expires: args.expires,
        max_delete: args.max_delete,
        restore: Vec::new(),
        compression: args.compression,
    };
    let allow_empty = if args.allow_empty {
        AllowEmpty::Yes
    } else {
        AllowEmpty::No
    };
    let job = SyncJob::new(folder, folder_args.scan, site, terms, allow_empty);
    if args.watch {
        return follow::run(&job, context);
    }
    let client = job.client(context);
    let report = job.once(&client, context)?;
    report.print(context.ui);
    Ok(match report.outcome.kind {
        PushOutcomeKind::Unchanged if args.exit_code => Ended::Unchanged,
        PushOutcomeKind::Planned if args.exit_code && report.changes_nothing() => Ended::Unchanged,
        PushOutcomeKind::Published
        | PushOutcomeKind::Unchanged
        | PushOutcomeKind::Planned
        | PushOutcomeKind::Superseded => Ended::Done,
    })
}

/// The folder to publish: the output of a project, if both are named. If the project has no such
/// output, the path itself counts.
fn output(project: Option<PathBuf>, output: Option<PathBuf>) -> Option<PathBuf> {
    match (project, output) {
        (Some(project), Some(output)) => {
            let below = project.join(&output);
            Some(if below.is_dir() || !output.is_dir() {
                below
            } else {
                output
            })
        }
        (project, output) => project.or(output),
    }
}

/// A folder to publish to a site, once or repeatedly.
pub(super) struct SyncJob {
    pub(super) folder: FolderConfig,
    pub(super) scan: ScanArgs,
    pub(super) site: SiteConfig,
    pub(super) terms: Terms,
    pub(super) allow_empty: AllowEmpty,
    /// The state that this command saw; the cache may be missing.
    memory: Memory,
}

/// Unanswered publishes in memory: one that no server received also leaves a root.
const UNANSWERED_MAX: usize = 16;

/// State of a site as this command saw it, across its publishes.
#[derive(Debug, Default)]
struct Memory {
    /// The deploy that it saw last.
    seen: Cell<Option<u64>>,
    /// Roots of publishes that ended without an answer: the server may have committed them.
    unanswered: RefCell<Vec<Root>>,
    /// Whether the command ignores the cache folder, with the state that other commands saw.
    is_alone: bool,
}

impl SyncJob {
    pub(super) fn new(
        folder: FolderConfig,
        scan: ScanArgs,
        site: SiteConfig,
        terms: Terms,
        allow_empty: AllowEmpty,
    ) -> Self {
        Self {
            folder,
            scan,
            site,
            terms,
            allow_empty,
            memory: Memory::default(),
        }
    }

    /// A job on the command's own host. Its first publish may replace any active deploy, because
    /// the cache of that address may be of another data folder.
    pub(super) fn on_own_host(self) -> Self {
        let memory = Memory {
            is_alone: true,
            ..self.memory
        };
        Self { memory, ..self }
    }

    /// The terms of the next publish. Once a publish has replaced the deploy that the user named,
    /// the next one replaces that publish.
    fn terms(&self) -> Terms {
        let mut terms = self.terms.clone();
        if let (Replaces::Named(_), Some(seen)) = (terms.replaces, self.memory.seen.get()) {
            terms.replaces = Replaces::Named(seen);
        }
        terms
    }

    /// The deploy that this command saw last; before its first publish, the cache's.
    fn seen(&self, site: &SiteCache) -> Option<u64> {
        let cached = || (!self.memory.is_alone).then(|| site.seen()).flatten();
        self.memory.seen.get().or_else(cached)
    }

    fn remember(&self, outcome: &PushOutcome) {
        match outcome.kind {
            PushOutcomeKind::Published | PushOutcomeKind::Unchanged => {
                self.memory.seen.set(Some(outcome.active));
            }
            PushOutcomeKind::Planned | PushOutcomeKind::Superseded => {}
        }
    }

    /// Roots of publishes without an answer: of this command, and of earlier ones.
    fn unanswered(&self, site: &SiteCache) -> Vec<Root> {
        let mut roots = self.memory.unanswered.borrow().clone();
        if !self.memory.is_alone {
            let mut earlier = site.unanswered();
            earlier.retain(|root| !roots.contains(root));
            roots.extend(earlier);
        }
        roots
    }

    /// Remembers a publish that has no answer yet. A client that is killed then leaves its root.
    fn remember_unanswered(&self, root: Root, site: &SiteCache) {
        let mut unanswered = self.unanswered(site);
        unanswered.retain(|earlier| *earlier != root);
        unanswered.insert(0, root);
        self.keep_unanswered(unanswered, site);
    }

    /// Forgets a publish that the server refused, and all publishes once one succeeded.
    fn forget_unanswered(&self, root: Root, result: &Result<Published, Failure>, site: &SiteCache) {
        let mut unanswered = self.unanswered(site);
        match result {
            Ok(_) => unanswered.clear(),
            Err(failure) => {
                let problem = failure.problem.as_deref();
                if problem.is_none_or(|problem| problem.status >= 500) {
                    return;
                }
                unanswered.retain(|earlier| *earlier != root);
            }
        }
        self.keep_unanswered(unanswered, site);
    }

    fn keep_unanswered(&self, mut roots: Vec<Root>, site: &SiteCache) {
        roots.truncate(UNANSWERED_MAX);
        if !self.memory.is_alone {
            site.keep_unanswered(&roots);
        }
        self.memory.unanswered.replace(roots);
    }

    /// Whether a conflict is with a deploy of this user's, whose answer was lost. This command has
    /// seen that deploy from then on.
    fn is_own(&self, conflict: &Failure, unanswered: &[Root], publish: &PublishTask<'_>) -> bool {
        let problem = conflict.problem.as_deref();
        let live = problem.filter(|problem| problem.code == Code::Conflict);
        let Some(live) = live.and_then(|problem| problem.active) else {
            return false;
        };
        if unanswered.is_empty() {
            return false;
        }
        let deploy = publish.client.deploy(&self.site.space, live);
        let is_own = deploy.is_ok_and(|deploy| unanswered.contains(&deploy.root));
        if is_own {
            self.memory.seen.set(Some(live));
        }
        is_own
    }

    pub(super) fn client(&self, context: &Context<'_>) -> Client {
        context.client(&self.site)
    }

    /// Publishes once.
    pub(super) fn once(&self, client: &Client, context: &Context<'_>) -> Result<Report, Failure> {
        let looked = self.look(client, context, WatchedRead::default())?;
        self.send(looked, client, context)
    }

    /// Reads the folder before a publish.
    pub(super) fn look(
        &self,
        client: &Client,
        context: &Context<'_>,
        look: WatchedRead<'_>,
    ) -> Result<Looked, Failure> {
        let started = Instant::now();
        let before = client.traffic();
        let channel = Channel {
            space: self.site.space.clone(),
            alias: self.terms.alias.clone(),
        };
        let site = context.cache.site(&self.site.server, &channel);
        let (base, packs) = (site.active(), site.packs());
        let known = base.map_or(SiteKnowledge::Nothing, |_| SiteKnowledge::Active);
        let (tree, prefetched) = self.read(known, context, look)?;
        if base.is_some_and(|base| !tree.contains(&base.root)) {
            site.nodes()
                .into_iter()
                .for_each(|nodes| tree.insert(nodes));
        }
        Ok(Looked {
            started,
            before,
            site,
            packs,
            tree,
            prefetched,
        })
    }

    /// Publishes a folder that was read.
    pub(super) fn send(
        &self,
        looked: Looked,
        client: &Client,
        context: &Context<'_>,
    ) -> Result<Report, Failure> {
        let Looked {
            started,
            before,
            site,
            packs,
            tree,
            prefetched,
        } = looked;
        let prefetched = Cell::new(prefetched);
        let totals = tree.totals();
        check_empty(totals, self.allow_empty)?;
        tree.rule_files()?
            .check(&|path| tree.has(path), context.ui)?;
        context.ui.detail(format!(
            "{}, {}, {} read",
            ui::count(totals.files, "file", "files"),
            ui::bytes(totals.bytes),
            tree.scan().stats().read.files
        ));
        let upload = InitialUpload {
            client,
            space: &self.site.space,
            packs: &packs,
            compression: self.terms.compression,
            interrupt: &context.interrupt,
            ui: context.ui,
        };
        let mut terms = self.terms();
        // The client of a PathMX build reads its site's events, whichever page it shows.
        terms.meta.events = tree.scan().is_pathmx();
        let publish = PublishTask {
            client,
            space: &self.site.space,
            tree: &tree,
            site: &site,
            seen: self.seen(&site),
            packs: &packs,
            terms: &terms,
            send_ahead: &|| prefetched.take().map_or(Ok(()), |read| upload.run(read)),
            interrupt: &context.interrupt,
            ui: context.ui,
        };
        let Published { outcome, times } = self.run(&publish)?;
        self.remember(&outcome);
        Ok(Report {
            space: self.site.space.clone(),
            alias: self.terms.alias.clone(),
            totals,
            root: tree.root(),
            outcome,
            times,
            scan: tree.took(),
            total: started.elapsed(),
            traffic: client.traffic().since(before),
            paths: tree.scan().paths().to_vec(),
        })
    }

    /// Runs a publish, and once more if it conflicts with a deploy of this user's, whose answer was
    /// lost.
    fn run(&self, publish: &PublishTask<'_>) -> Result<Published, Failure> {
        let bases = publish.site.active().into_iter().chain(publish.site.site());
        let bases: Vec<Root> = bases.map(|base| base.root).collect();
        let root = publish.tree.root();
        let unanswered = self.unanswered(publish.site);
        if publish
            .site
            .active()
            .is_none_or(|active| active.root != root)
        {
            self.remember_unanswered(root, publish.site);
        }
        let mut result = keeping(publish.tree, &bases, || publish.run());
        let conflicts = |failure: &Failure| self.is_own(failure, &unanswered, publish);
        if result.as_ref().is_err_and(conflicts) {
            let (terms, seen) = (self.terms(), self.seen(publish.site));
            let terms = Terms {
                meta: publish.terms.meta.clone(),
                ..terms
            };
            let again = PublishTask {
                terms: &terms,
                seen,
                ..*publish
            };
            result = again.run();
        }
        self.forget_unanswered(root, &result, publish.site);
        result
    }
}

/// A folder that was read, and its terms.
pub(super) struct Looked {
    started: Instant,
    before: Traffic,
    site: SiteCache,
    packs: LocalPacks,
    pub(super) tree: SourceTree,
    /// The prefetched contents of a first read.
    prefetched: Option<Prefetched>,
}

/// Known state of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SiteKnowledge {
    /// The site is unknown.
    Nothing,
    /// The active deploy is known.
    Active,
}

impl SyncJob {
    /// Reads the folder. If the cache knows neither it nor the site, the server may know nothing
    /// either. Then the contents stay in memory.
    fn read(
        &self,
        known: SiteKnowledge,
        context: &Context<'_>,
        look: WatchedRead<'_>,
    ) -> Result<(SourceTree, Option<Prefetched>), Failure> {
        let (folder, ui) = (&self.folder, context.ui);
        let cache = context.cache.folder(folder);
        let is_folder_known = !self.scan.no_cache && cache.has_scan();
        let is_first = known == SiteKnowledge::Nothing
            && !is_folder_known
            && self.terms.mode == Mode::Publish
            && self.terms.alias.is_none();
        if !is_first {
            let tree = SourceTree::read_watched(folder, &self.scan, cache, ui, look)?;
            return Ok((tree, None));
        }
        let ahead = source_tree::list(folder, &self.scan, ui, look.faults)?;
        crate::allocator::raise_mmap_threshold();
        let prefetched = initial_upload::prefetch(&ahead, &context.interrupt)?;
        let tree = SourceTree::read_ahead(folder, &self.scan, cache, ui, &ahead, look.faults)?;
        Ok((tree, Some(prefetched)))
    }
}

/// Publishes, and stores the scan at the same time. So the next run need not hash the files again,
/// however the publish ends.
fn keeping<T>(tree: &SourceTree, bases: &[Root], publish: impl FnOnce() -> T) -> T {
    let had_manifest = tree.has_manifest();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| tree.keep(bases));
        publish()
    });
    if !had_manifest {
        tree.keep_nodes(bases);
    }
    result
}

fn instead(args: SyncArgs, deploy: u64) -> RollbackArgs {
    RollbackArgs {
        deploy: Some(deploy),
        site: args.site,
        dir: None::<PathBuf>,
        message: args.message,
        expect: args.expect,
    }
}
