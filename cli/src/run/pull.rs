//! `pmx pull` and `pmx get`: a deploy as a folder, and one file of it.

use std::path::{Path, PathBuf};

use pmx_core::code::Code;
use pmx_sync::path::SitePath;
use pmx_sync::wire::DeployView;
use serde_json::json;

use super::promote::promoted;
use super::{Context, Ended};
use crate::args::{GetArgs, Promoted, PullArgs, ScanArgs, SiteArgs};
use crate::client::http::Client;
use crate::client::pull::{self, Pulled, Target};
use crate::config::SiteConfig;
use crate::error::Failure;
use crate::ui;

pub(super) fn pull(args: &PullArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let (from, dir) = match &args.what[..] {
        [dir] => (None, PathBuf::from(dir)),
        [deploy, dir] => (Some(named(deploy)?), PathBuf::from(dir)),
        _ => return Err(Failure::usage("pmx pull [DEPLOY] DIR")),
    };
    let (site, client) = site(&args.site, context)?;
    let deploy = deploy(from.as_ref(), &client, &site)?;
    let pulled = pull::pull(&client, &site.space, &deploy, &dir)?;
    report(&pulled, &site, &deploy, &dir, context);
    Ok(Ended::Done)
}

fn report(
    pulled: &Pulled,
    site: &SiteConfig,
    deploy: &DeployView,
    dir: &Path,
    context: &Context<'_>,
) {
    let Pulled {
        written,
        bytes,
        unchanged,
        others,
    } = pulled;
    let ui = context.ui;
    ui.note(format!(
        "deploy {} of {}: {} written ({}), {unchanged} unchanged",
        deploy.number,
        site.space,
        ui::count(*written, "file", "files"),
        ui::bytes(*bytes),
    ));
    if *others > 0 {
        let count = ui::count(*others, "file", "files");
        ui.warn(format!(
            "the folder also has {count} of its own, left as is"
        ));
    }
    ui.result(dir.display());
    let body = json!({
        "space": site.space, "deploy": deploy.number, "root": deploy.root,
        "written": written, "bytes": bytes, "unchanged": unchanged, "others": others,
    });
    ui.object("pulled", &body);
}

pub(super) fn get(args: &GetArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let path = site_path(&args.path)?;
    let (site, client) = site(&args.site, context)?;
    let deploy = deploy(args.deploy.as_ref(), &client, &site)?;
    let ui = context.ui;
    if ui.is_json() && args.output.is_none() {
        return Err(Failure::usage(
            "with --json, the file needs a place: --output FILE",
        ));
    }
    let mut target = match &args.output {
        Some(place) => Target::beside(place)?,
        None => Target::beside(&std::env::temp_dir().join("file"))?,
    };
    let claimed = client.download(&site.space, deploy.number, &path, &mut target)?;
    let blob = target.blob();
    if claimed.is_some_and(|claimed| claimed != blob) {
        let message = format!("the bytes of \"{path}\" are not those that the server announced");
        return Err(Failure::new(Code::HashMismatch, message));
    }
    match &args.output {
        Some(place) => target.keep(place)?,
        None => target.each(|bytes| ui.raw(bytes))?,
    }
    let body = json!({
        "space": site.space, "deploy": deploy.number, "path": path, "blob": blob,
    });
    ui.object("got", &body);
    Ok(Ended::Done)
}

/// Reads a path of a site, with or without a slash before it.
pub(super) fn site_path(text: &str) -> Result<SitePath, Failure> {
    let path = SitePath::parse(text.trim_start_matches('/'));
    path.map_err(|error| Failure::new(Code::PathInvalid, error.to_string()))
}

fn site(args: &SiteArgs, context: &Context<'_>) -> Result<(SiteConfig, Client), Failure> {
    let folder = context.layers.folder_at(None, &ScanArgs::default())?;
    let site = context.site(args, &folder.dir)?;
    let client = context.client(&site);
    Ok((site, client))
}

/// The deploy that the user named, or the active one.
pub(super) fn deploy(
    from: Option<&Promoted>,
    client: &Client,
    site: &SiteConfig,
) -> Result<DeployView, Failure> {
    if let Some(from) = from {
        return Ok(promoted(from, client, site)?.0);
    }
    let active = client.active(&site.space)?;
    let active = active.ok_or_else(|| {
        let message = format!("{} has no active deploy", site.space);
        Failure::new(Code::NotFound, message)
    })?;
    Ok(active.deploy)
}

fn named(text: &str) -> Result<Promoted, Failure> {
    Promoted::parse(text).map_err(|error| Failure::usage(format!("{text:?}: {error}")))
}
