//! Command line: parsed examples, contradictions and the text of `--help`.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

fn sync(line: &str) -> SyncArgs {
    match parse(line).unwrap().command {
        CliCommand::Sync(args) => *args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn command_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn publish_accepts_its_old_names() {
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
fn preview_may_be_named_after_a_branch() {
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
fn deploys_lists_unless_it_is_given_a_command() {
    let deploys = |line: &str| match parse(line).unwrap().command {
        CliCommand::Deploys(args) => *args,
        other => panic!("{other:?}"),
    };
    let listed = deploys("pmx deploys -l 3 --before 7 --space docs");
    assert!(listed.command.is_none());
    assert_eq!((listed.list.limit, listed.list.before), (3, Some(7)));
    assert_eq!(listed.list.site.space.as_deref(), Some("docs"));
    let Some(DeploysCommand::Pin(args)) = deploys("pmx deploys pin 7 --space docs --json").command
    else {
        panic!("not a pin");
    };
    assert_eq!((args.deploy, args.site.space.as_deref()), (7, Some("docs")));
    let Some(DeploysCommand::Rm(args)) = deploys("pmx deploys rm 7 --purge").command else {
        panic!("not a removal");
    };
    assert_eq!((args.deploy, args.purge, args.yes), (7, true, false));
}

#[test]
fn parse_refuses_contradictions() {
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
        "pmx deploys pin",
        "pmx deploys pin x",
        "pmx deploys rm --yes",
        "pmx deploys --limit 3 pin 7",
        "pmx deploys 7",
        "pmx retention --never --keep-last 3",
        "pmx retention --keep-within 30",
        "pmx retention --keep-last x",
        "pmx gc --max-time 0s",
        "pmx put index.html",
        "pmx put a b --expect x",
        "pmx put a b --strict --allow-collisions",
        "pmx rm",
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
      rules         Check the rules of a folder: _redirects, _headers and _site.toml
      deploys       List the deploys of a site, pin one, or remove one
      retention     Show or set which deploys a site keeps
      gc            Give up what the retention policy does not keep, and collect the garbage
      verify        Compare what a site's space records with its objects, and print what is damaged
      backup        Save a site with its whole history into a folder: only what the folder lacks
      restore       Bring a site back from a backup: its deploys, previews, pins and policy
      pull          Write a deploy into a folder: only what differs, each file checked by its hash
      get           Print a file of a deploy, or write it
      put           Replace one file of a site, or add it; the rest of the site stays
      rm            Remove files of a site; the rest of the site stays
      rollback      Make an older deploy active again; nothing is uploaded
      promote       Make a preview or another deploy the live one; nothing is uploaded
      resume        Let publishing go on after a rollback, which holds the site until then
      preview       List previews, or take one away
      spaces        List the spaces of a server, or delete one
      domain        Let hosts of your own show a site
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
