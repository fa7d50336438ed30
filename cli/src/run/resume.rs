//! `pmx resume`: lift the hold that a rollback puts on a site.

use pmx_sync::wire::{ResumeHead, ResumeReply, VERSION};
use serde_json::json;

use super::{Context, Ended};
use crate::args::{ResumeArgs, ScanArgs};
use crate::error::Failure;

pub(super) fn run(args: &ResumeArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let head = ResumeHead {
        v: VERSION,
        space: site.space.clone(),
    };
    let client = context.client(&site);
    let ResumeReply { deploy, url } = client.resume(&head)?;
    let space = &site.space;
    context.ui.note(match deploy {
        Some(number) => format!("publishing to {space} is allowed again; deploy {number} was held"),
        None => format!("{space} was not held"),
    });
    context.ui.result(&url);
    let body = json!({ "space": space, "deploy": deploy, "url": url });
    context.ui.object("resumed", &body);
    Ok(Ended::Done)
}
