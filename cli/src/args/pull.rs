//! `pmx pull` and `pmx get`: deploys as files.

use std::path::PathBuf;

use clap::Args;

use super::{Promoted, SiteArgs};

/// `pmx pull`
#[derive(Debug, Args)]
pub struct PullArgs {
    /// The deploy, by its number or its preview [default: the active one], and the folder
    #[arg(value_names = ["[DEPLOY] DIR"], num_args = 1..=2, required = true)]
    pub what: Vec<String>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The file's path in the site
    #[arg(value_name = "PATH")]
    pub path: String,
    /// The deploy, by its number or its preview [default: the active one]
    #[arg(long, value_name = "DEPLOY", value_parser = Promoted::parse)]
    pub deploy: Option<Promoted>,
    /// Write it here, not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}
