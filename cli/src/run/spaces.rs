//! `pmx spaces`: lists the spaces of a server, or deletes one.

use std::path::Path;

use pmx_core::code::Code;
use pmx_sync::wire::SpaceView;
use serde_json::json;

use super::columns::table;
use super::deploys::when;
use super::{Context, Ended};
use crate::args::{SpacesCommand, SpacesDeleteArgs, SpacesListArgs};
use crate::config::SiteConfig;
use crate::error::Failure;
use crate::ui;

pub(super) fn run(command: SpacesCommand, context: &Context<'_>) -> Result<Ended, Failure> {
    match command {
        SpacesCommand::List(args) => list(&args, context),
        SpacesCommand::Delete(args) => delete(&args, context),
    }
}

/// The name of no space: a list needs a server only.
const ANY: &str = "any";

fn list(args: &SpacesListArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let site = context.site(&args.server.site(ANY), Path::new("."))?;
    let spaces = context.client(&site).spaces()?;
    if spaces.is_empty() {
        context.ui.note(format!("{} has no spaces", site.server));
    } else {
        for line in table(HEADINGS, spaces.iter().map(row).collect(), &[1]) {
            context.ui.result(line);
        }
    }
    context.ui.object("spaces", &json!({ "spaces": spaces }));
    Ok(Ended::Done)
}

const HEADINGS: [&str; 3] = ["space", "deploy", "url"];

fn row(space: &SpaceView) -> [String; 3] {
    [
        space.name.to_string(),
        space
            .deploy
            .map_or_else(|| "-".to_owned(), |deploy| deploy.to_string()),
        ui::escaped(&space.url),
    ]
}

fn delete(args: &SpacesDeleteArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let site = context.site(&args.server.site(&args.space), Path::new("."))?;
    let client = context.client(&site);
    let (active, content) = content(&site, context)?;
    if !args.yes {
        let SiteConfig { server, space, .. } = &site;
        let message = format!("{space} on {server} has {content}; nothing was deleted");
        let failure = Failure::new(Code::Usage, message);
        return Err(failure.with_hint("repeat the command with --yes; nothing brings it back"));
    }
    let deleted = client.delete_space(&site.space, active, args.purge)?;
    let space = &site.space;
    let objects = match deleted.purge {
        Some(_) if args.purge => "its content goes now".to_owned(),
        Some(at) => format!("its content goes at {}", when(at)),
        None => "nothing was left of it but its domains".to_owned(),
    };
    context
        .ui
        .note(format!("{space} is deleted, with {content}; {objects}"));
    context.ui.object("space_deleted", &deleted);
    Ok(Ended::Done)
}

/// The number of the active deploy, 0 for none, and what the space has in words.
fn content(site: &SiteConfig, context: &Context<'_>) -> Result<(u64, String), Failure> {
    let client = context.client(site);
    let history = match client.deploys(&site.space, None, 1) {
        // An earlier deletion may have left the domains.
        Err(failure) if failure.code == Code::NotFound => {
            return Ok((0, "no deploys any more".to_owned()));
        }
        history => history?,
    };
    let last = history.deploys.first().map_or(0, |deploy| deploy.number);
    let domains = client.domains(&site.space)?.domains.len();
    let previews = history.aliases.len();
    let content = format!(
        "deploys up to number {last}, {} and {}",
        ui::count(previews as u64, "preview", "previews"),
        ui::count(domains as u64, "domain", "domains")
    );
    Ok((history.active, content))
}
