//! `pmx deploys`: the history of a site, and deploys that are pinned or removed.

use std::path::Path;

use jiff::tz::TimeZone;
use pmx_core::code::Code;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::time::Timestamp;
use pmx_sync::wire::{DeployContent, DeployKind, DeployView, DeploysReply, HoldView};
use serde_json::{Value, json};

use super::columns::{short, table};
use super::{Context, Ended};
use crate::address;
use crate::args::{
    DeploysArgs, DeploysCommand, DeploysListArgs, DeploysPinArgs, DeploysRmArgs, ScanArgs, SiteArgs,
};
use crate::config::SiteConfig;
use crate::error::Failure;
use crate::ui;

const HEADINGS: [&str; 9] = [
    "", "deploy", "when", "root", "files", "new", "url", "commit", "message",
];

/// Columns of numbers.
const NUMBERS: [usize; 3] = [1, 4, 5];

pub(super) fn run(args: DeploysArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    match args.command {
        Some(DeploysCommand::Pin(args)) => pin(&args, true, context),
        Some(DeploysCommand::Unpin(args)) => pin(&args, false, context),
        Some(DeploysCommand::Rm(args)) => remove(&args, context),
        None => list(&args.list, context),
    }
}

fn list(args: &DeploysListArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let site = site(&args.site, args.dir.as_deref(), context)?;
    let client = context.client(&site);
    let reply = match client.deploys(&site.space, args.before, args.limit) {
        Ok(reply) => reply,
        Err(failure) if failure.code == Code::NotFound && failure.problem.is_some() => {
            context
                .ui
                .note(format!("{} has no deploys yet", site.space));
            context.ui.object(
                "deploys",
                &json!({ "space": site.space, "active": 0, "deploys": [] }),
            );
            return Ok(Ended::Done);
        }
        Err(failure) => return Err(failure),
    };
    if reply.deploys.is_empty() {
        context
            .ui
            .note(format!("{} has no deploys to list", site.space));
    } else {
        let rows = reply
            .deploys
            .iter()
            .map(|deploy| row(deploy, &reply, &site.space));
        for line in table(HEADINGS, rows.collect(), &NUMBERS) {
            context.ui.result(line);
        }
    }
    if let Some(hold) = &reply.hold {
        context.ui.note(held(hold));
    }
    let body = json!({
        "space": site.space,
        "active": reply.active,
        "aliases": reply.aliases,
        "hold": reply.hold,
        "url": reply.url,
        "deploys": listed(&reply, &site.space)?,
    });
    context.ui.object("deploys", &body);
    Ok(Ended::Done)
}

fn pin(args: &DeploysPinArgs, pinned: bool, context: &Context<'_>) -> Result<Ended, Failure> {
    let site = site(&args.site, args.dir.as_deref(), context)?;
    let client = context.client(&site);
    let (space, number) = (&site.space, args.deploy);
    let deploy = if pinned {
        client.pin(space, number)?
    } else {
        client.unpin(space, number)?
    };
    context.ui.note(if pinned {
        format!("deploy {number} of {space} is pinned: no retention policy gives it up")
    } else {
        format!("deploy {number} of {space} is not pinned: the retention policy decides about it")
    });
    let event = if pinned {
        "deploy_pinned"
    } else {
        "deploy_unpinned"
    };
    context.ui.object(event, &changed(&deploy, space));
    Ok(Ended::Done)
}

fn remove(args: &DeploysRmArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let site = site(&args.site, args.dir.as_deref(), context)?;
    let client = context.client(&site);
    let (space, number) = (&site.space, args.deploy);
    if !args.yes {
        let deploy = client.deploy(space, number)?;
        let content = content(&deploy);
        let server = &site.server;
        let message =
            format!("deploy {number} of {space} on {server} has {content}; nothing was removed");
        let failure = Failure::new(Code::Usage, message);
        return Err(failure.with_hint("repeat the command with --yes; nothing brings it back"));
    }
    let deploy = client.remove_deploy(space, number, args.purge)?;
    let time = match deploy.content {
        DeployContent::Purged => "now",
        DeployContent::Dropped | DeployContent::Kept => "after 24 hours",
    };
    context.ui.note(format!(
        "deploy {number} of {space} is removed; what no other deploy needs of it goes {time}"
    ));
    context
        .ui
        .object("deploy_removed", &changed(&deploy, space));
    Ok(Ended::Done)
}

/// What a deploy has, in words.
fn content(deploy: &DeployView) -> String {
    if !deploy.content.is_kept() {
        return "no content any more".to_owned();
    }
    let files = ui::count(deploy.files, "file", "files");
    format!(
        "{files} ({}) of {}",
        ui::bytes(deploy.bytes),
        when(deploy.at)
    )
}

/// A deploy whose lifecycle changed, as JSON.
fn changed(deploy: &DeployView, space: &SpaceName) -> Value {
    json!({
        "space": space,
        "deploy": deploy.number,
        "content": deploy.content,
        "pinned": deploy.pinned,
    })
}

fn site(args: &SiteArgs, dir: Option<&Path>, context: &Context<'_>) -> Result<SiteConfig, Failure> {
    let folder = context.layers.folder_at(dir, &ScanArgs::default())?;
    context.site(args, &folder.dir)
}

/// The meaning of a hold, in one line.
pub(super) fn held(hold: &HoldView) -> String {
    format!(
        "deploy {} is held since {}: no publish replaces it until `pmx resume`",
        hold.deploy,
        when(hold.at)
    )
}

/// The deploys as JSON, each with its address.
fn listed(reply: &DeploysReply, space: &SpaceName) -> Result<Vec<Value>, Failure> {
    let one = |deploy: &DeployView| {
        let mut value = serde_json::to_value(deploy)?;
        value["url"] = address::of_deploy(&reply.url, space, deploy.number).into();
        Ok(value)
    };
    let all: Result<Vec<_>, serde_json::Error> = reply.deploys.iter().map(one).collect();
    all.map_err(|error| Failure::usage(error.to_string()))
}

fn row(deploy: &DeployView, reply: &DeploysReply, space: &SpaceName) -> [String; 9] {
    let message = match (deploy.kind, deploy.restores, &deploy.meta.message) {
        (DeployKind::Rollback, Some(number), None) => format!("(rollback to {number})"),
        (DeployKind::Rollback, Some(number), Some(text)) => {
            format!("(rollback to {number}) {text}")
        }
        (DeployKind::Publish, ..) | (DeployKind::Rollback, None, _) => {
            deploy.meta.message.clone().unwrap_or_default()
        }
    };
    [
        mark(deploy, reply),
        deploy.number.to_string(),
        when(deploy.at),
        deploy.root.to_hex()[..12].to_owned(),
        deploy.files.to_string(),
        ui::bytes(deploy.new_bytes),
        ui::escaped(&address::of_deploy(&reply.url, space, deploy.number).unwrap_or_default()),
        short(deploy.meta.commit.as_deref().unwrap_or_default(), 10),
        short(message.lines().next().unwrap_or_default(), 60),
    ]
}

/// What a deploy is: `*` if it is active, or the preview that shows it, and whether it is pinned or
/// its content is gone.
fn mark(deploy: &DeployView, reply: &DeploysReply) -> String {
    let names =
        |(alias, number): (&AliasName, &u64)| (*number == deploy.number).then(|| alias.to_string());
    let shown = if deploy.number == reply.active {
        Some("*".to_owned())
    } else {
        reply.aliases.iter().find_map(names)
    };
    let pinned = deploy.pinned.then(|| "pinned".to_owned());
    let gone = (!deploy.content.is_kept()).then(|| "gone".to_owned());
    let words: Vec<_> = [shown, pinned, gone].into_iter().flatten().collect();
    words.join(" ")
}

/// A time in UTC for people, so that a log means the same everywhere.
pub(super) fn when(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).ok();
    let moment = millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    match moment {
        Some(moment) => moment
            .to_zoned(TimeZone::UTC)
            .strftime("%Y-%m-%d %H:%M:%SZ")
            .to_string(),
        None => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(deploys: &str) -> DeploysReply {
        let deploys = deploys.replace("ROOT", &"ab".repeat(32));
        DeploysReply {
            active: 12,
            aliases: [(AliasName::parse("next").unwrap(), 9)].into(),
            hold: None,
            deploys: serde_json::from_str(&deploys).unwrap(),
            url: "http://docs.localhost/".into(),
            backup: None,
        }
    }

    fn lines(reply: &DeploysReply) -> String {
        let docs = SpaceName::parse("docs").unwrap();
        let rows = reply.deploys.iter().map(|deploy| row(deploy, reply, &docs));
        table(HEADINGS, rows.collect(), &NUMBERS).join("\n")
    }

    #[test]
    fn history_is_a_table() {
        let deploys = r#"[
            {"number":12,"root":"ROOT","parent":11,"kind":"rollback","restores":9,"at":1700000000000,
             "files":52000,"bytes":1,"new_bytes":0,"summary":{"added":0,"modified":0,"removed":0,"unchanged":0}},
            {"number":9,"root":"ROOT","parent":8,"kind":"publish","at":0,"files":3,"bytes":1,"new_bytes":1234567,
             "summary":{"added":0,"modified":0,"removed":0,"unchanged":0},
             "meta":{"message":"first \u001b[2J line\nsecond","commit":"0123456789abcdef"}}]"#;
        insta::assert_snapshot!(lines(&reply(deploys)), @r"
              deploy  when                  root          files     new  url                         commit       message
        *         12  2023-11-14 22:13:20Z  abababababab  52000     0 B  http://12--docs.localhost/               (rollback to 9)
        next       9  1970-01-01 00:00:00Z  abababababab      3  1.2 MB  http://9--docs.localhost/   0123456789…  first \u{1b}[2J line
        ");
    }

    #[test]
    fn pinned_and_gone_deploys_are_marked() {
        let deploy = r#"{"number":NUMBER,"root":"ROOT","parent":1,"kind":"publish","at":0,"files":3,
            "bytes":1,"new_bytes":2,
            "summary":{"added":0,"modified":0,"removed":0,"unchanged":0},MORE}"#;
        let deploy = |number: &str, more: &str| {
            let deploy = deploy.replace("NUMBER", number);
            deploy.replace("MORE", more)
        };
        let deploys = [
            deploy("12", r#""pinned":true"#),
            deploy("9", r#""pinned":true"#),
            deploy("8", r#""pinned":true"#),
            deploy("7", r#""content":"dropped""#),
            deploy("6", r#""content":"purged""#),
            deploy("5", r#""content":"kept""#),
        ];
        let deploys = format!("[{}]", deploys.join(","));
        insta::assert_snapshot!(lines(&reply(&deploys)), @r"
                     deploy  when                  root          files  new  url                         commit  message
        * pinned         12  1970-01-01 00:00:00Z  abababababab      3  2 B  http://12--docs.localhost/
        next pinned       9  1970-01-01 00:00:00Z  abababababab      3  2 B  http://9--docs.localhost/
        pinned            8  1970-01-01 00:00:00Z  abababababab      3  2 B  http://8--docs.localhost/
        gone              7  1970-01-01 00:00:00Z  abababababab      3  2 B  http://7--docs.localhost/
        gone              6  1970-01-01 00:00:00Z  abababababab      3  2 B  http://6--docs.localhost/
                          5  1970-01-01 00:00:00Z  abababababab      3  2 B  http://5--docs.localhost/
        ");
    }
}
