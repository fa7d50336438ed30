//! `pmx gc` and `pmx retention`: which deploys a site keeps, and the collection of the rest.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pmx_core::time::parse_duration;
use pmx_sync::wire::VerifyData;

use super::SiteArgs;
use super::replacing::number;

/// `pmx gc`
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Only tell what would happen
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Stop after this time, such as 60s or 5m; the server continues later [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub max_time: Option<Duration>,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Read and hash all content, too
    #[arg(long, conflicts_with = "read_data_subset")]
    pub read_data: bool,
    /// Read and hash a part of the content: group 1 of 7, the next day group 2
    #[arg(long, value_name = "N/GROUPS", value_parser = subset)]
    pub read_data_subset: Option<VerifyData>,
    /// Mark what is damaged, so that the next sync sends it again
    #[arg(long)]
    pub repair: bool,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx retention`
#[derive(Debug, Args)]
pub struct RetentionArgs {
    /// The rules.
    #[command(flatten)]
    pub rules: RetentionRules,
    /// Give up no deploy: remove the policy
    #[arg(long)]
    #[arg(conflicts_with_all = ["keep_last", "keep_within", "keep_daily", "keep_previews_for"])]
    pub never: bool,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// The rules of a policy. A deploy is kept if one of them names it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Rules")]
pub struct RetentionRules {
    /// Keep so many of the newest deploys of the site
    #[arg(long, value_name = "N", value_parser = number)]
    pub keep_last: Option<u64>,
    /// Keep deploys of the site that are younger: 30d, 12h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub keep_within: Option<Duration>,
    /// Keep the newest deploy of each of so many days (UTC) that have one
    #[arg(long, value_name = "N", value_parser = number)]
    pub keep_daily: Option<u64>,
    /// Keep deploys of previews that are younger: 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub keep_previews_for: Option<Duration>,
}

/// Reads a group of objects: `1/7`.
fn subset(text: &str) -> Result<VerifyData, String> {
    let numbers = text
        .split_once('/')
        .and_then(|(group, groups)| Some((group.parse().ok()?, groups.parse().ok()?)));
    let (group, groups) = numbers.ok_or_else(|| "expected two numbers, as in 1/7".to_owned())?;
    VerifyData::of(group, groups).map_err(|problem| problem.detail)
}

/// Reads a duration: a number and a unit of time.
fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a number above 0 and s, m, h or d".to_owned())
}
