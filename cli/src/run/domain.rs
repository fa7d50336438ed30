//! `pmx domain`: adds, lists, checks and removes the domains of a site.

use std::path::Path;

use pmx_core::code::Code;
use pmx_sync::domains::CustomHost;
use pmx_sync::wire::{AddDomainHead, DomainState, DomainView, VERSION};
use reqwest::Url;
use serde_json::json;

use super::columns::table;
use super::deploys::when;
use super::{Context, Ended};
use crate::args::{
    DomainAddArgs, DomainCheckArgs, DomainListArgs, DomainRmArgs, DomainSubcommand, ScanArgs,
    SiteArgs,
};
use crate::config::SiteConfig;
use crate::error::Failure;
use crate::ui;

pub(super) fn run(command: DomainSubcommand, context: &Context<'_>) -> Result<Ended, Failure> {
    match command {
        DomainSubcommand::Add(args) => add(&args, context),
        DomainSubcommand::List(args) => list(&args, context),
        DomainSubcommand::Check(args) => check(&args, context),
        DomainSubcommand::Rm(args) => remove(&args, context),
    }
}

fn add(args: &DomainAddArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let host = parsed(&args.host)?;
    let site = site(&args.site, args.dir.as_deref(), context)?;
    let head = AddDomainHead {
        v: VERSION,
        space: site.space.clone(),
        host: host.to_string(),
        unverified: args.unverified,
    };
    let domain = context.client(&site).add_domain(&head)?;
    describe(&domain, context);
    context.ui.object("domain", &domain);
    Ok(Ended::Done)
}

fn list(args: &DomainListArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let site = site(&args.site, args.dir.as_deref(), context)?;
    let domains = context.client(&site).domains(&site.space)?.domains;
    if domains.is_empty() {
        context.ui.note(format!("{} has no domains", site.space));
    } else {
        for line in table(HEADINGS, domains.iter().map(row).collect(), &[]) {
            context.ui.result(line);
        }
    }
    let body = json!({ "space": site.space, "domains": domains });
    context.ui.object("domains", &body);
    Ok(Ended::Done)
}

const HEADINGS: [&str; 4] = ["host", "state", "stops", "record"];

fn row(domain: &DomainView) -> [String; 4] {
    [
        ui::escaped(&domain.host),
        domain.state.as_str().to_owned(),
        domain.ends.map_or_else(|| "-".to_owned(), when),
        record(domain),
    ]
}

fn check(args: &DomainCheckArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let named = args.host.as_deref().map(parsed).transpose()?;
    let site = site(&args.site, args.dir.as_deref(), context)?;
    let client = context.client(&site);
    let hosts = if let Some(host) = named {
        vec![host.to_string()]
    } else {
        let domains = client.domains(&site.space)?.domains;
        domains.into_iter().map(|domain| domain.host).collect()
    };
    let mut is_served = true;
    for host in hosts {
        let domain = client.check_domain(&site.space, &host)?;
        describe(&domain, context);
        context.ui.object("domain", &domain);
        is_served &= domain.state.is_served();
    }
    Ok(if is_served {
        Ended::Done
    } else {
        Ended::Failed
    })
}

fn remove(args: &DomainRmArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let host = parsed(&args.host)?;
    let site = site(&args.site, args.dir.as_deref(), context)?;
    let removed = context
        .client(&site)
        .remove_domain(&site.space, &host)?
        .removed;
    let space = &site.space;
    context.ui.note(if removed {
        format!("{host} does not show {space} any more")
    } else {
        format!("{space} had no domain {host}")
    });
    let body = json!({ "space": space, "host": host, "removed": removed });
    context.ui.object("removed", &body);
    Ok(Ended::Done)
}

fn site(args: &SiteArgs, dir: Option<&Path>, context: &Context<'_>) -> Result<SiteConfig, Failure> {
    let folder = context.layers.folder_at(dir, &ScanArgs::default())?;
    context.site(args, &folder.dir)
}

/// Reads a host as its user spells it; an internationalised name gets its ASCII form.
fn parsed(text: &str) -> Result<CustomHost, Failure> {
    let is_name = !text.contains(|char: char| "/:@?#\\[]%".contains(char) || char.is_whitespace());
    let url = (is_name && !text.is_ascii()).then(|| Url::parse(&format!("https://{text}/")).ok());
    let ascii = url
        .flatten()
        .and_then(|url| url.host_str().map(str::to_owned));
    let host = CustomHost::parse(ascii.as_deref().unwrap_or(text));
    host.map_err(|error| Failure::new(Code::DomainInvalid, error.to_string()))
}

/// Says what a domain shows, and what is left to do.
fn describe(domain: &DomainView, context: &Context<'_>) {
    let (ui, host, space) = (context.ui, ui::escaped(&domain.host), &domain.space);
    if let Some(fault) = &domain.fault {
        ui.warn(format!("{host}: {fault}"));
    }
    let sentence = match domain.state {
        DomainState::Active => format!("{host} shows {space}; keep its record"),
        DomainState::Unverified => format!("{host} shows {space}, without a record"),
        DomainState::Pending => format!(
            "{host} shows nothing yet: create this record, then run `pmx domain check {host}`"
        ),
        DomainState::Failing => format!(
            "{host} shows {space} until {}: its record is gone, create it again",
            domain.ends.map_or_else(String::new, when)
        ),
        DomainState::Stopped => {
            format!("{host} shows nothing any more: its record is gone, create it again")
        }
    };
    ui.note(sentence);
    match domain.state {
        DomainState::Active | DomainState::Unverified => ui.result(&domain.url),
        DomainState::Pending | DomainState::Failing | DomainState::Stopped => {
            ui.result(record(domain));
        }
    }
}

/// A record as zone files have it.
fn record(domain: &DomainView) -> String {
    let record = &domain.record;
    ui::escaped(&format!("{}. TXT \"{}\"", record.name, record.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed_host_is_ascii() {
        let shown = |text| parsed(text).map(|host| host.to_string()).ok();
        for (text, expected) in [
            ("B\u{fc}cher.example", Some("xn--bcher-kva.example")),
            ("docs.example.com.", Some("docs.example.com")),
            ("\u{ff11}27.0.0.1", None),
            ("b\u{fc}cher.example:80", None),
            ("https://b\u{fc}cher.example", None),
            ("b\u{fc}cher", None),
            ("docs", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }
}
