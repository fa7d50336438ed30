//! `pmx rollback`: make an older deploy active again.

use pmx_sync::wire::{RollbackHead, RollbackReply, VERSION};
use serde_json::json;

use super::{Context, Ended};
use crate::address;
use crate::args::RollbackArgs;
use crate::cache::Active;
use crate::client::publish::fresh_key;
use crate::error::Failure;

pub(super) fn run(args: RollbackArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &crate::args::ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let head = RollbackHead {
        v: VERSION,
        space: site.space.clone(),
        to: args.deploy,
        expect: args.expect,
        key: fresh_key()?,
        meta: super::meta(args.message, context)?,
    };
    let client = context.client(&site);
    let RollbackReply { deploy, url } = client.rollback(&head)?;
    let active = Active {
        root: deploy.root,
        deploy: deploy.number,
    };
    let channel = site.space.clone().into();
    context.cache.site(&site.server, &channel).keep(&active);
    let restored = deploy.restores.unwrap_or(deploy.number);
    context.ui.note(format!(
        "deploy {} of {} is deploy {restored} again",
        deploy.number, site.space
    ));
    context.ui.note(
        "it is held: no publish replaces it until `pmx resume`, `pmx sync --expect` with its \
         number, or `pmx sync --force`",
    );
    context.ui.result(&url);
    context.ui.object(
        "rollback",
        &json!({
            "deploy": deploy.number,
            "restores": deploy.restores,
            "root": deploy.root,
            "files": deploy.summary,
            "held": true,
            "url": url,
            "deploy_url": address::of_deploy(&url, &site.space, deploy.number),
        }),
    );
    Ok(Ended::Done)
}
