//! Command line as a value: every command, option and example that `--help` shows.
//!
//! This module decides nothing. Options that may also come from the environment or from `pmx.toml`
//! are optional, and [`config`](crate::config) merges the layers.

mod backup;
mod bench;
mod compression;
mod deploys;
mod doctor;
mod domain;
mod edit;
mod help;
mod host;
mod lifecycle;
mod preview;
mod pull;
mod replacing;
mod rules;
mod server;
mod spaces;
mod stream_token;
mod sync;

use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand};

pub use backup::{BackupArgs, RestoreArgs};
pub use bench::{BenchArgs, Way};
pub use compression::Compression;
pub use deploys::{DeploysArgs, DeploysCommand, DeploysListArgs, DeploysPinArgs, DeploysRmArgs};
pub use doctor::DoctorArgs;
pub use domain::{DomainAddArgs, DomainCheckArgs, DomainListArgs, DomainRmArgs, DomainSubcommand};
pub use edit::{EditArgs, PutArgs, RmArgs};
pub use host::{HostArgs, ServeArgs};
pub use lifecycle::{GcArgs, RetentionArgs, RetentionRules, VerifyArgs};
pub use preview::PreviewName;
pub use pull::{GetArgs, PullArgs};
pub use replacing::{PromoteArgs, Promoted, ResumeArgs, RollbackArgs};
pub use rules::{RulesArgs, RulesCommand, RulesTestArgs};
pub use server::ServerArgs;
pub use spaces::{SpacesCommand, SpacesDeleteArgs, SpacesListArgs};
pub use stream_token::StreamTokenArgs;
pub use sync::SyncArgs;

use help::{
    BACKUP_EXAMPLES, BENCH_EXAMPLES, DIFF_EXAMPLES, DOCTOR_EXAMPLES, DOMAIN_EXAMPLES, ENVIRONMENT,
    LONG_HELP, RESTORE_EXAMPLES, RETENTION_EXAMPLES, RULES_EXAMPLES, STREAM_TOKEN_EXAMPLES,
    SYNC_EXAMPLES,
};
use replacing::number;

/// Publish a folder by its content: only what changed travels, and one commit makes it live.
#[derive(Debug, Parser)]
#[command(name = "pmx", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = ENVIRONMENT, after_long_help = LONG_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
    /// What is printed, and how.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Serve a folder here, and publish it again whenever it changes
    Dev(DevArgs),
    /// Run the embedded host
    Serve(ServeArgs),
    /// Publish a folder
    #[command(visible_alias = "publish", after_long_help = SYNC_EXAMPLES)]
    Sync(Box<SyncArgs>),
    /// Show what a sync would change, or what changed between two deploys
    #[command(after_long_help = DIFF_EXAMPLES)]
    Diff(DiffArgs),
    /// Print the root of a folder; nothing is sent
    Hash(HashArgs),
    /// Check the rules of a folder: _redirects, _headers and _site.toml
    #[command(after_long_help = RULES_EXAMPLES)]
    Rules(Box<RulesArgs>),
    /// List the deploys of a site, pin one, or remove one
    Deploys(Box<DeploysArgs>),
    /// Show or set which deploys a site keeps
    #[command(after_long_help = RETENTION_EXAMPLES)]
    Retention(Box<RetentionArgs>),
    /// Give up what the retention policy does not keep, and collect the garbage
    Gc(GcArgs),
    /// Compare what a site's space records with its objects, and print what is damaged
    Verify(VerifyArgs),
    /// Save a site with its whole history into a folder: only what the folder lacks
    #[command(after_long_help = BACKUP_EXAMPLES)]
    Backup(BackupArgs),
    /// Bring a site back from a backup: its deploys, previews, pins and policy
    #[command(after_long_help = RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
    /// Write a deploy into a folder: only what differs, each file checked by its hash
    Pull(PullArgs),
    /// Print a file of a deploy, or write it
    Get(GetArgs),
    /// Replace one file of a site, or add it; the rest of the site stays
    Put(Box<PutArgs>),
    /// Remove files of a site; the rest of the site stays
    Rm(Box<RmArgs>),
    /// Make an older deploy active again; nothing is uploaded
    Rollback(RollbackArgs),
    /// Make a preview or another deploy the live one; nothing is uploaded
    Promote(PromoteArgs),
    /// Let publishing go on after a rollback, which holds the site until then
    Resume(ResumeArgs),
    /// List previews, or take one away
    Preview {
        /// What to do
        #[command(subcommand)]
        command: PreviewCommand,
    },
    /// List the spaces of a server, or delete one
    Spaces {
        /// What to do
        #[command(subcommand)]
        command: SpacesCommand,
    },
    /// Let hosts of your own show a site
    #[command(after_long_help = DOMAIN_EXAMPLES)]
    Domain {
        /// What to do
        #[command(subcommand)]
        command: DomainSubcommand,
    },
    /// Show the server, the site, its active deploy, and whether the folder differs
    Status(StatusArgs),
    /// Print what each deploy changes, as it happens, one line of JSON each
    Tail(TailArgs),
    /// Measure what publishing a folder and then its next version costs
    #[command(after_long_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Check a server that was deployed, one point after the other
    #[command(after_long_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Make a token that opens some streams
    #[command(after_long_help = STREAM_TOKEN_EXAMPLES)]
    StreamToken(StreamTokenArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Write one page a command into this folder instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Explain an error code, or list them all
    Explain {
        /// The code, such as E_CONFLICT
        code: Option<String>,
    },
}

/// What is printed, and how.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct OutputArgs {
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say what is being done
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// Which site on which server.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Site")]
pub struct SiteArgs {
    /// Name of the site [env: PMX_SPACE]
    #[arg(short, long, value_name = "NAME", visible_alias = "subdomain")]
    pub space: Option<String>,
    /// The server.
    #[command(flatten)]
    pub at: ServerArgs,
}

/// Which folder, and how it is read.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Folder")]
pub struct FolderArgs {
    /// Folder to publish [default: `dir` of pmx.toml, or .pathmx]
    #[arg(value_name = "DIR", help_heading = None)]
    pub dir: Option<PathBuf>,
    /// How to read it.
    #[command(flatten)]
    pub scan: ScanArgs,
}

/// How a folder is read.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Folder")]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct ScanArgs {
    /// Leave out what matches a pattern, as in .gitignore (repeatable)
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Read every file again
    #[arg(long)]
    pub no_cache: bool,
    /// Refuse paths that differ only in case or in Unicode normalisation, instead of warning
    #[arg(long, conflicts_with = "allow_collisions")]
    pub strict: bool,
    /// Publish paths that differ only in case or in Unicode normalisation without a warning
    #[arg(long)]
    pub allow_collisions: bool,
    /// Publish files that are private keys
    #[arg(long)]
    pub allow_secrets: bool,
    /// Publish this Path of a PathMX build alone, at the top of the site
    ///
    /// Without it the build's default Path is at the top, and each other one below its id.
    #[arg(long, value_name = "ID")]
    pub path: Option<String>,
    /// Publish without the lines of _redirects, _headers and _site.toml that have errors
    #[arg(long)]
    pub lenient: bool,
    /// Threads that read the folder [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
}

/// `pmx dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Name of the site [env: PMX_SPACE]
    #[arg(short, long, value_name = "NAME", visible_alias = "subdomain")]
    pub space: Option<String>,
    /// Open the site in a browser
    #[arg(long)]
    pub open: bool,
    /// The folder.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// The host.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `pmx diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A folder, or the older deploy
    #[arg(value_name = "DIR|DEPLOY")]
    pub from: Option<PathBuf>,
    /// The newer deploy
    #[arg(value_name = "DEPLOY", value_parser = number)]
    pub to: Option<u64>,
    /// Exit with 9 if there is no difference
    #[arg(long)]
    pub exit_code: bool,
    /// How to read the folder.
    #[command(flatten)]
    pub scan: ScanArgs,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx hash`
#[derive(Debug, Args)]
pub struct HashArgs {
    /// The folder.
    #[command(flatten)]
    pub folder: FolderArgs,
}

/// `pmx tail`
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Begin behind this deploy (0: with the first) [default: the active one]
    #[arg(long, value_name = "DEPLOY", value_parser = number)]
    pub from: Option<u64>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx preview`
#[derive(Debug, Subcommand)]
pub enum PreviewCommand {
    /// List the previews of a site, with their addresses and when they end
    List(PreviewListArgs),
    /// Take a preview away: its address shows nothing any more, and its deploys are given up
    Rm(PreviewRmArgs),
}

/// `pmx preview list`
#[derive(Debug, Args)]
pub struct PreviewListArgs {
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx preview rm`
#[derive(Debug, Args)]
pub struct PreviewRmArgs {
    /// Name of the preview
    #[arg(value_name = "NAME", value_parser = PreviewName::parse)]
    pub alias: PreviewName,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Exit with 9 if the folder is what is published
    #[arg(long)]
    pub exit_code: bool,
    /// The folder.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

#[cfg(test)]
mod tests;
