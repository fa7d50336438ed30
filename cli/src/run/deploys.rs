//! `pmx deploys`: the history of a site.

use jiff::tz::TimeZone;
use pmx_core::code::Code;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::time::Timestamp;
use pmx_sync::wire::{DeployKind, DeployView, DeploysReply, HoldView};
use serde_json::{Value, json};

use super::columns::{short, table};
use super::{Context, Ended};
use crate::address;
use crate::args::{DeploysArgs, ScanArgs};
use crate::error::Failure;
use crate::ui;

const HEADINGS: [&str; 9] = [
    "", "deploy", "when", "root", "files", "new", "url", "commit", "message",
];

/// Columns of numbers.
const NUMBERS: [usize; 3] = [1, 4, 5];

pub(super) fn run(args: &DeploysArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
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
    let names =
        |(alias, number): (&AliasName, &u64)| (*number == deploy.number).then(|| alias.to_string());
    let mark = if deploy.number == reply.active {
        "*".to_owned()
    } else {
        reply.aliases.iter().find_map(names).unwrap_or_default()
    };
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
        mark,
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

    #[test]
    fn history_is_a_table() {
        let deploys = r#"[
            {"number":12,"root":"ROOT","parent":11,"kind":"rollback","restores":9,"at":1700000000000,
             "files":52000,"bytes":1,"new_bytes":0,"summary":{"added":0,"modified":0,"removed":0,"unchanged":0}},
            {"number":9,"root":"ROOT","parent":8,"kind":"publish","at":0,"files":3,"bytes":1,"new_bytes":1234567,
             "summary":{"added":0,"modified":0,"removed":0,"unchanged":0},
             "meta":{"message":"first \u001b[2J line\nsecond","commit":"0123456789abcdef"}}]"#;
        let deploys = deploys.replace("ROOT", &"ab".repeat(32));
        let reply = DeploysReply {
            active: 12,
            aliases: [(AliasName::parse("next").unwrap(), 9)].into(),
            hold: None,
            deploys: serde_json::from_str(&deploys).unwrap(),
            url: "http://docs.localhost/".into(),
        };
        let docs = SpaceName::parse("docs").unwrap();
        let rows = reply
            .deploys
            .iter()
            .map(|deploy| row(deploy, &reply, &docs));
        let lines = table(HEADINGS, rows.collect(), &NUMBERS);
        insta::assert_snapshot!(lines.join("\n"), @r"
              deploy  when                  root          files     new  url                         commit       message
        *         12  2023-11-14 22:13:20Z  abababababab  52000     0 B  http://12--docs.localhost/               (rollback to 9)
        next       9  1970-01-01 00:00:00Z  abababababab      3  1.2 MB  http://9--docs.localhost/   0123456789…  first \u{1b}[2J line
        ");
    }
}
