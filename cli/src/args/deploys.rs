//! `pmx deploys`: the history of a site, and deploys that are kept or removed by hand.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SiteArgs;
use super::replacing::number;

/// `pmx deploys`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DeploysArgs {
    /// What to do [default: list them].
    #[command(subcommand)]
    pub command: Option<DeploysCommand>,
    /// The list.
    #[command(flatten)]
    pub list: DeploysListArgs,
}

/// What `pmx deploys` does, other than to list.
#[derive(Debug, Subcommand)]
pub enum DeploysCommand {
    /// Keep a deploy, whatever the retention policy says
    Pin(DeploysPinArgs),
    /// Leave a deploy to the retention policy again
    Unpin(DeploysPinArgs),
    /// Give up the content of a deploy; its number stays in the history
    Rm(DeploysRmArgs),
}

/// `pmx deploys` without a command
#[derive(Debug, Args)]
pub struct DeploysListArgs {
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// List at most so many
    #[arg(short = 'l', long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=pmx_sync::limits::DEPLOYS_PAGE_MAX))]
    pub limit: u64,
    /// List only deploys with smaller numbers
    #[arg(long, value_name = "DEPLOY", value_parser = number)]
    pub before: Option<u64>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx deploys pin` and `pmx deploys unpin`
#[derive(Debug, Args)]
pub struct DeploysPinArgs {
    /// Number of the deploy
    #[arg(value_name = "DEPLOY", value_parser = number)]
    pub deploy: u64,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx deploys rm`
#[derive(Debug, Args)]
pub struct DeploysRmArgs {
    /// Number of the deploy
    #[arg(value_name = "DEPLOY", value_parser = number)]
    pub deploy: u64,
    /// Remove it; without this, the command only says what it would remove
    #[arg(short, long)]
    pub yes: bool,
    /// Delete the content now, not after 24 hours: some readers see errors for a minute
    #[arg(long)]
    pub purge: bool,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}
