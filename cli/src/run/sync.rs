//! `pmx sync`: publish a folder, once or whenever it changes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pmx_sync::channel::Channel;
use pmx_sync::id::Root;
use pmx_sync::limits::MESSAGE_BYTES_MAX;
use pmx_sync::manifest::Totals;
use pmx_sync::name::{AliasName, SpaceName};
use pmx_sync::push::{Mode, Outcome, OutcomeKind};
use pmx_sync::wire::{DeployMeta, Summary};
use serde::Serialize;

use super::{Context, Ended, follow, rollback};
use crate::address;
use crate::args::{FolderArgs, RollbackArgs, ScanArgs, SyncArgs};
use crate::cache::{LocalPacks, SiteCache};
use crate::client::ahead::{self, Sending};
use crate::client::http::{Client, Traffic};
use crate::client::publish::{Publish, Published, Terms, Times};
use crate::config::{Folder, Site};
use crate::error::Failure;
use crate::local::{self, AllowEmpty, Local, Look, check_empty};
use crate::ui::{self, Counting, Ui};

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
    if let Some(preview) = args.preview.as_ref().filter(|it| it.is_changed()) {
        let (asked, alias) = (&preview.asked, &preview.alias);
        context
            .ui
            .note(format!("the preview of {asked} is named {alias}"));
    }
    let terms = Terms {
        alias: args.preview.map(|preview| preview.alias),
        mode: if args.dry_run {
            Mode::Dry
        } else {
            Mode::Publish
        },
        expect: args.expect,
        order: args.order.resolve(&context.layers.env),
        meta: DeployMeta {
            live: args.live,
            ..meta(args.message, context)?
        },
        max_delete: args.max_delete,
        compression: args.compression,
    };
    let allow_empty = if args.allow_empty {
        AllowEmpty::Yes
    } else {
        AllowEmpty::No
    };
    let job = Job {
        folder,
        scan: folder_args.scan,
        site,
        terms,
        allow_empty,
    };
    if args.watch {
        return follow::run(&job, context);
    }
    let client = job.client(context);
    let report = job.once(&client, context)?;
    report.print(context.ui);
    Ok(match report.outcome.kind {
        OutcomeKind::Unchanged if args.exit_code => Ended::Unchanged,
        OutcomeKind::Planned if args.exit_code && report.changes_nothing() => Ended::Unchanged,
        OutcomeKind::Published | OutcomeKind::Unchanged | OutcomeKind::Planned => Ended::Done,
    })
}

/// The folder to publish: the output of a project, if both are named. An output that is not there
/// below the project is taken as it is named.
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

/// A folder that is published to a site, perhaps again and again.
pub(super) struct Job {
    pub(super) folder: Folder,
    pub(super) scan: ScanArgs,
    pub(super) site: Site,
    pub(super) terms: Terms,
    pub(super) allow_empty: AllowEmpty,
}

impl Job {
    pub(super) fn client(&self, context: &Context<'_>) -> Client {
        context.client(&self.site)
    }

    /// Publishes once.
    pub(super) fn once(&self, client: &Client, context: &Context<'_>) -> Result<Report, Failure> {
        let looked = self.look(client, context, Look::default())?;
        self.send(looked, client, context)
    }

    /// Reads the folder, before it is published.
    pub(super) fn look(
        &self,
        client: &Client,
        context: &Context<'_>,
        look: Look<'_>,
    ) -> Result<Looked, Failure> {
        let started = Instant::now();
        let before = client.traffic();
        let channel = Channel {
            space: self.site.space.clone(),
            alias: self.terms.alias.clone(),
        };
        let site = context.cache.site(&self.site.server, &channel);
        let (base, packs) = (site.active(), site.packs());
        let known = base.map_or(Known::Nothing(&packs), |_| Known::Active);
        let (local, sending) = self.read(client, &known, context, look)?;
        if base.is_some_and(|base| !local.knows(&base.root)) {
            site.nodes()
                .into_iter()
                .for_each(|nodes| local.adopt(nodes));
        }
        Ok(Looked {
            started,
            before,
            site,
            packs,
            local,
            sending,
        })
    }

    /// Publishes what was read.
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
            local,
            sending,
        } = looked;
        let totals = local.totals();
        check_empty(totals, self.allow_empty)?;
        context.ui.detail(format!(
            "{}, {}, {} read",
            ui::count(totals.files, "file", "files"),
            ui::bytes(totals.bytes),
            local.scan().stats().read.files
        ));
        // The client of a PathMX build reads its site's events, whatever page it shows.
        let terms = &Terms {
            meta: DeployMeta {
                events: local.scan().is_pathmx(),
                ..self.terms.meta.clone()
            },
            ..self.terms.clone()
        };
        let publish = Publish {
            client,
            space: &self.site.space,
            local: &local,
            site: &site,
            packs: &packs,
            terms,
            interrupt: &context.interrupt,
            ui: context.ui,
        };
        let bases = site.active().into_iter().chain(site.site());
        let bases: Vec<Root> = bases.map(|base| base.root).collect();
        let result = keeping(&local, &bases, || publish.run());
        let Published { outcome, mut times } = result?;
        times.upload += sending;
        Ok(Report {
            space: self.site.space.clone(),
            alias: self.terms.alias.clone(),
            totals,
            root: local.root(),
            outcome,
            times,
            scan: local.took(),
            total: started.elapsed(),
            traffic: since(before, client.traffic()),
        })
    }
}

/// A folder that was read, and what it is published with.
pub(super) struct Looked {
    started: Instant,
    before: Traffic,
    site: SiteCache,
    packs: LocalPacks,
    pub(super) local: Local,
    sending: Duration,
}

/// What is known here of the site.
enum Known<'a> {
    /// Nothing: what is sent is kept from the first.
    Nothing(&'a LocalPacks),
    /// What was active.
    Active,
}

impl Job {
    /// Reads the folder. If neither it nor the site is known here, and the server knows nothing
    /// of the site either, its files are sent meanwhile, which takes the time that is returned.
    fn read(
        &self,
        client: &Client,
        known: &Known<'_>,
        context: &Context<'_>,
        look: Look<'_>,
    ) -> Result<(Local, Duration), Failure> {
        let (folder, ui) = (&self.folder, context.ui);
        let cache = context.cache.folder(folder);
        let is_folder_known = !self.scan.no_cache && cache.has_scan();
        let packs = match known {
            Known::Nothing(packs) if !is_folder_known && self.terms.mode == Mode::Publish => packs,
            Known::Nothing(_) | Known::Active => {
                let local = Local::read_watched(folder, &self.scan, cache, ui, look)?;
                return Ok((local, Duration::ZERO));
            }
        };
        if !ahead::is_untouched(client, &self.site.space)? {
            let local = Local::read_watched(folder, &self.scan, cache, ui, look)?;
            return Ok((local, Duration::ZERO));
        }
        let ahead = local::list(folder, &self.scan, ui, look.faults)?;
        pmx_heap::keep_large_pieces();
        let started = Instant::now();
        let bar = ui.bar(Counting::Bytes, ahead.totals().bytes);
        let sending = Sending {
            client,
            space: &self.site.space,
            ahead: &ahead,
            packs,
            compression: self.terms.compression,
            interrupt: &context.interrupt,
            bar: &bar,
        };
        sending.run()?;
        let took = started.elapsed();
        let local = Local::read_ahead(folder, &self.scan, cache, ui, &ahead, look.faults)?;
        Ok((local, took))
    }
}

/// Publishes, and meanwhile keeps what was learnt about the folder: what was hashed need not be
/// hashed again, however the publish ends.
fn keeping<T>(local: &Local, bases: &[Root], publish: impl FnOnce() -> T) -> T {
    let had_manifest = local.has_manifest();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| local.keep(bases));
        publish()
    });
    if !had_manifest {
        local.keep_nodes(bases);
    }
    result
}

/// What a publish did, for people and for programs.
pub(super) struct Report {
    space: SpaceName,
    alias: Option<AliasName>,
    pub(super) totals: Totals,
    pub(super) root: Root,
    pub(super) outcome: Outcome,
    times: Times,
    scan: Duration,
    total: Duration,
    traffic: Traffic,
}

#[derive(Serialize)]
struct SummaryBody<'a> {
    outcome: &'static str,
    root: String,
    deploy: Option<u64>,
    url: Option<&'a str>,
    deploy_url: Option<String>,
    files: FilesBody,
    bytes: BytesBody,
    requests: u64,
    ms: MillisBody,
}

#[derive(Serialize)]
struct FilesBody {
    total: u64,
    added: u64,
    modified: u64,
    removed: u64,
    unchanged: u64,
}

#[derive(Serialize)]
struct BytesBody {
    site: u64,
    new: u64,
    sent: u64,
    received: u64,
}

#[derive(Serialize)]
struct MillisBody {
    scan: u64,
    negotiate: u64,
    upload: u64,
    commit: u64,
    total: u64,
}

impl Report {
    /// What went over the line.
    pub(super) const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Prints the result: the URL alone, or the summary.
    pub(super) fn print(&self, ui: &Ui) {
        ui.note(self.sentence());
        if let Some(url) = self.deploy_url() {
            ui.note(format!("this deploy stays at {url}"));
        }
        if let Some(url) = &self.outcome.url {
            ui.result(url);
        }
        ui.object("summary", &self.body());
    }

    /// Prints the summary alone.
    pub(super) fn print_object(&self, ui: &Ui) {
        ui.object("summary", &self.body());
    }

    /// What happened, in one line.
    pub(super) fn sentence(&self) -> String {
        let number = self.outcome.active;
        let deploy = match &self.alias {
            Some(alias) => format!("preview {alias} (deploy {number})"),
            None => format!("deploy {number}"),
        };
        let Summary {
            added,
            modified,
            removed,
            ..
        } = self.summary();
        let changes = format!("{added} added, {modified} modified, {removed} removed");
        let sent = ui::bytes(self.traffic.sent);
        let millis = self.total.as_millis();
        match self.outcome.kind {
            OutcomeKind::Unchanged => {
                format!("unchanged: {deploy} is this folder ({millis} ms)")
            }
            OutcomeKind::Published => format!(
                "published {deploy}: {changes}; {sent} sent in {} ({millis} ms)",
                ui::count(self.traffic.requests, "request", "requests"),
            ),
            OutcomeKind::Planned => {
                let new = ui::bytes(self.outcome.missing_bytes);
                format!("would publish: {changes}; {new} new ({millis} ms)")
            }
        }
    }

    /// Where the deploy is shown, whatever becomes active later.
    fn deploy_url(&self) -> Option<String> {
        let url = self.outcome.url.as_deref()?;
        match self.outcome.kind {
            OutcomeKind::Published | OutcomeKind::Unchanged => {
                address::of_deploy(url, &self.space, self.outcome.active)
            }
            OutcomeKind::Planned => None,
        }
    }

    fn changes_nothing(&self) -> bool {
        let Summary {
            added,
            modified,
            removed,
            ..
        } = self.summary();
        self.outcome.summary.is_some() && added + modified + removed == 0
    }

    fn summary(&self) -> Summary {
        match (
            self.outcome.kind,
            self.outcome.summary,
            &self.outcome.deploy,
        ) {
            (OutcomeKind::Unchanged, ..) => Summary {
                unchanged: self.totals.files,
                ..Summary::default()
            },
            (_, Some(summary), _) => summary,
            (_, None, Some(deploy)) => deploy.summary,
            (_, None, None) => Summary::default(),
        }
    }

    fn body(&self) -> SummaryBody<'_> {
        let Summary {
            added,
            modified,
            removed,
            unchanged,
        } = self.summary();
        let made = self.outcome.deploy.as_ref();
        let active = Some(self.outcome.active);
        let (outcome, deploy, new) = match self.outcome.kind {
            OutcomeKind::Published => {
                let new = made.map_or(0, |deploy| deploy.new_bytes);
                ("published", active, new)
            }
            OutcomeKind::Unchanged => ("unchanged", active, 0),
            OutcomeKind::Planned => ("planned", None, self.outcome.missing_bytes),
        };
        let Traffic {
            requests,
            sent,
            received,
        } = self.traffic;
        let millis = |duration: Duration| duration.as_millis() as u64;
        SummaryBody {
            outcome,
            root: self.root.to_hex(),
            deploy,
            url: self.outcome.url.as_deref(),
            deploy_url: self.deploy_url(),
            files: FilesBody {
                total: self.totals.files,
                added,
                modified,
                removed,
                unchanged,
            },
            bytes: BytesBody {
                site: self.totals.bytes,
                new,
                sent,
                received,
            },
            requests,
            ms: MillisBody {
                scan: millis(self.scan),
                negotiate: millis(self.times.negotiate),
                upload: millis(self.times.upload),
                commit: millis(self.times.commit),
                total: millis(self.total),
            },
        }
    }
}

/// What shall be remembered of a deploy.
pub(super) fn meta(
    message: Option<String>,
    context: &Context<'_>,
) -> Result<pmx_sync::wire::DeployMeta, Failure> {
    if let Some(message) = &message
        && message.len() > MESSAGE_BYTES_MAX
    {
        let len = message.len();
        let text = format!("the message has {len} bytes, above the limit of {MESSAGE_BYTES_MAX}");
        return Err(Failure::usage(text).with_hint("Shorten it."));
    }
    Ok(pmx_sync::wire::DeployMeta {
        message,
        ..context.layers.env.deploy_meta()
    })
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

fn since(before: Traffic, after: Traffic) -> Traffic {
    Traffic {
        requests: after.requests - before.requests,
        sent: after.sent - before.sent,
        received: after.received - before.received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: OutcomeKind) -> Report {
        Report {
            space: SpaceName::parse("docs").unwrap(),
            alias: None,
            totals: Totals {
                files: 10,
                bytes: 1000,
            },
            root: Root::from_bytes([0xab; 32]),
            outcome: Outcome {
                kind,
                active: 12,
                deploy: None,
                url: Some("http://docs.localhost:8787/".into()),
                summary: Some(Summary {
                    added: 1,
                    modified: 2,
                    removed: 3,
                    unchanged: 7,
                }),
                missing_bytes: 50,
            },
            times: Times::default(),
            scan: Duration::from_millis(3),
            total: Duration::from_millis(9),
            traffic: Traffic {
                requests: 1,
                sent: 120,
                received: 240,
            },
        }
    }

    #[test]
    fn the_summary_has_the_documented_shape() {
        let body = serde_json::to_string(&report(OutcomeKind::Planned).body()).unwrap();
        insta::assert_snapshot!(body, @r#"{"outcome":"planned","root":"abababababababababababababababababababababababababababababababab","deploy":null,"url":"http://docs.localhost:8787/","deploy_url":null,"files":{"total":10,"added":1,"modified":2,"removed":3,"unchanged":7},"bytes":{"site":1000,"new":50,"sent":120,"received":240},"requests":1,"ms":{"scan":3,"negotiate":0,"upload":0,"commit":0,"total":9}}"#);
    }

    #[test]
    fn an_unchanged_site_has_no_changes_whatever_the_server_says() {
        let report = report(OutcomeKind::Unchanged);
        assert_eq!(
            report.summary(),
            Summary {
                unchanged: 10,
                ..Summary::default()
            }
        );
        assert_eq!(report.body().bytes.new, 0);
    }
}
