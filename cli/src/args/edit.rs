//! `pmx put` and `pmx rm`: a site with other files at a few paths.

use std::path::PathBuf;

use clap::Args;

use super::replacing::number;
use super::{PreviewName, SiteArgs};

/// `pmx put`
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The file's path in the site
    #[arg(value_name = "PATH")]
    pub path: String,
    /// The file with its content (-: standard input)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Refuse a path that differs from another only in case or in Unicode normalisation
    #[arg(long, conflicts_with = "allow_collisions")]
    pub strict: bool,
    /// Publish such a path without a warning
    #[arg(long)]
    pub allow_collisions: bool,
    /// Publish a file that is a private key
    #[arg(long)]
    pub allow_secrets: bool,
    /// The publish.
    #[command(flatten)]
    pub edit: EditArgs,
}

/// `pmx rm`
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The files' paths in the site
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// Remove also the last file of the site
    #[arg(long)]
    pub allow_empty: bool,
    /// The publish.
    #[command(flatten)]
    pub edit: EditArgs,
}

/// A publish that changes a few paths of a deploy.
#[derive(Debug, Args)]
pub struct EditArgs {
    /// What changed, for the history [default: the path]
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Only tell what would happen
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Change a preview, not the active deploy
    #[arg(long, value_name = "NAME", value_parser = PreviewName::parse)]
    pub preview: Option<PreviewName>,
    /// Change this deploy, also one that a rollback holds; refuse if another is active
    #[arg(long, value_name = "DEPLOY", value_parser = number)]
    pub expect: Option<u64>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}
