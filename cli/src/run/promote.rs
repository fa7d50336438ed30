//! `pmx promote`: makes the content of a preview or of another deploy live, without an upload.
//!
//! A promotion is a publish of a root that the server has. So it meets the rules of a publish: a
//! rollback's hold refuses it until the hold is lifted, and it sets no hold itself.

use pmx_core::code::Code;
use pmx_core::codec::Encoder;
use pmx_core::name::AliasName;
use pmx_sync::wire::{
    BeginHead, BeginReply, CommitPreconditions, DeployMeta, DeployView, Envelope, PublishState,
    Replace, VERSION,
};
use serde_json::json;

use super::{Context, Ended};
use crate::address;
use crate::args::{PromoteArgs, Promoted, ScanArgs};
use crate::cache::Active;
use crate::client::http::Client;
use crate::client::publish::fresh_key;
use crate::config::SiteConfig;
use crate::error::Failure;

pub(super) fn run(args: PromoteArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let client = context.client(&site);
    let (deploy, preview) = promoted(&args.from, &client, &site)?;
    let (replace, expect) = match (args.expect, args.force) {
        (Some(number), _) => (Replace::Named, Some(number)),
        (None, true) => (Replace::Any, None),
        (None, false) => (Replace::Seen, Some(active(&client, &site)?)),
    };
    let what = described(&deploy, preview.as_ref());
    let given = args.message.unwrap_or_else(|| format!("promotes {what}"));
    let meta = DeployMeta {
        // The content keeps its serving settings.
        live: deploy.meta.live,
        events: deploy.meta.events,
        ..super::meta(Some(given), context)?
    };
    let head = BeginHead {
        v: VERSION,
        space: site.space.clone(),
        alias: None,
        root: deploy.root,
        base: None,
        dry: false,
        commit: Some(CommitPreconditions {
            expect,
            replace,
            key: fresh_key()?,
            order: None,
            max_delete: None,
            meta,
            expires: None,
            restore: Vec::new(),
        }),
    };
    let reply = client.begin(&body(&head)?)?;
    let is_new = match reply.state {
        PublishState::Published => true,
        PublishState::Current => false,
        PublishState::Ready
        | PublishState::Outline
        | PublishState::Base
        | PublishState::Nodes
        | PublishState::Blobs => {
            let message = format!("the server lost content of {what}, so it can't become live");
            let hint = "Publish the folder that it came from: `pmx sync` sends what is lost.";
            return Err(Failure::new(Code::Corrupt, message).with_hint(hint));
        }
    };
    report(
        &Done {
            site: &site,
            deploy: &deploy,
            what: &what,
            reply: &reply,
            is_new,
        },
        context,
    );
    Ok(Ended::Done)
}

/// The deploy that the user named, and its preview.
pub(super) fn promoted(
    from: &Promoted,
    client: &Client,
    site: &SiteConfig,
) -> Result<(DeployView, Option<AliasName>), Failure> {
    match from {
        Promoted::Deploy(number) => Ok((client.deploy(&site.space, *number)?, None)),
        Promoted::Preview(name) => {
            let previews = client.previews(&site.space)?.previews;
            let found = previews.into_iter().find(|it| it.name == name.alias);
            let absent = || {
                let message = format!("{} has no preview {}", site.space, name.alias);
                let hint = "`pmx preview list` names them; `pmx deploys` lists all deploys.";
                Failure::new(Code::NotFound, message).with_hint(hint)
            };
            let found = found.ok_or_else(absent)?;
            Ok((found.deploy, Some(found.name)))
        }
    }
}

fn active(client: &Client, site: &SiteConfig) -> Result<u64, Failure> {
    Ok(client.deploys(&site.space, None, 1)?.active)
}

fn described(deploy: &DeployView, preview: Option<&AliasName>) -> String {
    match preview {
        Some(name) => format!("preview {name} (deploy {})", deploy.number),
        None => format!("deploy {}", deploy.number),
    }
}

fn body(head: &BeginHead) -> Result<Vec<u8>, Failure> {
    let head = serde_json::to_vec(head);
    let head = head.map_err(|error| Failure::new(Code::RequestMalformed, error.to_string()))?;
    let (head, sections) = (head.into(), Vec::new());
    Ok(Envelope { head, sections }.encode(&mut Encoder::new()))
}

/// A promotion that the server answered.
struct Done<'a> {
    site: &'a SiteConfig,
    deploy: &'a DeployView,
    what: &'a str,
    reply: &'a BeginReply,
    is_new: bool,
}

fn report(done: &Done<'_>, context: &Context<'_>) {
    let Done {
        site,
        deploy,
        what,
        reply,
        is_new,
    } = done;
    let (space, number) = (&site.space, reply.active);
    let (root, url) = (deploy.root, reply.url.clone().unwrap_or_default());
    let channel = space.clone().into();
    let active = Active {
        root,
        deploy: number,
    };
    context.cache.site(&site.server, &channel).keep(&active);
    context.ui.note(match is_new {
        true => format!("deploy {number} of {space} is the content of {what}"),
        false => format!("nothing to do: {what} is live already, as deploy {number} of {space}"),
    });
    let deploy_url = address::of_deploy(&url, space, number);
    if let Some(url) = &deploy_url {
        context.ui.note(format!("this deploy stays at {url}"));
    }
    context.ui.result(&url);
    let body = json!({
        "outcome": if *is_new { "published" } else { "unchanged" },
        "deploy": number,
        "promotes": deploy.number,
        "root": root,
        "files": reply.summary,
        "url": url,
        "deploy_url": deploy_url,
    });
    context.ui.object("promote", &body);
}
