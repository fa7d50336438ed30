//! `pmx gc` and `pmx retention`: which deploys a site keeps, and the collection of the rest.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pmx_core::limits::EXACT_INTEGER_MAX;
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
    /// Copy live content out of objects if more of the space's bytes than this is garbage in them
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = percent)]
    pub max_unused: u64,
    /// Copy out of objects of at most so many bytes, such as 500M; 0 copies nothing
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    pub max_repack_size: u64,
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

/// Reads a share: `10%`.
fn percent(text: &str) -> Result<u64, String> {
    let share = text.strip_suffix('%').and_then(|text| text.parse().ok());
    let share = share.filter(|share| *share <= 100);
    share.ok_or_else(|| "expected a number from 0 to 100 and %".to_owned())
}

/// Reads an amount of bytes: a number, and K, M, G or T for its powers of 1,024.
fn size(text: &str) -> Result<u64, String> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let unit = units.iter().find(|(unit, _)| text.ends_with(unit));
    let (amount, shift) = match unit {
        Some((unit, shift)) => (&text[..text.len() - unit.len()], *shift),
        None => (text, 0),
    };
    let expected = "expected a number, with K, M, G or T if it is large";
    let amount = number(amount).map_err(|_| expected.to_owned())?;
    let bytes = amount.checked_mul(1 << shift);
    let bytes = bytes.filter(|bytes| *bytes <= EXACT_INTEGER_MAX);
    bytes.ok_or_else(|| "the amount is too large".to_owned())
}

/// Reads a duration: a number and a unit of time.
fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a number above 0 and s, m, h or d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("64K", Some(64 << 10)),
            ("1G", Some(1 << 30)),
            ("9000T", None),
            ("G", None),
            ("1GG", None),
            ("1.5G", None),
            ("-1", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("0%", Some(0)),
            ("100%", Some(100)),
            ("101%", None),
            ("10", None),
        ] {
            assert_eq!(percent(text).ok(), expected, "{text}");
        }
    }
}
