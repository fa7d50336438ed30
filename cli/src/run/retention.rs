//! `pmx retention`: shows which deploys a site keeps, or sets it.

use pmx_core::name::SpaceName;
use pmx_sync::wire::{Retention, RetentionPolicy};
use serde_json::json;

use super::{Context, Ended};
use crate::args::{RetentionArgs, RetentionRules, ScanArgs};
use crate::error::Failure;
use crate::ui;

pub(super) fn run(args: &RetentionArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let wanted = wanted(args)?;
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let client = context.client(&site);
    let space = &site.space;
    let retention = match &wanted {
        Some(wanted) => client.set_retention(space, wanted)?,
        None => client.retention(space)?,
    };
    for line in lines(space, &retention) {
        context.ui.result(line);
    }
    if wanted.is_some() && retention.policy.is_some() {
        context
            .ui
            .note("`pmx gc --dry-run` shows what the policy gives up");
    }
    let body = json!({ "space": space, "policy": retention.policy });
    context.ui.object("retention", &body);
    Ok(Ended::Done)
}

/// What the command line sets, if it sets anything.
fn wanted(args: &RetentionArgs) -> Result<Option<Retention>, Failure> {
    if args.never {
        return Ok(Some(Retention::default()));
    }
    let policy = policy(&args.rules);
    if policy == RetentionPolicy::default() {
        return Ok(None);
    }
    if policy.is_empty() {
        let message = "the policy would keep nothing but what readers are shown";
        let hint = "Let one rule keep deploys, or keep all of them with --never.";
        return Err(Failure::usage(message).with_hint(hint));
    }
    policy.check()?;
    let policy = Some(policy);
    Ok(Some(Retention { policy }))
}

fn policy(rules: &RetentionRules) -> RetentionPolicy {
    RetentionPolicy {
        keep_last: rules.keep_last,
        keep_within: rules.keep_within.map(|age| age.as_secs()),
        keep_daily: rules.keep_daily,
        keep_previews_for: rules.keep_previews_for.map(|age| age.as_secs()),
    }
}

/// One line for each rule.
fn lines(space: &SpaceName, retention: &Retention) -> Vec<String> {
    let Some(policy) = &retention.policy else {
        return vec![format!("{space} keeps every deploy")];
    };
    let last = policy.keep_last.map(|last| {
        let deploys = ui::count(last, "deploy", "deploys");
        format!("the newest {deploys} of the site")
    });
    let within = policy
        .keep_within
        .map(|age| format!("deploys of the site that are younger than {}", text_of(age)));
    let daily = policy.keep_daily.map(|days| {
        let days = ui::count(days, "day", "days");
        format!("the newest deploy of each of the last {days} that have one")
    });
    let site = [last, within, daily];
    let all = site.iter().all(Option::is_none);
    let all = all.then(|| "every deploy of the site".to_owned());
    let previews = policy.keep_previews_for.map_or_else(
        || "every deploy of a preview".to_owned(),
        |age| format!("deploys of previews that are younger than {}", text_of(age)),
    );
    let kept = site.into_iter().chain([all, Some(previews)]).flatten();
    kept.map(|what| format!("{space} keeps {what}")).collect()
}

/// Seconds in the largest unit that has no fraction, as the command line takes them.
fn text_of(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let whole = units
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (unit, letter) = whole.unwrap_or((1, 's'));
    format!("{}{letter}", seconds / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(policy: Option<RetentionPolicy>) -> String {
        let docs = SpaceName::parse("docs").unwrap();
        lines(&docs, &Retention { policy }).join("\n")
    }

    #[test]
    fn each_rule_is_a_line() {
        let all = RetentionPolicy {
            keep_last: Some(10),
            keep_within: Some(30 * 86_400),
            keep_daily: Some(7),
            keep_previews_for: Some(36 * 3_600),
        };
        insta::assert_snapshot!(shown(Some(all)), @r"
        docs keeps the newest 10 deploys of the site
        docs keeps deploys of the site that are younger than 30d
        docs keeps the newest deploy of each of the last 7 days that have one
        docs keeps deploys of previews that are younger than 36h
        ");
        let previews = RetentionPolicy {
            keep_previews_for: Some(90),
            ..RetentionPolicy::default()
        };
        insta::assert_snapshot!(shown(Some(previews)), @r"
        docs keeps every deploy of the site
        docs keeps deploys of previews that are younger than 90s
        ");
        assert_eq!(shown(None), "docs keeps every deploy");
    }
}
