//! Output that does not reach its reader: the exit code reports the failure.

use std::fs::OpenOptions;
use std::process::Stdio;

use crate::world::{Ran, World, on_both_hosts, sync_args};

on_both_hosts! {
    diff_names_paths_although_another_machine_published,
}

#[test]
fn exit_code_says_that_output_was_lost() {
    let world = World::new();
    world.write(&[("index.html", "one")]);
    world.sync("docs", &[]).ok();
    let commands: [&[&str]; 14] = [
        &["--help"],
        &["--version"],
        &["explain"],
        &["explain", "E_CONFLICT"],
        &["completions", "bash"],
        &["man"],
        &["hash", "site"],
        &["hash", "site", "--json"],
        &["deploys", "--space", "docs"],
        &["status", "site", "--space", "docs", "--json"],
        &["diff", "--space", "docs", "1", "1", "--json"],
        &["sync", "site", "--space", "docs"],
        &["sync", "site", "--space", "docs", "--json"],
        &["rollback", "1", "--space", "docs"],
    ];
    for args in commands {
        // Runs the command with an output that accepts nothing, and returns its error message.
        let said = |output: Stdio| {
            let mut command = world.command(args);
            let ran = Ran::from(command.stdout(output).output().unwrap());
            assert_eq!(ran.code, 1, "{args:?}");
            ran.stderr
        };
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let on_full = said(full.into());
        let is_clap = args[0].starts_with("--");
        assert!(
            is_clap || on_full.contains("No space left"),
            "{args:?}: {on_full}"
        );
        // A reader that closes the pipe is no failure.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let on_closed = said(writer.into());
        assert!(!on_closed.contains("error"), "{args:?}: {on_closed}");
    }
}

#[test]
fn token_file_is_read_from_a_path_or_standard_input() {
    let world = World::new();
    world.write(&[("index.html", "one")]);
    let token = world.token();
    let token = token.trim_start_matches("Bearer ");
    std::fs::write(world.temp.path().join("token"), format!("{token}\n")).unwrap();
    let sync = |more: &[&str]| {
        let args = [&sync_args("docs", &["--data", "none"]), more].concat();
        let mut command = world.command(&args);
        command.env("PMX_TOKEN", "wrong");
        command
    };
    let ran = |mut command: std::process::Command| -> crate::world::Ran {
        command.output().unwrap().into()
    };
    ran(sync(&[])).fails(4, "E_UNAUTHORISED");
    let quiet = ran(sync(&["--token-file", "token"])).ok();
    assert!(!quiet.stderr.contains("warning"), "{quiet:?}");
    let mut piped = sync(&["--token-file", "-"]);
    let file = std::fs::File::open(world.temp.path().join("token")).unwrap();
    piped.stdin(file);
    ran(piped).ok();
    let warned = ran(sync(&["--token", token])).ok();
    assert!(warned.stderr.contains("--token-file"), "{warned:?}");
    ran(sync(&["--token", token, "--token-file", "token"])).fails(2, "--token");
    ran(sync(&["--token-file", "none"])).fails(2, "none");
}

/// Runs `pmx` with the cache of another machine.
fn elsewhere(world: &World, args: &[&str]) -> Ran {
    let mut command = world.command(args);
    command.env("PMX_CACHE", world.temp.path().join("elsewhere"));
    command.output().unwrap().into()
}

fn diff_names_paths_although_another_machine_published(world: World) {
    for number in 0..3_000 {
        world.write(&[(&format!("pages/{number}.html"), &number.to_string())]);
    }
    world.sync("docs", &[]).ok();
    world.write(&[("pages/7.html", "changed"), ("new.html", "new")]);
    std::fs::remove_file(world.site().join("pages/8.html")).unwrap();
    let expected = [
        "+ new.html (3 B)",
        "~ pages/7.html (1 B -> 7 B)",
        "- pages/8.html (1 B)",
    ];
    let ran = elsewhere(&world, &["diff", "site", "--space", "docs"]).ok();
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines, expected, "{ran:?}");
    let ran = elsewhere(&world, &["diff", "site", "--space", "docs", "--json"]).ok();
    assert_eq!(ran.at("/truncated"), false);
    assert_eq!(ran.number("/files/unchanged"), 2_998);
    // The client has no cache, and the site shares nothing with the folder.
    world.write(&[("index.html", "other")]);
    std::fs::remove_dir_all(world.site().join("pages")).unwrap();
    std::fs::remove_file(world.site().join("new.html")).unwrap();
    let ran = elsewhere(&world, &["diff", "site", "--space", "docs", "--json"]).ok();
    assert_eq!(
        (ran.number("/files/removed"), ran.number("/files/added")),
        (3_000, 1)
    );
    assert_eq!(ran.stdout.lines().count(), 3_002);
}

#[test]
fn deploy_url_is_printed() {
    let world = World::new();
    world.write(&[("index.html", "one")]);
    let port = world.server.port;
    let (site, first) = (
        format!("http://docs.localhost:{port}/"),
        format!("http://1--docs.localhost:{port}/"),
    );
    let ran = world.pmx(&sync_args("docs", &[])).ok();
    assert_eq!(ran.stdout, format!("{site}\n"));
    assert!(ran.stderr.contains(&first), "{ran:?}");
    assert_eq!(world.sync("docs", &[]).ok().at("/deploy_url"), first);
    assert_eq!(world.get("1--docs", "/").text(), "one");
    for command in [
        &["deploys", "--space", "docs"][..],
        &["status", "site", "--space", "docs"],
    ] {
        let ran = world.pmx(command).ok();
        assert!(ran.stdout.contains(&first), "{ran:?}");
        let ran = world.pmx(&[command, &["--json"]].concat()).ok();
        assert!(ran.stdout.contains(&first), "{ran:?}");
    }
}

#[test]
fn outdir_is_found_inside_the_named_project() {
    let world = World::new();
    world.write(&[("index.html", "one")]);
    let publish = |args: &[&str]| world.pmx(&[&["publish", "-s", "docs"], args].concat()).ok();
    publish(&[".", "--outdir", "site"]);
    std::fs::create_dir(world.temp.path().join("project")).unwrap();
    std::fs::rename(world.site(), world.temp.path().join("project/dist")).unwrap();
    let ran = publish(&["project", "-o", "dist"]);
    assert!(ran.stderr.contains("unchanged"), "{ran:?}");
    let ran = publish(&["project", "-o", "project/dist"]);
    assert!(ran.stderr.contains("unchanged"), "{ran:?}");
}
