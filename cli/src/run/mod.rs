//! Commands, one in each file, and their common parts.

mod backup;
mod bench;
mod columns;
mod deploys;
mod dev;
mod diff;
mod doctor;
mod domain;
mod edit;
mod explain;
mod gc;
mod hash;
mod open_problems;
mod preview;
mod promote;
mod pull;
mod put;
mod report;
mod restore;
mod resume;
mod retention;
mod rollback;
mod rule_diff;
mod rules;
mod serve;
mod shell;
mod spaces;
mod status;
mod stream_token;
mod sync;
mod tail;
mod verify;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pmx_core::code::Code;
use pmx_sync::limits::MESSAGE_BYTES_MAX;

use crate::args::{Cli, CliCommand, OutputArgs, PreviewName, SiteArgs};
use crate::cache::CacheFolder;
use crate::client::http::Client;
use crate::config::{Layers, SiteConfig};
use crate::env::Environment;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::server::LinkSecurity;
use crate::ui::Ui;

/// How a command ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The command succeeded.
    Done,
    /// There was nothing to change, and the user passed `--exit-code`.
    Unchanged,
    /// The checks failed, and the command has printed all of them.
    Failed,
}

/// Runs the program.
pub fn main(args: impl IntoIterator<Item = OsString>, env: Environment) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &args, &env),
    };
    let ui = Ui::new(&cli.output, &env);
    let code = match run(cli.command, env, &ui) {
        Ok(Ended::Done) => 0,
        Ok(Ended::Unchanged) => 9,
        Ok(Ended::Failed) => 1,
        Err(failure) => {
            ui.failure(&failure);
            failure.exit()
        }
    };
    ExitCode::from(printed(&ui).map_or_else(
        |lost| if code == 0 || code == 9 { lost } else { code },
        |()| code,
    ))
}

/// Fails with an exit code if a result could not be printed.
fn printed(ui: &Ui) -> Result<(), u8> {
    ui.end().map_err(|lost| {
        if let Some(failure) = &lost {
            ui.lost(failure);
        }
        lost.map_or(1, |failure| failure.exit())
    })
}

/// State that every command works with.
struct Context<'a> {
    ui: &'a Ui,
    layers: Layers,
    cache: CacheFolder,
    interrupt: Interrupt,
}

fn run(command: CliCommand, env: Environment, ui: &Ui) -> Result<Ended, Failure> {
    match command {
        CliCommand::Completions { shell } => Ok(shell::completions(shell, ui)),
        CliCommand::Man { dir } => shell::man(dir.as_deref(), ui),
        CliCommand::Explain { code } => explain::run(code.as_deref(), ui),
        CliCommand::StreamToken(args) => stream_token::run(args, &env, ui),
        other => {
            if !matches!(other, CliCommand::Serve(_)) {
                crate::allocator::set_top_pad();
            }
            let context = Context {
                ui,
                cache: CacheFolder::of(&env),
                layers: Layers::of_program(env)?,
                interrupt: Interrupt::listen(expired(&other, ui)),
            };
            run_in(other, &context)
        }
    }
}

/// Time limit for the last line of an interrupted command.
const PRINT_TIME: Duration = Duration::from_millis(200);

/// Ends a command that does not end in time after an interrupt. For a host, that is a success.
fn expired(command: &CliCommand, ui: &Ui) -> impl FnOnce() + Send + 'static {
    let is_host = matches!(command, CliCommand::Serve(_) | CliCommand::Dev(_));
    let ui = ui.clone();
    move || {
        let failure = Failure::interrupted();
        let exit = if is_host { 0 } else { failure.exit() };
        let (done, printed) = std::sync::mpsc::channel();
        // A reader that does not read delays the printing, but not the end.
        std::thread::spawn(move || {
            if is_host {
                ui.stopped();
            } else {
                ui.failure(&failure);
            }
            done.send(())
        });
        let _ = printed.recv_timeout(PRINT_TIME);
        std::process::exit(exit.into());
    }
}

impl Context<'_> {
    /// The site of a command. It prints warnings about the connection.
    fn site(&self, args: &SiteArgs, dir: &Path) -> Result<SiteConfig, Failure> {
        let site = self.layers.site(args, dir)?;
        if args.at.token.is_some() {
            self.ui.warn(
                "--token shows the secret to every user of this machine; use --token-file or PMX_TOKEN",
            );
        }
        if site.server.reach() == LinkSecurity::Plain && site.token.is_some() {
            let server = &site.server;
            self.ui.warn(format!(
                "the token travels to {server} as plain text; use https"
            ));
        }
        Ok(site)
    }

    /// Prints the name of a preview, if it differs from the user's words.
    fn note_preview(&self, preview: Option<&PreviewName>) {
        if let Some(preview) = preview.filter(|preview| preview.is_changed()) {
            let (asked, alias) = (&preview.asked, &preview.alias);
            self.ui
                .note(format!("the preview of {asked} is named {alias}"));
        }
    }

    /// A client of a site's server, with its progress shown.
    fn client(&self, site: &SiteConfig) -> Client {
        let client = Client::of(site, self.interrupt.clone());
        self.ui.follow(client.transfer());
        client
    }
}

fn run_in(command: CliCommand, context: &Context<'_>) -> Result<Ended, Failure> {
    match command {
        CliCommand::Sync(args) => sync::run(*args, context),
        CliCommand::Diff(args) => diff::run(&args, context),
        CliCommand::Hash(args) => hash::run(&args, context),
        CliCommand::Rules(args) => rules::run(*args, context),
        CliCommand::Deploys(args) => deploys::run(*args, context),
        CliCommand::Retention(args) => retention::run(&args, context),
        CliCommand::Gc(args) => gc::run(&args, context),
        CliCommand::Verify(args) => verify::run(&args, context),
        CliCommand::Rollback(args) => rollback::run(args, context),
        CliCommand::Promote(args) => promote::run(args, context),
        CliCommand::Resume(args) => resume::run(&args, context),
        CliCommand::Preview { command } => preview::run(command, context),
        CliCommand::Backup(args) => backup::run(&args, context),
        CliCommand::Restore(args) => restore::run(&args, context),
        CliCommand::Pull(args) => pull::pull(&args, context),
        CliCommand::Get(args) => pull::get(&args, context),
        CliCommand::Put(args) => put::put(*args, context),
        CliCommand::Rm(args) => put::rm(*args, context),
        CliCommand::Spaces { command } => spaces::run(command, context),
        CliCommand::Domain { command } => domain::run(command, context),
        CliCommand::Status(args) => status::run(&args, context),
        CliCommand::Tail(args) => tail::run(&args, context),
        CliCommand::Bench(args) => bench::run(&args, context),
        CliCommand::Doctor(args) => doctor::run(&args, context),
        CliCommand::Dev(args) => dev::run(&args, context),
        CliCommand::Serve(args) => serve::run(&args, context),
        CliCommand::Completions { .. }
        | CliCommand::Man { .. }
        | CliCommand::Explain { .. }
        | CliCommand::StreamToken(_) => Ok(Ended::Done),
    }
}

/// Prints help, or the error of the command line, in the requested form.
fn refuse(error: &clap::Error, args: &[OsString], env: &Environment) -> ExitCode {
    let json = args.iter().any(|arg| arg == "--json");
    if json && error.exit_code() != 0 {
        let text = error.to_string();
        let mut lines = text
            .lines()
            .map(|line| line.trim_start_matches("error: ").trim());
        let message = lines.find(|line| !line.is_empty()).unwrap_or_default();
        let output = OutputArgs {
            json,
            ..OutputArgs::default()
        };
        // A value parser can only put a code into its text.
        let code = if text.contains(Code::NumberTooLarge.as_str()) {
            Code::NumberTooLarge
        } else {
            Code::Usage
        };
        Ui::new(&output, env).failure(&Failure::new(code, message));
    } else if error.print().is_err() && error.exit_code() == 0 {
        return ExitCode::from(1);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The metadata of a deploy.
fn meta(
    message: Option<String>,
    context: &Context<'_>,
) -> Result<pmx_sync::wire::DeployMeta, Failure> {
    if let Some(message) = &message
        && message.len() > MESSAGE_BYTES_MAX
    {
        let len = message.len();
        let text = format!("the message has {len} bytes, above the limit of {MESSAGE_BYTES_MAX}");
        return Err(Failure::usage(text).with_hint("Shorten it."));
    }
    Ok(pmx_sync::wire::DeployMeta {
        message,
        ..context.layers.env.deploy_meta()
    })
}
