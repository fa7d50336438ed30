//! `pmx preview`: lists previews, or removes one. The history still lists its deploys.

use pmx_sync::wire::PreviewView;
use serde_json::json;

use super::columns::{self, short};
use super::deploys::when;
use super::{Context, Ended};
use crate::args::{PreviewCommand, PreviewListArgs, PreviewRmArgs, ScanArgs};
use crate::error::Failure;
use crate::ui;

pub(super) fn run(command: PreviewCommand, context: &Context<'_>) -> Result<Ended, Failure> {
    match command {
        PreviewCommand::List(args) => list(&args, context),
        PreviewCommand::Rm(args) => remove(args, context),
    }
}

fn list(args: &PreviewListArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let previews = context.client(&site).previews(&site.space)?.previews;
    if previews.is_empty() {
        context.ui.note(format!("{} has no previews", site.space));
    } else {
        let rows: Vec<_> = previews.iter().map(row).collect();
        for line in columns::table(HEADINGS, rows, &[1]) {
            context.ui.result(line);
        }
    }
    let body = json!({ "space": site.space, "previews": previews });
    context.ui.object("previews", &body);
    Ok(Ended::Done)
}

const HEADINGS: [&str; 6] = ["preview", "deploy", "when", "ends", "url", "message"];

fn row(preview: &PreviewView) -> [String; 6] {
    let deploy = &preview.deploy;
    let message = deploy.meta.message.as_deref().unwrap_or_default();
    [
        preview.name.to_string(),
        deploy.number.to_string(),
        when(deploy.at),
        preview.expires.map_or_else(|| "-".to_owned(), when),
        ui::escaped(preview.url.as_deref().unwrap_or_default()),
        short(message.lines().next().unwrap_or_default(), 60),
    ]
}

fn remove(args: PreviewRmArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let PreviewRmArgs { alias, dir, site } = args;
    let alias = alias.alias;
    let folder = context
        .layers
        .folder_at(dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&site, &folder.dir)?;
    let client = context.client(&site);
    let removed = client.unalias(&site.space, &alias)?.deploy;
    let space = &site.space;
    context.ui.note(match removed {
        Some(number) => format!("{space} has no preview {alias} any more; it was deploy {number}"),
        None => format!("{space} had no preview {alias}"),
    });
    let body = json!({ "space": space, "alias": alias, "deploy": removed });
    context.ui.object("removed", &body);
    Ok(Ended::Done)
}
