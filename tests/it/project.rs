//! Project files (`pmx.toml`) of a checkout: they decide neither the server that gets a token nor
//! the published folder.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::world::{Ran, World};

/// `pmx` in a checkout with this project file, and with a token in the environment.
fn in_checkout(world: &World, project: &str, args: &[&str]) -> Command {
    let checkout = world.temp.path().join("checkout");
    fs::create_dir_all(checkout.join("out")).expect("a checkout");
    fs::write(checkout.join("out/index.html"), "home").expect("a page");
    fs::write(checkout.join("pmx.toml"), project).expect("a project file");
    let mut command = world.command(args);
    command.current_dir(checkout).env_remove("PMX_SERVER");
    command.env("PMX_TOKEN", "my-token");
    command
}

#[test]
fn project_file_names_no_server_that_commands_connect_to() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let project = format!("server = \"http://{address}\"\nspace = \"docs\"\ndir = \"out\"\n");
    for args in [
        &["sync"][..],
        &["sync", "--dry-run"],
        &["sync", "--watch"],
        &["publish", "out", "--json"],
        &["status"],
        &["diff"],
        &["diff", "1", "2"],
        &["deploys"],
        &["rollback"],
        &["preview", "rm", "x"],
        &["tail"],
    ] {
        let ran: Ran = in_checkout(&world, &project, args)
            .output()
            .expect("pmx runs")
            .into();
        let ran = ran.fails(4, "E_UNTRUSTED");
        let said = [ran.stdout, ran.stderr].concat();
        assert!(said.contains("PMX_SERVER"), "{args:?}: {said}");
        assert!(listener.accept().is_err(), "{args:?} connected");
    }
    // `pmx` does not send the secret of the user's own host either.
    let mut command = in_checkout(&world, &project, &["status"]);
    let ran: Ran = command
        .env_remove("PMX_TOKEN")
        .output()
        .expect("pmx runs")
        .into();
    ran.fails(4, "E_UNTRUSTED");
    assert!(listener.accept().is_err(), "the host's secret was sent");
}

#[test]
fn project_folder_that_leads_outside_is_not_published() {
    let world = World::new();
    let keys = world.temp.path().join(".ssh");
    fs::create_dir(&keys).expect("a folder");
    fs::write(keys.join("notes.txt"), "private").expect("a file");
    let sync = ["sync", "--space", "docs"];
    let server = format!("http://127.0.0.1:{}", world.server.port);
    let run = |project: &str, args: &[&str]| -> Ran {
        let mut command = in_checkout(&world, project, args);
        command.env("PMX_SERVER", &server).env_remove("PMX_TOKEN");
        command.output().expect("pmx runs").into()
    };
    run("dir = \"../.ssh\"", &sync).fails(4, "E_UNTRUSTED");
    let link = world.temp.path().join("checkout/link");
    std::os::unix::fs::symlink(&keys, link).expect("a link");
    run("dir = \"link\"", &sync).fails(4, "E_UNTRUSTED");
    run("dir = \"link\"", &["hash"]).fails(4, "E_UNTRUSTED");
    run("dir = \"out\"", &sync).ok();
    assert_eq!(world.get("docs", "/notes.txt").status, 404);
    assert_eq!(world.get("docs", "/").text(), "home");
}

#[test]
fn faults_of_site_settings_name_the_lines_of_the_project_file() {
    let world = World::new();
    let project = "dir = \"out\"\n\n[site]\nmissing = \"spa\"\n  htlm = \"auto\"\n";
    let run = |project: &str, args: &[&str]| -> Ran {
        let output = in_checkout(&world, project, args).output();
        output.expect("pmx runs").into()
    };
    let ran = run(project, &["rules", "--json"]).fails(2, "E_RULES_INVALID");
    let line = "pmx.toml:5:3: error[rules-setting]: htlm is no setting; did you mean html?";
    assert!(ran.stdout.contains(line), "{ran:?}");
    assert!(!ran.stdout.contains("_site.toml"), "{ran:?}");
    run("dir = \"out\"\n", &["rules", "test", "about", "--json"]).fails(2, "E_USAGE");
}
