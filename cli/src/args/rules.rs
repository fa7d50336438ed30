//! Arguments of `pmx rules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{FolderArgs, ScanArgs};

/// `pmx rules`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RulesArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<RulesCommand>,
    /// The folder.
    #[command(flatten)]
    pub folder: FolderArgs,
}

/// What `pmx rules` does.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Show how the rules of a folder answer a request; nothing is sent
    Test(RulesTestArgs),
}

/// `pmx rules test`
#[derive(Debug, Args)]
pub struct RulesTestArgs {
    /// The URL, or its path and query
    #[arg(value_name = "URL")]
    pub url: String,
    /// Folder with the site [default: `dir` of pmx.toml, or .pathmx]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Header of the request (repeatable)
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Method of the request
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// Country of the client, for rules with Country=
    #[arg(long, value_name = "CODE")]
    pub country: Option<String>,
    /// How the folder is read.
    #[command(flatten)]
    pub scan: ScanArgs,
}
