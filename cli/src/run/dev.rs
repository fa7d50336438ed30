//! `pmx dev`: a live site with one command. It starts a host, publishes, and publishes again after
//! each change.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use pmx_core::codec::Level;
use pmx_core::name::SpaceName;
use pmx_sync::push::Mode;
use pmx_sync::serve::LivePages;
use serde_json::json;

use super::sync::{Follow, SyncJob};
use super::watch::Watch;
use super::{Context, Ended, serve};
use crate::args::{Compression, DevArgs};
use crate::client::publish::Terms;
use crate::config::SiteConfig;
use crate::error::Failure;
use crate::host::{Host, HostConfig, HostError, Log, Running};
use crate::server::ServerUrl;
use crate::source_tree::AllowEmpty;
use crate::token::Token;
use crate::trust::Trust;
use crate::ui::Ui;

pub(super) fn run(args: &DevArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    if !args.host.tls_cert.is_empty() {
        let why = "`pmx dev` speaks http to this machine alone";
        return Err(Failure::usage(why).with_hint("Use `pmx serve` with --tls-cert."));
    }
    let folder = context.layers.folder(&args.folder)?.absolute();
    let space = context.layers.space(args.space.as_deref(), &folder.dir)?;
    let watch = Watch::of(&folder.dir);
    let running = start(args, &space, context)?;
    serve::introduce(&running, context);
    let site = SiteConfig {
        server: ServerUrl::parse(&running.url())?,
        space,
        token: Some(Token::parse(running.publish_secret())?),
        trust: Trust::default(),
    };
    let url = running.url_of(&site.space);
    let terms = Terms::plain(Mode::Publish, Compression::Level(Level::STORED));
    let scan = args.folder.scan.clone();
    let job = SyncJob::new(folder, scan, site, terms, AllowEmpty::No).on_own_host();
    let client = job.client(context);
    let show = |lines| running.notify(&job.site.space, lines);
    let mut follow = Follow::new(&job, &client, context, watch, Box::new(show));
    follow.begin_anyway();
    if !context.interrupt.is_raised() {
        announce(args, &url, &job, &running, context.ui);
        follow.go_on();
    }
    drop(follow);
    running.stop();
    context.ui.stopped();
    Ok(Ended::Done)
}

/// Prints the addresses of the site.
fn announce(args: &DevArgs, url: &str, job: &SyncJob, running: &Running, ui: &Ui) {
    ui.result(url);
    if let Some(home) = running.home_url() {
        ui.note(format!(
            "also at {home}, for programs that do not resolve that name"
        ));
    }
    ui.object(
        "serving",
        &json!({
            "url": url,
            "home_url": running.home_url(),
            "data": running.data().display().to_string(),
            "mode": running.mode().name(),
        }),
    );
    ui.note(format!(
        "watching {}; press Ctrl-C to stop",
        job.folder.dir.display()
    ));
    if args.open && open(url).is_err() {
        ui.warn("no browser could be started");
    }
}

/// Starts the host. If the default port is taken and the user named none, it uses another port.
fn start(args: &DevArgs, space: &SpaceName, context: &Context<'_>) -> Result<Running, Failure> {
    let config = HostConfig {
        live: LivePages::All,
        shows_rules: true,
        home: Some(space.clone()),
        ..serve::config(&args.host, Log::Quiet, context)?
    };
    let mut elsewhere = HostConfig { ..config.clone() };
    elsewhere.listen.set_port(0);
    match Host::start(config) {
        Ok(running) => Ok(running),
        Err(HostError::Listen { source, address })
            if source.kind() == io::ErrorKind::AddrInUse && args.host.listen.is_none() =>
        {
            context
                .ui
                .detail(format!("something else listens on {address}"));
            Ok(Host::start(elsewhere)?)
        }
        Err(HostError::InUse { folder, pid }) => {
            let failure = Failure::from(HostError::InUse { folder, pid });
            Err(failure.with_hint("`pmx sync --watch` publishes to the host that already runs."))
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens an address in the user's browser.
fn open(url: &str) -> io::Result<()> {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let mut command = Command::new(Path::new(program));
    command
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().map(drop)
}
