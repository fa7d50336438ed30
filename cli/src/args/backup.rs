//! `pmx backup` and `pmx restore`: spaces as a folder, and back.

use std::path::PathBuf;

use clap::Args;

use super::SiteArgs;

/// `pmx backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The folder of the backup; a second backup to it fetches only what is new
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Back up every space of the server
    #[arg(long, conflicts_with = "space")]
    pub all: bool,
    /// Fetch nothing: read the backup, and check each file by its hash
    #[arg(long, conflicts_with = "all")]
    pub check: bool,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The folder of the backup
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The space of the backup, if it has another name than the restored one
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// The snapshot, by its number [default: the newest]
    #[arg(long, value_name = "N")]
    pub snapshot: Option<u64>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}
