//! `pmx status`: the server, the site, its active deploy, and whether the folder differs.

use pmx_core::code::Code;
use pmx_sync::wire::{DeployView, DomainView};
use serde_json::json;

use super::{Context, Ended};
use crate::address;
use crate::args::StatusArgs;
use crate::client::http::{Client, LiveDeploy};
use crate::config::SiteConfig;
use crate::error::Failure;
use crate::source_tree::SourceTree;
use crate::ui::{self, Ui};

pub(super) fn run(args: &StatusArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context.layers.folder(&args.folder)?;
    let site = context.site(&args.site, &folder.dir)?;
    let client = context.client(&site);
    let seen = client.active(&site.space)?;
    let hold = seen.as_ref().and_then(|seen| seen.hold);
    let domains = domains(seen.as_ref(), &client, &site)?;
    let (active, url) = seen.map(|seen| (seen.deploy, seen.url)).unzip();
    let cache = context.cache.folder(&folder);
    let read = || SourceTree::read(&folder, &args.folder.scan, cache, context.ui);
    let tree = folder.dir.is_dir().then(read).transpose()?;
    let standing = FolderState::of(tree.as_ref(), active.as_ref());
    let ui = context.ui;
    ui.result(format!("server  {}", site.server));
    ui.result(format!("space   {}", site.space));
    if let Some(url) = &url {
        ui.result(format!("url     {url}"));
    }
    show_domains(&domains, ui);
    ui.result(format!("active  {}", shown(active.as_ref())));
    if let Some(hold) = &hold {
        ui.result(format!("held    {}", super::deploys::held(hold)));
    }
    let number = active.as_ref().map_or(0, |active| active.number);
    let deploy_url = url.as_deref();
    let deploy_url = deploy_url.and_then(|url| address::of_deploy(url, &site.space, number));
    if let Some(url) = &deploy_url {
        ui.result(format!("deploy  {url}"));
    }
    ui.result(format!(
        "folder  {} ({})",
        folder.dir.display(),
        standing.sentence()
    ));
    let body = json!({
        "server": site.server.as_str(),
        "space": site.space,
        "url": url,
        "domains": domains,
        "deploy_url": deploy_url,
        "active": active,
        "hold": hold,
        "folder": {
            "path": folder.dir.to_string_lossy(),
            "root": tree.as_ref().map(SourceTree::root),
            "state": standing.word(),
        },
    });
    ui.object("status", &body);
    if let Some(tree) = &tree {
        tree.keep(
            &active
                .map(|active| active.root)
                .into_iter()
                .collect::<Vec<_>>(),
        );
    }
    let same = standing == FolderState::Same;
    Ok(if same && args.exit_code {
        Ended::Unchanged
    } else {
        Ended::Done
    })
}

/// The domains of a published site. A server that keeps none has none.
fn domains(
    seen: Option<&LiveDeploy>,
    client: &Client,
    site: &SiteConfig,
) -> Result<Vec<DomainView>, Failure> {
    if seen.is_none() {
        return Ok(Vec::new());
    }
    match client.domains(&site.space) {
        Ok(reply) => Ok(reply.domains),
        Err(failure) if matches!(failure.code, Code::NotFound | Code::NotConfigured) => {
            Ok(Vec::new())
        }
        Err(failure) => Err(failure),
    }
}

fn show_domains(domains: &[DomainView], ui: &Ui) {
    for domain in domains {
        let host = ui::escaped(&domain.host);
        ui.result(format!("domain  {host} ({})", domain.state.as_str()));
    }
}

/// The folder, compared with the active deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FolderState {
    Same,
    Different,
    Unpublished,
    Missing,
}

impl FolderState {
    fn of(tree: Option<&SourceTree>, active: Option<&DeployView>) -> Self {
        match (tree, active) {
            (None, _) => Self::Missing,
            (Some(_), None) => Self::Unpublished,
            (Some(tree), Some(active)) if tree.root() == active.root => Self::Same,
            (Some(_), Some(_)) => Self::Different,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Unpublished => "unpublished",
            Self::Missing => "missing",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Same => "is what is published",
            Self::Different => "differs from what is published: see `pmx diff`",
            Self::Unpublished => "not published yet",
            Self::Missing => "is not there",
        }
    }
}

fn shown(active: Option<&DeployView>) -> String {
    match active {
        Some(deploy) => {
            format!(
                "deploy {} of {}, {} files",
                deploy.number,
                super::deploys::when(deploy.at),
                deploy.files
            )
        }
        None => "none yet".into(),
    }
}
