//! `pmx preview rm`: removes a preview. Its deploys stay in the history.

use serde_json::json;

use super::{Context, Ended};
use crate::args::{PreviewCommand, PreviewRmArgs, ScanArgs};
use crate::error::Failure;

pub(super) fn run(command: PreviewCommand, context: &Context<'_>) -> Result<Ended, Failure> {
    match command {
        PreviewCommand::Rm(args) => remove(args, context),
    }
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
