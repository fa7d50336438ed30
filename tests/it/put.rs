//! Sites changed at single paths: `pmx put` and `pmx rm` give what a sync of the folder gives, and
//! lose nothing that others publish.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::scripted_servers::ScriptedServer;
use crate::world::{Ran, World, noise, on_both_hosts};

on_both_hosts!(
    put_gives_the_root_of_a_sync,
    put_takes_standard_input,
    put_of_a_big_file_goes_in_parts,
    put_checks_what_a_sync_checks,
    put_checks_rules_with_their_lines,
    put_changes_a_preview,
    put_loses_no_publish_that_came_first,
    put_replaces_no_change_of_its_path,
    put_ends_with_a_conflict_if_others_are_always_first,
    put_meets_a_hold,
    put_of_another_machine_is_not_replaced_unseen,
    rm_gives_the_root_of_a_sync,
    rm_names_what_the_site_lacks;
    kind: manifest_is_fetched_once,
);

/// A site of several manifest nodes.
fn published(world: &World) {
    for number in 0..400 {
        let page = format!("<body>{number}</body>");
        world.write(&[(&format!("docs/{number}.html"), &page)]);
    }
    world.write(&[("index.html", "<body>home</body>"), ("a/b.txt", "deep")]);
    world.sync("docs", &[]).ok();
}

/// `pmx put` with this content, on a machine of this name.
fn put_on(world: &World, machine: &str, path: &str, content: &[u8], more: &[&str]) -> Ran {
    fs::write(world.temp.path().join("content"), content).unwrap();
    let args = [&["put", path, "content", "--space", "docs", "--json"], more];
    run_on(world, machine, &args.concat())
}

fn put(world: &World, path: &str, content: &str, more: &[&str]) -> Ran {
    put_on(world, "cache", path, content.as_bytes(), more)
}

fn rm(world: &World, paths: &[&str]) -> Ran {
    let args = [&["rm", "--space", "docs", "--json"], paths].concat();
    run_on(world, "elsewhere", &args)
}

fn run_on(world: &World, machine: &str, args: &[&str]) -> Ran {
    let mut command = world.command(args);
    command.env("PMX_CACHE", world.temp.path().join(machine));
    command.output().expect("pmx runs").into()
}

/// Fails unless the deploy has the root of the folder, so that a sync finds nothing to change.
fn is_the_folder(world: &World, ran: &Ran) {
    let hashed = world.pmx(&["hash", "site", "--json"]).ok();
    assert_eq!(hashed.at("/root"), ran.at("/root"), "{ran:?}");
    let expect = ran.number("/deploy").to_string();
    let synced = world.sync("docs", &["--expect", &expect]).ok();
    assert_eq!(synced.at("/outcome"), "unchanged", "{synced:?}");
    assert_eq!(synced.at("/deploy"), ran.at("/deploy"));
}

fn active(world: &World) -> u64 {
    let listed = world.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    listed.number("/active")
}

fn put_gives_the_root_of_a_sync(world: World) {
    published(&world);
    for (machine, path, content, counts) in [
        ("cache", "new/page.html", "<body>new</body>", [1, 0, 0]),
        (
            "elsewhere",
            "docs/7.html",
            "<body>changed</body>",
            [0, 1, 0],
        ),
        (
            "elsewhere",
            "/docs/8.html",
            "<body>changed</body>",
            [0, 1, 0],
        ),
        // The base has the content under another path.
        ("fresh", "copy.txt", "deep", [1, 0, 0]),
        ("cache", ".well-known/x", "dotted", [1, 0, 0]),
        ("cache", "empty", "", [1, 0, 0]),
    ] {
        let before = active(&world);
        let ran = put_on(&world, machine, path, content.as_bytes(), &[]).ok();
        assert_eq!(ran.at("/outcome"), "published", "{ran:?}");
        let files = ["/files/added", "/files/modified", "/files/removed"];
        assert_eq!(files.map(|name| ran.number(name)), counts, "{path}");
        assert_eq!(ran.number("/deploy"), before + 1);
        world.write(&[(path.trim_start_matches('/'), content)]);
        is_the_folder(&world, &ran);
        let again = put_on(&world, machine, path, content.as_bytes(), &[]).ok();
        assert_eq!(again.at("/outcome"), "unchanged", "{again:?}");
        assert_eq!(again.at("/deploy"), ran.at("/deploy"));
    }
    let served = world.get("docs", "/new/page");
    assert_eq!(served.text(), "<body>new</body>");
    assert_eq!(
        served.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let planned = put(&world, "new/page.html", "<body>newer</body>", &["-n"]).ok();
    assert_eq!(planned.at("/outcome"), "planned", "{planned:?}");
    assert_eq!(world.get("docs", "/new/page").text(), "<body>new</body>");
    let args = ["put", "a/b.txt", "content", "--space", "docs"];
    fs::write(world.temp.path().join("content"), "deep").unwrap();
    let ran = world.pmx(&args).ok();
    assert!(ran.stderr.contains("unchanged: deploy"), "{ran:?}");
    let shown = world.pmx(&["deploys", "--space", "docs"]).ok();
    assert!(shown.stdout.contains("puts copy.txt"), "{shown:?}");
}

fn put_takes_standard_input(world: World) {
    published(&world);
    let mut command = world.command(&["put", "a.txt", "-", "--space", "docs", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap()).ok();
    world.write(&[("a.txt", "piped")]);
    is_the_folder(&world, &ran);
    assert_eq!(world.get("docs", "/a.txt").text(), "piped");
    let both = ["put", "a.txt", "-", "--token-file", "-", "--space", "docs"];
    world.pmx(&both).fails(2, "E_USAGE");
}

fn put_of_a_big_file_goes_in_parts(world: World) {
    published(&world);
    let mut big = noise(3, 9 * 1024 * 1024);
    for machine in ["cache", "elsewhere"] {
        big[5_000_000] ^= 1;
        let ran = put_on(&world, machine, "film.bin", &big, &[]).ok();
        assert_eq!(ran.at("/outcome"), "published", "{ran:?}");
        world.write_bytes("film.bin", &big);
        is_the_folder(&world, &ran);
        let args = ["get", "film.bin", "-o", "copy", "--space", "docs"];
        world.pmx(&args).ok();
        let copy = fs::read(world.temp.path().join("copy")).unwrap();
        assert!(copy == big, "the file is whole");
    }
}

fn put_checks_what_a_sync_checks(world: World) {
    published(&world);
    let key = "-----BEGIN PRIVATE KEY-----\nMII\n";
    for (path, content, more, exit, code) in [
        ("a/../b", "x", &[][..], 3, "E_PATH_INVALID"),
        ("index.html/x", "x", &[], 3, "E_PATH_DUPLICATE"),
        ("docs", "x", &[], 3, "E_PATH_DUPLICATE"),
        ("DOCS/7.html", "x", &["--strict"], 3, "E_PATH_COLLISION"),
        ("Index.html", "x", &["--strict"], 3, "E_PATH_COLLISION"),
        ("key.txt", key, &[], 3, "E_SECRET"),
        ("a/pmx.toml", "x", &[], 2, "E_USAGE"),
        (".pmxignore", "x", &[], 2, "E_USAGE"),
    ] {
        put(&world, path, content, more).fails(exit, code);
    }
    let run = |file: &str| world.pmx(&["put", "x", file, "--space", "docs"]);
    run("missing").fails(3, "E_UNREADABLE");
    run("site").fails(2, "E_USAGE");
    for line in [&["put", "x"][..], &["rm"]] {
        assert_eq!(world.pmx(line).code, 2, "{line:?}");
    }
    let args = ["put", "x", "content", "--space", "none"];
    world.pmx(&args).fails(1, "E_NOT_FOUND");
    assert_eq!(active(&world), 1, "nothing was published");
    // As in a sync, this is a warning by default, and a choice.
    let ran = put(&world, "Index.html", "x", &[]).ok();
    assert!(ran.stdout.contains("Index.html and index.html"), "{ran:?}");
    let ran = put(&world, "INDEX.html", "x", &["--allow-collisions"]).ok();
    assert!(!ran.stdout.contains("warning"), "{ran:?}");
    put(&world, "key.txt", key, &["--allow-secrets"]).ok();
    put(&world, "\u{e9}.txt", "composed", &[]).ok();
    put(&world, "e\u{301}.txt", "x", &["--strict"]).fails(3, "E_PATH_COLLISION");
}

fn put_checks_rules_with_their_lines(world: World) {
    published(&world);
    let bad = "# rules\n/a /b 999\n";
    let ran = put(&world, "_redirects", bad, &[]).fails(2, "E_RULES_INVALID");
    assert!(ran.stdout.contains("_redirects:2"), "{ran:?}");
    assert_eq!(active(&world), 1, "nothing was published");
    // A loop is an error of the rules together.
    let ran = put(&world, "_redirects", "/a /a 301\n", &[]).fails(2, "E_RULES_INVALID");
    assert!(ran.stdout.contains("_redirects:1"), "{ran:?}");
    put(&world, "_redirects", "/a /docs/7 301\n", &[]).ok();
    assert_eq!(world.get("docs", "/a").header("location"), Some("/docs/7"));
    let ran = put(&world, "_headers", "no path\n", &[]).fails(2, "E_RULES_INVALID");
    assert!(ran.stdout.contains("_headers:1"), "{ran:?}");
    rm(&world, &["_redirects"]).ok();
    assert_eq!(world.get("docs", "/a").status, 404);
}

fn put_changes_a_preview(world: World) {
    published(&world);
    world.write(&[("index.html", "<body>next</body>")]);
    world.sync("docs", &["--preview", "next"]).ok();
    let preview = ["--preview", "next"];
    let ran = put(&world, "a/b.txt", "previewed", &preview).ok();
    assert_eq!(ran.number("/deploy"), 3, "{ran:?}");
    world.write(&[("a/b.txt", "previewed")]);
    let hashed = world.pmx(&["hash", "site", "--json"]).ok();
    assert_eq!(hashed.at("/root"), ran.at("/root"));
    let synced = world.sync("docs", &preview).ok();
    assert_eq!(synced.at("/outcome"), "unchanged", "{synced:?}");
    assert_eq!(world.get("next--docs", "/a/b.txt").text(), "previewed");
    let home = world.get("next--docs", "/").text();
    assert!(home.contains("<body>next</body>"), "{home}");
    assert_eq!(world.get("docs", "/a/b.txt").text(), "deep");
    assert_eq!(active(&world), 1);
    rm(&world, &["docs/7.html", "--preview", "next"]).ok();
    assert_eq!(world.get("next--docs", "/docs/7").status, 404);
    assert_eq!(world.get("docs", "/docs/7").status, 200);
    put(&world, "x", "x", &["--preview", "gone"]).fails(1, "E_NOT_FOUND");
}

/// A gate before a server: each request to publish waits there until the story lets it pass.
struct Gate {
    server: ScriptedServer,
    arrived: Receiver<()>,
    pass: Sender<()>,
}

impl Gate {
    fn before(port: u16) -> Self {
        let (arrive, arrived) = channel();
        let (pass, passed) = channel::<()>();
        let (arrive, passed) = (Mutex::new(arrive), Mutex::new(passed));
        let server = ScriptedServer::handling(move |mut client| {
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let mut piece = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = client.read(&mut piece) {
                if piece.starts_with(b"POST /api/publish/") {
                    // A story that waits no more lets everything pass.
                    let _waits = arrive.lock().unwrap().send(());
                    let _passes = passed.lock().unwrap().recv();
                }
                if server.write_all(&piece[..read]).is_err() {
                    return;
                }
            }
        });
        Self {
            server,
            arrived,
            pass,
        }
    }

    /// Starts `pmx put` behind the gate.
    fn put(&self, world: &World, path: &str) -> Child {
        fs::write(world.temp.path().join("content"), "put").unwrap();
        self.start(world, &["put", path, "content"])
    }

    fn start(&self, world: &World, args: &[&str]) -> Child {
        let url = self.server.url("http", "127.0.0.1");
        let args = [args, &["--space", "docs", "--server", &url]].concat();
        let mut command = world.command(&args);
        let token = world.token();
        command.env("PMX_TOKEN", token.trim_start_matches("Bearer "));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Waits for a request to publish.
    fn wait(&self) {
        let arrived = self.arrived.recv_timeout(Duration::from_mins(1));
        arrived.expect("a request to publish");
    }
}

fn put_loses_no_publish_that_came_first(world: World) {
    published(&world);
    let gate = Gate::before(world.server.port);
    let child = gate.put(&world, "new.txt");
    gate.wait();
    world.write(&[("docs/7.html", "<body>first</body>")]);
    world.sync("docs", &[]).ok();
    drop(gate.pass);
    Ran::from(child.wait_with_output().unwrap()).ok();
    assert_eq!(active(&world), 3);
    assert_eq!(world.get("docs", "/new.txt").text(), "put");
    assert_eq!(world.get("docs", "/docs/7").text(), "<body>first</body>");
}

fn put_replaces_no_change_of_its_path(world: World) {
    published(&world);
    for (content, args, code) in [
        ("theirs", &["put", "a/b.txt", "content"][..], 6),
        ("newer", &["rm", "a/b.txt", "docs/7.html"], 6),
        // What the command wants is there already.
        ("put", &["put", "a/b.txt", "content"], 0),
    ] {
        let gate = Gate::before(world.server.port);
        fs::write(world.temp.path().join("content"), "put").unwrap();
        let child = gate.start(&world, args);
        gate.wait();
        world.write(&[("a/b.txt", content)]);
        let synced = world.sync("docs", &[]).ok();
        drop(gate.pass);
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ran.code, code, "{ran:?}");
        if code != 0 {
            let ran = ran.fails(6, "E_CONFLICT");
            let message = "another publish changed \"a/b.txt\"";
            assert!(ran.stderr.contains(message), "{ran:?}");
            assert!(!ran.stderr.contains("--force"), "{ran:?}");
        }
        assert_eq!(active(&world), synced.number("/deploy"));
        assert_eq!(world.get("docs", "/a/b.txt").text(), content);
    }
    let gate = Gate::before(world.server.port);
    let child = gate.start(&world, &["rm", "a/b.txt", "docs/7.html"]);
    gate.wait();
    rm(&world, &["a/b.txt"]).ok();
    drop(gate.pass);
    Ran::from(child.wait_with_output().unwrap()).ok();
    assert_eq!(world.get("docs", "/docs/7").status, 404);
}

fn put_ends_with_a_conflict_if_others_are_always_first(world: World) {
    published(&world);
    let gate = Gate::before(world.server.port);
    let child = gate.put(&world, "new.txt");
    for attempt in 0..5 {
        gate.wait();
        world.write(&[("docs/7.html", &format!("<body>{attempt} first</body>"))]);
        world.sync("docs", &[]).ok();
        gate.pass.send(()).unwrap();
    }
    let ran = Ran::from(child.wait_with_output().unwrap());
    let ran = ran.fails(6, "E_CONFLICT");
    assert!(ran.stderr.contains("deploy 6 is active"), "{ran:?}");
    assert!(ran.stderr.contains("`--expect 6` changes it"), "{ran:?}");
    assert!(!ran.stderr.contains("--force"), "{ran:?}");
    assert_eq!(active(&world), 6);
    assert_eq!(world.get("docs", "/docs/7").text(), "<body>4 first</body>");
}

fn put_meets_a_hold(world: World) {
    published(&world);
    world.write(&[("a/b.txt", "second")]);
    world.sync("docs", &[]).ok();
    world.pmx(&["rollback", "--space", "docs"]).ok();
    let ran = put(&world, "new.txt", "x", &[]).fails(6, "E_HELD");
    assert!(ran.stdout.contains("pmx resume"), "{ran:?}");
    assert!(ran.stdout.contains("--expect 3"), "{ran:?}");
    assert!(!ran.stdout.contains("--force"), "{ran:?}");
    rm(&world, &["a/b.txt"]).fails(6, "E_HELD");
    put(&world, "new.txt", "x", &["--expect", "2"]).fails(6, "E_CONFLICT");
    assert_eq!(active(&world), 3);
    put(&world, "new.txt", "x", &["--expect", "3"]).ok();
    assert_eq!(world.get("docs", "/new.txt").text(), "x");
    assert_eq!(world.get("docs", "/a/b.txt").text(), "deep");
}

fn put_of_another_machine_is_not_replaced_unseen(world: World) {
    published(&world);
    put_on(&world, "elsewhere", "theirs.txt", b"theirs", &[]).ok();
    put(&world, "mine.txt", "mine", &[]).ok();
    // This machine has not seen the other's file, and its folder does not have it.
    world.sync("docs", &[]).fails(6, "E_CONFLICT");
    world.sync("docs", &["--force"]).ok();
    put(&world, "mine.txt", "mine", &[]).ok();
    let ran = world.sync("docs", &[]).ok();
    assert_eq!(ran.number("/files/removed"), 1, "its own file: {ran:?}");
}

fn rm_gives_the_root_of_a_sync(world: World) {
    published(&world);
    let ran = rm(&world, &["docs/7.html", "/a/b.txt", "docs/7.html"]).ok();
    assert_eq!(ran.number("/files/removed"), 2, "{ran:?}");
    fs::remove_file(world.site().join("docs/7.html")).unwrap();
    fs::remove_dir_all(world.site().join("a")).unwrap();
    is_the_folder(&world, &ran);
    assert_eq!(world.get("docs", "/docs/7").status, 404);
    assert_eq!(world.get("docs", "/docs/8").text(), "<body>8</body>");
    let shown = world.pmx(&["deploys", "--space", "docs"]).ok();
    assert!(shown.stdout.contains("removes 2 files"), "{shown:?}");
    // The last file.
    fs::remove_dir_all(world.site().join("docs")).unwrap();
    let ran = world.sync("docs", &[]).ok();
    assert_eq!(ran.number("/files/total"), 1, "{ran:?}");
    rm(&world, &["index.html"]).fails(2, "E_EMPTY_SITE");
    let ran = rm(&world, &["index.html", "--allow-empty"]).ok();
    assert_eq!(ran.number("/files/total"), 0, "{ran:?}");
    let ran = put(&world, "again.txt", "x", &[]).ok();
    assert_eq!(ran.number("/files/total"), 1, "{ran:?}");
}

fn manifest_is_fetched_once(world: World) {
    published(&world);
    for (machine, requests) in [("cache", 2), ("elsewhere", 4), ("elsewhere", 2)] {
        let content = format!("{machine} {requests}");
        let ran = put_on(&world, machine, "docs/7.html", content.as_bytes(), &[]).ok();
        // The deploy, with its root and the nodes beneath if they are not known, and the publish.
        assert_eq!(ran.number("/requests"), requests, "{machine}: {ran:?}");
    }
    world.write(&[("docs/7.html", "elsewhere 2")]);
    let ran = world.pmx(&["hash", "site", "--json"]).ok();
    let listed = world.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    assert_eq!(ran.at("/root"), listed.at("/deploys/0/root"));
}

fn rm_names_what_the_site_lacks(world: World) {
    published(&world);
    let said = |ran: &Ran| format!("{} {}", ran.at("/message"), ran.at("/hint"));
    let ran = rm(&world, &["docs/8.html", "docs/7.htm"]).fails(1, "E_NOT_FOUND");
    let text = said(&ran);
    assert!(
        text.contains("docs/7.htm") && text.contains("docs/7.html"),
        "{ran:?}"
    );
    let ran = rm(&world, &["docs"]).fails(1, "E_NOT_FOUND");
    assert!(said(&ran).contains("a folder with 400 files"), "{ran:?}");
    let ran = rm(&world, &["nothing/like/it"]).fails(1, "E_NOT_FOUND");
    assert!(said(&ran).contains("pmx pull"), "{ran:?}");
    rm(&world, &["a//b"]).fails(3, "E_PATH_INVALID");
    assert_eq!(active(&world), 1, "nothing was removed");
}
