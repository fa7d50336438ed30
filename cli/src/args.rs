//! The command line as a value: every command, option and example that `--help` shows.
//!
//! Nothing is decided here. Options that may also come from the environment or from `pmx.toml` are
//! optional, and [`config`](crate::config) puts the layers together.

mod bench;
mod compression;
mod doctor;
mod host;
mod preview;
mod replacing;
mod stream_token;

use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand};
use pmx_sync::wire::MaxDelete;

use crate::order::{Older, OrderChoice};

pub use bench::{BenchArgs, Way};
pub use compression::Compression;
pub use doctor::DoctorArgs;
pub use host::{HostArgs, ServeArgs};
pub use preview::PreviewName;
pub use replacing::{ResumeArgs, RollbackArgs};
pub use stream_token::StreamTokenArgs;

use replacing::number;

/// Publish a folder by its content: only what changed travels, and one commit makes it live.
#[derive(Debug, Parser)]
#[command(name = "pmx", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = ENVIRONMENT, after_long_help = LONG_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What is printed, and how.
    #[command(flatten)]
    pub output: OutputArgs,
}

const ENVIRONMENT: &str = "\
Environment: PMX_SERVER, PMX_SPACE, PMX_TOKEN (or PATHMX_PUBLISH_TOKEN), PMX_DATA, PMX_CACHE, NO_COLOR.
A flag wins over the environment, which wins over pmx.toml, which wins over the user's config.toml.";

const LONG_HELP: &str = "\
Examples:
  pmx dev site           a live site on this machine, republished as files change
  pmx sync dist          publish a folder; prints the address
  pmx diff dist          what that would change
  pmx rollback           back to the deploy before
  pmx explain E_CONFLICT what an error means and what to do

Environment:
  PMX_SERVER             address of the server (default http://127.0.0.1:8787)
  PMX_SPACE              name of the site
  PMX_TOKEN              the server's publish secret (also PATHMX_PUBLISH_TOKEN)
  PMX_CACERT             file of the authorities whose certificates are accepted
  PMX_DATA               data folder of the embedded host
  PMX_CACHE              cache folder; it can be deleted at any time
  NO_COLOR               no colours, whatever the value

A flag wins over the environment, which wins over pmx.toml (looked for upward from here),
which wins over config.toml in the user's configuration folder.

Exit codes: 0 done, 1 other, 2 usage, 3 source, 4 not authorised, 5 network, 6 conflict,
7 integrity, 8 limit, 9 nothing to change (only with --exit-code), 130 interrupted.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
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
    /// List the deploys of a site
    Deploys(DeploysArgs),
    /// Make an older deploy active again; nothing is uploaded
    Rollback(RollbackArgs),
    /// Let publishing go on after a rollback, which holds the site until then
    Resume(ResumeArgs),
    /// Take previews away
    Preview {
        /// What to do
        #[command(subcommand)]
        command: PreviewCommand,
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

const SYNC_EXAMPLES: &str = "\
Examples:
  pmx sync                             publish `dir` of pmx.toml, or .pathmx
  pmx sync dist --space docs -m \"v2\"   publish dist as docs
  pmx sync dist --dry-run              only tell what would happen
  pmx sync dist --max-delete 10%       refuse to remove more than a tenth of the files
  pmx sync dist --expect 12            refuse if deploy 12 is not the active one any more
  pmx sync dist --preview pr-7         publish beside the active deploy, as pr-7--docs
  url=$(pmx sync dist)                 stdout is the address, alone";

const DIFF_EXAMPLES: &str = "\
Examples:
  pmx diff dist      what `pmx sync dist` would change
  pmx diff 11 12     what changed from deploy 11 to deploy 12";

const BENCH_EXAMPLES: &str = "\
Nothing leaves this machine, and neither folder is written to. pmx publishes to a host in a temporary
folder; git, restic, casync and rsync do the same if they are installed; the rest is computed.

Examples:
  pmx bench old new                    what the step from old to new costs, by each way
  pmx bench old new --only pmx,rsync   by these two
  pmx bench old new --svg cost.svg     and draw it";

const DOCTOR_EXAMPLES: &str = "\
Each point says what it saw: ok, failed, or skipped and why; exit code 1 if one failed. With a token it
publishes small sites to spaces of their own, which stay there, as all deploys do.

Examples:
  pmx doctor --cloudflare https://api.example.com
  pmx doctor --cloudflare https://api.example.com --mib 100             two publishers of 100 MiB each
  pmx doctor --cloudflare https://api.example.com --redeploy            while the Worker is deployed again
  pmx doctor --cloudflare http://127.0.0.1:8787 --data target/worker-data     the Worker on this machine";

const STREAM_TOKEN_EXAMPLES: &str = "\
The key is the first of STREAM_TOKEN_KEYS (a list with commas, 32 bytes or more each), as the server
has it in its environment. If that is not set, it is made of STREAM_SECRET. Any library for JSON Web
Tokens makes the same: HS256, header {\"alg\":\"HS256\",\"typ\":\"JWT\"}, claims sub (name or
pattern), scope, exp; nbf, iat and jti if you like.

Examples:
  pmx stream-token --stream chat/42 --scope read --expires 1h
  pmx stream-token --stream 'chat/*' --scope 'read write' --expires 30m --id alice
  pmx stream-token --stream 'jobs/*' --scope 'read claim'      for a worker that pulls
  curl -H \"Authorization: Bearer $(pmx stream-token --stream a --scope read)\" …/v1/stream/a";

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
    /// Address of the server [env: PMX_SERVER] [default: http://127.0.0.1:8787]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The server's publish secret [env: PMX_TOKEN]
    #[arg(long, value_name = "SECRET", allow_hyphen_values = true)]
    pub token: Option<String>,
    /// File that holds the publish secret (-: standard input)
    #[arg(
        long,
        value_name = "FILE|-",
        allow_hyphen_values = true,
        conflicts_with = "token"
    )]
    pub token_file: Option<PathBuf>,
    /// PEM file of the only authorities to trust [env: PMX_CACERT] [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Data folder of the embedded host, to find its secret in [env: PMX_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
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

/// `pmx deploys`
#[derive(Debug, Args)]
pub struct DeploysArgs {
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
    /// Take a preview away: its address shows nothing any more, its deploys stay at their numbers
    Rm(PreviewRmArgs),
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
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn sync(line: &str) -> SyncArgs {
        match parse(line).unwrap().command {
            Command::Sync(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_old_names_of_publish_work() {
        let args = sync("pmx publish -s docs -o dist -m hello");
        assert_eq!(args.site.space.as_deref(), Some("docs"));
        assert_eq!(args.outdir, Some("dist".into()));
        assert_eq!(args.message.as_deref(), Some("hello"));
        assert_eq!(
            sync("pmx publish --subdomain docs").site.space.as_deref(),
            Some("docs")
        );
        assert_eq!(sync("pmx publish --rollback 3").rollback, Some(3));
        let both = sync("pmx publish . --outdir dist");
        assert_eq!(
            (both.folder.dir, both.outdir),
            (Some(".".into()), Some("dist".into()))
        );
    }

    #[test]
    fn a_preview_may_be_named_after_a_branch() {
        let preview = sync("pmx sync --preview Feature/Login_Page")
            .preview
            .unwrap();
        assert_eq!(preview.alias.as_str(), "feature-login-page");
        assert!(preview.is_changed());
        assert!(
            !sync("pmx sync --preview pr-7")
                .preview
                .unwrap()
                .is_changed()
        );
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for line in [
            "pmx sync --dry-run --watch",
            "pmx sync a --rollback 3",
            "pmx sync --preview 12",
            "pmx sync --preview ///",
            "pmx sync --preview a --rollback 3",
            "pmx sync --compression 20",
            "pmx sync --compression 0",
            "pmx sync --max-delete 101%",
            "pmx sync --order later",
            "pmx sync --jobs 0",
            "pmx deploys --limit 0",
            "pmx stream-token",
            "pmx stream-token --stream a --expires 1y",
            "pmx stream-token --stream a --expires h",
            "pmx hash -q -v",
            "pmx",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_lists_the_commands() {
        let help = Cli::command().term_width(100).render_help().to_string();
        insta::assert_snapshot!(help, @r"
        Publish a folder by its content: only what changed travels, and one commit makes it live

        Usage: pmx [OPTIONS] <COMMAND>

        Commands:
          dev           Serve a folder here, and publish it again whenever it changes
          serve         Run the embedded host
          sync          Publish a folder [alias: publish]
          diff          Show what a sync would change, or what changed between two deploys
          hash          Print the root of a folder; nothing is sent
          deploys       List the deploys of a site
          rollback      Make an older deploy active again; nothing is uploaded
          resume        Let publishing go on after a rollback, which holds the site until then
          preview       Take previews away
          status        Show the server, the site, its active deploy, and whether the folder differs
          tail          Print what each deploy changes, as it happens, one line of JSON each
          bench         Measure what publishing a folder and then its next version costs
          doctor        Check a server that was deployed, one point after the other
          stream-token  Make a token that opens some streams
          completions   Print a completion script for a shell
          man           Print the manual page
          explain       Explain an error code, or list them all
          help          Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help (see more with '--help')
          -V, --version  Print version

        Output:
              --json          Print one JSON object a line
              --color <WHEN>  When to use colours [default: auto] [possible values: auto, always, never]
          -q, --quiet         Print only results and errors
          -v, --verbose       Say what is being done
              --no-progress   Show no progress bars

        Environment: PMX_SERVER, PMX_SPACE, PMX_TOKEN (or PATHMX_PUBLISH_TOKEN), PMX_DATA, PMX_CACHE,
        NO_COLOR.
        A flag wins over the environment, which wins over pmx.toml, which wins over the user's config.toml.
        ");
    }
}
