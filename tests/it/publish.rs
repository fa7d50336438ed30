//! Publishing through the real CLI, on every host.

use std::fs;

use crate::world::{Running, World, eventually, noise, on_both_hosts, sync_args};

on_both_hosts! {
    publish_update_and_rollback_show_the_right_page,
    unchanged_publish_is_one_small_request_and_exits_9_if_asked,
    changed_page_costs_its_own_bytes_in_a_large_folder,
    dry_run_changes_nothing,
    moves_and_copies_upload_no_bytes,
    older_build_never_replaces_a_newer_one,
    order_is_sent_automatically_under_ci,
    expect_fails_unless_it_names_the_active_deploy,
    second_machine_without_state_publishes,
    empty_site_and_max_delete_guards_refuse,
    file_of_many_parts_is_published_and_served_by_ranges,
    spaces_are_isolated,
    failures_have_their_exit_codes,
    restarted_server_serves_what_was_acknowledged,
}

fn page(title: &str) -> String {
    let words = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    format!("<!doctype html><title>{title}</title><h1>{title}</h1><p>{words}</p>")
}

fn publish_update_and_rollback_show_the_right_page(world: World) {
    world.write(&[
        ("index.html", &page("one")),
        ("about.html", &page("about")),
        ("a.css", "p{}"),
    ]);

    let first = world.pmx(&sync_args("docs", &["-m", "first"])).ok();
    let url = format!("http://docs.localhost:{}/", world.server.port);
    assert_eq!(first.stdout, format!("{url}\n"), "stdout is the URL, alone");
    let served = world.get("docs", "/");
    assert_eq!(served.text(), page("one"));
    assert_eq!(served.header("x-pmx-deploy"), Some("1"));

    world.write(&[("index.html", &page("two"))]);
    let second = world.sync("docs", &["-m", "second"]).ok();
    assert_eq!(second.at("/outcome"), "published");
    assert_eq!(second.number("/deploy"), 2);
    assert_eq!(second.number("/files/modified"), 1);
    assert_eq!(second.number("/files/unchanged"), 2);
    assert_eq!(
        second.number("/requests"),
        1,
        "a small change is one request"
    );
    assert_eq!(world.get("docs", "/").text(), page("two"));

    let rollback = world.pmx(&["rollback", "--space", "docs", "--json"]).ok();
    assert_eq!(rollback.number("/deploy"), 3, "{rollback:?}");
    let served = world.get("docs", "/");
    assert_eq!(served.text(), page("one"));
    assert_eq!(served.header("x-pmx-deploy"), Some("3"));
    assert_eq!(world.get("1--docs", "/").text(), page("one"));
    assert_eq!(world.get("2--docs", "/").text(), page("two"));

    let history = world.pmx(&["deploys", "--space", "docs"]).ok();
    for line in ["first", "second"] {
        assert!(history.stdout.contains(line), "{history:?}");
    }
    let diff = world.pmx(&["diff", "1", "2", "--space", "docs"]).ok();
    assert!(
        diff.stdout.contains("index.html") && !diff.stdout.contains("about"),
        "{diff:?}"
    );
}

fn unchanged_publish_is_one_small_request_and_exits_9_if_asked(world: World) {
    for number in 0..300 {
        world.write(&[(&format!("p/{number}.html"), &page(&number.to_string()))]);
    }
    world.sync("docs", &[]).ok();
    let again = world.sync("docs", &[]).ok();
    assert_eq!(again.at("/outcome"), "unchanged");
    assert_eq!(again.number("/requests"), 1);
    let traffic = again.number("/bytes/sent") + again.number("/bytes/received");
    assert!(traffic < 1000, "{traffic} bytes for nothing");
    assert_eq!(world.sync("docs", &["--exit-code"]).code, 9);
    assert_eq!(again.number("/deploy"), 1);
}

fn changed_page_costs_its_own_bytes_in_a_large_folder(world: World) {
    for number in 0..2000 {
        world.write(&[(&format!("flat/{number}.html"), &page(&number.to_string()))]);
    }
    world.sync("docs", &[]).ok();
    let changed = page("changed");
    world.write(&[("flat/77.html", &changed)]);
    let ran = world.sync("docs", &[]).ok();
    let mut frame = vec![0; zstd_safe::compress_bound(changed.len())];
    let own = zstd_safe::compress(&mut frame[..], changed.as_bytes(), 3).unwrap() as u64;
    assert!(ran.number("/bytes/sent") <= own + 1000, "{ran:?}");
    assert_eq!(ran.number("/requests"), 1);
}

fn dry_run_changes_nothing(world: World) {
    world.write(&[("index.html", &page("one"))]);
    let dry = world.sync("docs", &["--dry-run"]).ok();
    assert_eq!(dry.at("/outcome"), "planned");
    assert_eq!(world.get("docs", "/").status, 404);
    world.sync("docs", &[]).ok();
    world.write(&[("index.html", &page("two")), ("new.html", &page("new"))]);
    let dry = world.sync("docs", &["--dry-run"]).ok();
    assert_eq!(
        (dry.number("/files/added"), dry.number("/files/modified")),
        (1, 1)
    );
    assert_eq!(world.get("docs", "/").text(), page("one"));
    assert_eq!(world.get("docs", "/new").status, 404);
}

fn moves_and_copies_upload_no_bytes(world: World) {
    for number in 0..200 {
        world.write(&[(&format!("v1/{number}.html"), &page(&number.to_string()))]);
    }
    world.sync("docs", &[]).ok();
    let (old, new) = (world.site().join("v1"), world.site().join("v2"));
    fs::rename(&old, &new).unwrap();
    let moved = world.sync("docs", &[]).ok();
    assert_eq!(moved.number("/bytes/new"), 0, "{moved:?}");
    assert_eq!(
        (moved.number("/files/added"), moved.number("/files/removed")),
        (200, 200)
    );
    assert_eq!(world.get("docs", "/v2/7").text(), page("7"));
    assert_eq!(world.get("docs", "/v1/7").status, 404);
}

fn older_build_never_replaces_a_newer_one(world: World) {
    world.write(&[("index.html", &page("newer"))]);
    world.sync("docs", &["--order", "run:20"]).ok();
    world.write(&[("index.html", &page("older"))]);
    let refused = world
        .sync("docs", &["--order", "run:19"])
        .fails(6, "E_OLDER_BUILD");
    let message = refused.at("/message").to_string();
    assert!(
        message.contains("19") && message.contains("20"),
        "both builds are named: {message}"
    );
    assert_eq!(world.get("docs", "/").text(), page("newer"));
    // Builds of another sequence are not compared, and `none` opts out.
    world.sync("docs", &["--order", "none"]).ok();
    assert_eq!(world.get("docs", "/").text(), page("older"));
}

fn order_is_sent_automatically_under_ci(world: World) {
    let publish = |run: &str, content: &str| {
        world.write(&[("index.html", content)]);
        let mut command = world.command(&sync_args("docs", &["--json"]));
        command
            .env("CI", "true")
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_RUN_NUMBER", run);
        crate::world::Ran::from(command.output().unwrap())
    };
    publish("7", "seven").ok();
    publish("6", "six").fails(6, "E_OLDER_BUILD");
    publish("8", "eight").ok();
}

fn expect_fails_unless_it_names_the_active_deploy(world: World) {
    world.write(&[("index.html", "1")]);
    world
        .sync("docs", &["--expect", "4"])
        .fails(6, "E_CONFLICT");
    world.sync("docs", &["--expect", "0"]).ok();
    world.write(&[("index.html", "2")]);
    world
        .sync("docs", &["--expect", "0"])
        .fails(6, "E_CONFLICT");
    world.sync("docs", &["--expect", "1"]).ok();
}

fn second_machine_without_state_publishes(world: World) {
    for number in 0..2000 {
        world.write(&[(&format!("p/{number}.html"), &page(&number.to_string()))]);
    }
    world.sync("docs", &[]).ok();
    fs::remove_dir_all(world.temp.path().join("cache")).unwrap();
    let unchanged = world.sync("docs", &[]).ok();
    assert_eq!(unchanged.at("/outcome"), "unchanged");
    fs::remove_dir_all(world.temp.path().join("cache")).unwrap();
    world.write(&[("p/7.html", "changed elsewhere")]);
    let ran = world.sync("docs", &[]).ok();
    assert_eq!(ran.number("/files/modified"), 1);
    assert!(
        ran.number("/bytes/sent") < 40_000,
        "only subtrees that differ travel: {ran:?}"
    );
    assert_eq!(world.get("docs", "/p/7").text(), "changed elsewhere");
}

fn empty_site_and_max_delete_guards_refuse(world: World) {
    world.sync("docs", &[]).fails(2, "E_EMPTY_SITE");
    for number in 0..20 {
        world.write(&[(&format!("{number}.html"), "x")]);
    }
    world.sync("docs", &[]).ok();
    for number in 0..15 {
        fs::remove_file(world.site().join(format!("{number}.html"))).unwrap();
    }
    world
        .sync("docs", &["--max-delete", "50%"])
        .fails(2, "E_MAX_DELETE");
    world
        .sync("docs", &["--max-delete", "10"])
        .fails(2, "E_MAX_DELETE");
    assert_eq!(world.get("docs", "/3").status, 200);
    world.sync("docs", &["--max-delete", "15"]).ok();
    assert_eq!(world.get("docs", "/3").status, 404);
    fs::remove_dir_all(world.site()).unwrap();
    world.sync("docs", &[]).fails(3, "E_SOURCE_MISSING");
    fs::create_dir(world.site()).unwrap();
    world.sync("docs", &["--allow-empty"]).ok();
}

fn file_of_many_parts_is_published_and_served_by_ranges(world: World) {
    let big = noise(0, 22_000_000);
    world.write_bytes("video.mp4", &big);
    let lines: String = (0..900_000)
        .map(|n| format!("{{\"row\": {n}, \"name\": \"x\"}}\n"))
        .collect();
    world.write(&[("table.json", &lines)]);
    world.write(&[("index.html", "x")]);
    world.sync("docs", &[]).ok();
    for (path, big) in [("/video.mp4", &big[..]), ("/table.json", lines.as_bytes())] {
        let whole = world.get("docs", path);
        assert!(
            whole.status == 200 && whole.body == big,
            "{path} is not what was published"
        );
        let span = 8 * 1024 * 1024 - 10..8 * 1024 * 1024 + 10;
        let range = format!("bytes={}-{}", span.start, span.end - 1);
        let part = world.get_with("docs", path, &[("Range", &range)]);
        assert_eq!(
            (part.status, &part.body[..]),
            (206, &big[span.clone()]),
            "{path}"
        );
        let last = world.get_with("docs", path, &[("Range", "bytes=-5")]);
        assert_eq!(
            (last.status, &last.body[..]),
            (206, &big[big.len() - 5..]),
            "{path}"
        );
    }
    let taken = world.get_with("docs", "/table.json", &[("Accept-Encoding", "zstd")]);
    assert_eq!(taken.header("content-encoding"), Some("zstd"));
    let raw = zstd_safe_decode_all(&taken.body, lines.len());
    assert!(
        raw == lines.as_bytes(),
        "the parts together are not one zstd stream"
    );
    // One byte changes, and the client sends only its part.
    let mut changed = big.clone();
    changed[9_000_000] ^= 1;
    world.write_bytes("video.mp4", &changed);
    let ran = world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/video.mp4").body, changed);
    assert_eq!(ran.number("/files/modified"), 1);
    assert!(ran.number("/bytes/sent") < 100_000, "{ran:?}");
}

fn zstd_safe_decode_all(stream: &[u8], expected: usize) -> Vec<u8> {
    let mut context = zstd_safe::DCtx::create();
    let mut out = Vec::with_capacity(expected);
    let mut input = zstd_safe::InBuffer::around(stream);
    let mut chunk = vec![0u8; 1 << 20];
    while input.pos < stream.len() {
        let mut output = zstd_safe::OutBuffer::around(&mut chunk[..]);
        context
            .decompress_stream(&mut output, &mut input)
            .expect("zstd");
        out.extend_from_slice(output.as_slice());
    }
    loop {
        let mut output = zstd_safe::OutBuffer::around(&mut chunk[..]);
        let rest = context
            .decompress_stream(&mut output, &mut input)
            .expect("zstd");
        let written = output.as_slice().len();
        out.extend_from_slice(output.as_slice());
        if written == 0 || rest == 0 {
            return out;
        }
    }
}

fn spaces_are_isolated(world: World) {
    world.write(&[("index.html", "of a"), ("only-a.html", "secret")]);
    world.sync("a", &[]).ok();
    world.write(&[("index.html", "of b")]);
    fs::remove_file(world.site().join("only-a.html")).unwrap();
    world.sync("b", &[]).ok();
    assert_eq!(world.get("a", "/").text(), "of a");
    assert_eq!(world.get("b", "/").text(), "of b");
    assert_eq!(world.get("b", "/only-a").status, 404);
    let history = world.pmx(&["deploys", "--space", "b", "--json"]).ok();
    let deploys = history.at("/deploys").as_array().unwrap().len();
    assert_eq!(deploys, 1, "{history:?}");
    // The client uploads the same content to each space: what a space lacks reveals nothing of
    // another.
    world.write(&[("only-a.html", "secret")]);
    let ran = world.sync("b", &[]).ok();
    assert_eq!(ran.number("/bytes/new"), 6, "{ran:?}");
}

fn failures_have_their_exit_codes(mut world: World) {
    world.write(&[("index.html", "x")]);
    let mut wrong = world.command(&sync_args("docs", &["--json"]));
    let ran = crate::world::Ran::from(wrong.env("PMX_TOKEN", "wrong").output().unwrap());
    ran.fails(4, "E_UNAUTHORISED");
    world
        .pmx(&sync_args("Bad_Name", &[]))
        .fails(2, "E_NAME_INVALID");
    world
        .pmx(&["rollback", "7", "--space", "docs"])
        .fails(1, "E_NOT_FOUND");
    assert_eq!(world.pmx(&["no-such-command"]).code, 2);
    world.server.kill();
    world.sync("docs", &[]).fails(5, "E_NETWORK");
}

fn restarted_server_serves_what_was_acknowledged(mut world: World) {
    world.write(&[("index.html", "kept")]);
    world.sync("docs", &[]).ok();
    world.server.kill();
    world.restart();
    assert_eq!(world.get("docs", "/").text(), "kept");
    let again = world.sync("docs", &[]).ok();
    assert_eq!(again.at("/outcome"), "unchanged");
}

#[test]
fn dev_publishes_and_follows_the_folder() {
    let world = World::new();
    world.write(&[("index.html", "before")]);
    let listen = ["--data", "dev-data", "--listen", "127.0.0.1:0"];
    let dev = Running::start(world.command(&[&["dev", "site"], &listen[..]].concat()));
    let site = dev.address.trim_start_matches("http://");
    let site = site.split('.').next().unwrap();
    let shows = |text: &str| {
        let page = dev.get(site, "/");
        page.is_some_and(|page| page.text().starts_with(text))
    };
    eventually("dev serves the folder", || shows("before"));
    world.write(&[("index.html", "after")]);
    eventually("dev serves the change", || shows("after"));
}

#[test]
fn explain_completions_and_man_need_nothing() {
    let world = World::new();
    let explained = world.pmx(&["explain", "E_OLDER_BUILD"]).ok();
    assert!(explained.stdout.contains("newer build"), "{explained:?}");
    assert!(
        world
            .pmx(&["completions", "bash"])
            .ok()
            .stdout
            .contains("_pmx")
    );
    assert!(world.pmx(&["man"]).ok().stdout.contains(".TH"));
}
