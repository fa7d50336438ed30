//! `pmx sync`: what to publish, and what a publish may replace.

use std::path::PathBuf;

use clap::Args;
use pmx_sync::wire::{MaxDelete, PreviewExpiry};

use super::replacing::number;
use super::{Compression, FolderArgs, PreviewName, SiteArgs};
use crate::order::{Older, OrderChoice};

/// `pmx sync`
#[derive(Debug, Clone, Default, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct SyncArgs {
    /// Folder to publish: the output of the project DIR, if both are given
    #[arg(short, long, value_name = "DIR", hide_short_help = true)]
    pub outdir: Option<PathBuf>,
    /// What changed, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Only tell what would happen
    #[arg(short = 'n', long, conflicts_with = "watch")]
    pub dry_run: bool,
    /// Publish again whenever the folder changes
    #[arg(short, long)]
    pub watch: bool,
    /// Let open pages take in what later deploys change (from the next deploy on)
    #[arg(long)]
    pub live: bool,
    /// Replace this deploy, and refuse if another is active (0: none yet)
    ///
    /// Without it a publish replaces the deploy that this machine saw last, or with an order an
    /// older build of the same sequence. With `--watch` each publish expects the one before.
    #[arg(long, value_name = "DEPLOY", value_parser = number)]
    pub expect: Option<u64>,
    /// Replace whatever is live: another machine's deploy, a rollback, a newer build
    #[arg(long, conflicts_with = "expect")]
    pub force: bool,
    /// Place of this build in its sequence: auto, none, run:N, commit:SECONDS, or N for run:N
    ///
    /// A build never replaces one of the same sequence with a higher place. `auto` takes the number
    /// of the run under CI, in the sequence of its repository and workflow, and sends nothing
    /// elsewhere.
    #[arg(long, value_name = "ORDER", default_value = "auto")]
    pub order: OrderChoice,
    /// What to make of a newer build that was published before: a failure, or nothing to do
    #[arg(long, value_enum, value_name = "WHAT", default_value = "refuse")]
    pub older: Older,
    /// Refuse to remove more files than this, or more than this share of the active deploy's
    #[arg(long, value_name = "N|N%")]
    pub max_delete: Option<MaxDelete>,
    /// Publish a folder without any files
    #[arg(long)]
    pub allow_empty: bool,
    /// Exit with 9 if there was nothing to change
    #[arg(long)]
    pub exit_code: bool,
    /// How hard to compress what is sent: auto, or 1 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", default_value = "auto")]
    pub compression: Compression,
    /// Publish a preview, beside the active deploy: NAME--SPACE.DOMAIN shows it
    ///
    /// NAME may be a branch: `feature/X` is shown as feature-x.
    #[arg(long, value_name = "NAME", value_parser = PreviewName::parse)]
    pub preview: Option<PreviewName>,
    /// How long the preview stays: 12h, 7d, or never [default: the end it has; else none]
    ///
    /// Its address answers 404 from that time on. Each publish with it starts the time anew, also
    /// one that finds nothing to change.
    #[arg(long, value_name = "TIME", requires = "preview")]
    pub expires: Option<PreviewExpiry>,
    /// Make an older deploy active instead, as `pmx rollback` does
    #[arg(long, value_name = "DEPLOY", value_parser = number, hide_short_help = true)]
    #[arg(conflicts_with_all = ["dir", "outdir", "dry_run", "watch", "preview", "force"])]
    pub rollback: Option<u64>,
    /// The folder.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}
