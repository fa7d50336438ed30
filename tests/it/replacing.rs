//! Replacement rules of a publish: build order, holds, deploys of other machines, removal bounds,
//! and clients without a cache.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use pmx_core::codec::Encoder;
use pmx_core::id::NodeId;
use pmx_core::name::SpaceName;
use pmx_sync::wire::{BeginHead, CommitPreconditions, DeployMeta, Envelope, Replace, VERSION};
use serde_json::{Value, json};

use crate::world::{Ran, World, on_both_hosts, sync_args};

on_both_hosts! {
    unchanged_publish_records_its_order,
    rollback_holds_until_it_is_named_lifted_or_forced,
    hold_withstands_a_client_of_before,
    publish_does_not_replace_a_deploy_that_it_never_saw,
    order_replaces_older_builds_of_its_own_sequence_only,
    max_delete_holds_against_the_deploy_that_is_replaced,
    publish_without_a_cache_is_one_small_request,
    numbers_that_are_not_exact_are_refused,
}

/// `pmx sync` on another machine: with a cache folder of its own.
fn on(world: &World, machine: &str, more: &[&str]) -> Ran {
    ci(world, machine, more, &[])
}

/// The same in the environment of a CI system.
fn ci(world: &World, machine: &str, more: &[&str], env: &[(&str, &str)]) -> Ran {
    let args = [&sync_args("docs", &["--json"]), more].concat();
    let mut command = world.command(&args);
    command.env("PMX_CACHE", world.temp.path().join(machine));
    command.envs(env.iter().copied());
    command.output().expect("pmx runs").into()
}

/// Fails unless the message and the hint of a refusal contain these parts.
fn names(refused: &Ran, parts: &[&str]) {
    let said = format!("{} {}", refused.at("/message"), refused.at("/hint"));
    for part in parts {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

fn write(world: &World, content: &str) {
    world.write(&[("index.html", content)]);
}

fn shown(world: &World) -> String {
    world.get("docs", "/").text()
}

fn unchanged_publish_records_its_order(world: World) {
    for more in [&[][..], &["--preview", "pr-7"]] {
        let sync = |content: &str, order: &str| {
            write(&world, content);
            world.sync("docs", &[&["--order", order], more].concat())
        };
        sync("a", "7").ok();
        assert_eq!(sync("a", "9").ok().at("/outcome"), "unchanged");
        sync("b", "8").fails(6, "E_OLDER_BUILD");
        sync("a", "8").fails(6, "E_OLDER_BUILD");
        assert_eq!(sync("a", "9").ok().at("/outcome"), "unchanged");
        sync("b", "10").ok();
    }
    // By a machine without a cache, in one request.
    let late = on(&world, "fresh", &["--order", "12"]).ok();
    assert_eq!(
        (late.at("/outcome"), late.number("/requests")),
        (json!("unchanged"), 1)
    );
    write(&world, "c");
    let older = on(&world, "another", &["--order", "11", "--older", "ok"]).ok();
    assert_eq!(older.at("/outcome"), "superseded");
    assert_eq!(older.number("/deploy"), 2);
    assert_eq!(shown(&world), "b");
}

fn hold(world: &World) -> Value {
    let ran = world.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    ran.last()["hold"]["deploy"].clone()
}

fn rollback_holds_until_it_is_named_lifted_or_forced(world: World) {
    let back = |to: &str| {
        let ran = world.pmx(&["rollback", to, "--space", "docs", "--json"]);
        ran.ok().number("/deploy")
    };
    write(&world, "1");
    world.sync("docs", &[]).ok();
    write(&world, "2");
    world.sync("docs", &["--order", "5"]).ok();
    on(&world, "ci", &[]).ok();
    assert_eq!(back("1"), 3);
    assert_eq!(hold(&world), 3);
    let status = world.pmx(&["status", "site", "--space", "docs"]).ok();
    assert!(status.stdout.contains("held"), "{status:?}");

    // No publish to the site passes the hold: with or without an order, and whether its cache saw
    // the rollback or not.
    write(&world, "4");
    let refused = world.sync("docs", &[]).fails(6, "E_HELD");
    names(
        &refused,
        &[
            "deploy 3",
            "rolled back to deploy 1",
            "--expect 3",
            "pmx resume",
        ],
    );
    on(&world, "ci", &["--order", "6"]).fails(6, "E_HELD");
    on(&world, "fresh", &["--order", "7"]).fails(6, "E_HELD");
    on(&world, "ci", &["--expect", "2"]).fails(6, "E_HELD");
    world.sync("docs", &["--preview", "pr-7"]).ok();

    // A publish that changes nothing keeps the hold, and another rollback sets it again.
    write(&world, "1");
    assert_eq!(on(&world, "fresh", &[]).ok().at("/outcome"), "unchanged");
    assert_eq!(hold(&world), 3);
    assert_eq!(back("2"), 5);
    write(&world, "6");
    on(&world, "ci", &["--expect", "3"]).fails(6, "E_HELD");
    on(&world, "ci", &["--expect", "5"]).ok();
    assert_eq!(hold(&world), Value::Null);

    // A rollback to a preview's deploy sets a hold as well. After a resume, a client that saw the
    // site before publishes again.
    assert_eq!(back("4"), 7);
    write(&world, "8");
    on(&world, "ci", &[]).fails(6, "E_HELD");
    let resumed = world.pmx(&["resume", "--space", "docs", "--json"]).ok();
    assert_eq!(resumed.number("/deploy"), 7);
    on(&world, "ci", &[]).ok();
    assert_eq!(back("1"), 9);
    write(&world, "10");
    on(&world, "ci", &["--force"]).ok();
    assert_eq!((shown(&world).as_str(), hold(&world)), ("10", Value::Null));
}

/// A client of a release without holds sends the number of the expected deploy.
fn hold_withstands_a_client_of_before(world: World) {
    write(&world, "1");
    let first = world.sync("docs", &[]).ok();
    write(&world, "2");
    let second = world.sync("docs", &[]).ok();
    let root = |ran: &Ran| NodeId::from_hex(ran.at("/root").as_str().unwrap()).unwrap();
    let commit = |root: NodeId, expect: u64| {
        let head = BeginHead {
            v: VERSION,
            space: SpaceName::parse("docs").unwrap(),
            alias: None,
            root,
            base: None,
            dry: false,
            commit: Some(CommitPreconditions {
                expect: Some(expect),
                replace: Replace::Exact,
                key: format!("key {expect}"),
                order: None,
                max_delete: None,
                meta: DeployMeta::default(),
                expires: None,
                restore: Vec::new(),
            }),
        };
        let head = serde_json::to_vec(&head).unwrap();
        assert!(!String::from_utf8_lossy(&head).contains("replace"));
        let envelope = Envelope {
            head: head.into(),
            sections: Vec::new(),
        };
        let token = world.token();
        let headers = [("Authorization", token.as_str())];
        let body = envelope.encode(&mut Encoder::new());
        let answer = world.request("POST", "", "/api/publish/commit", &headers, &body);
        (answer.status, answer.json()["code"].clone())
    };
    assert_eq!(commit(root(&first), 2), (200, Value::Null));
    world.pmx(&["rollback", "2", "--space", "docs"]).ok();
    assert_eq!(commit(root(&first), 4), (409, json!("E_CONFLICT")));
    assert_eq!(commit(root(&second), 3), (200, Value::Null), "unchanged");
    assert_eq!(hold(&world), 4);
}

fn publish_does_not_replace_a_deploy_that_it_never_saw(world: World) {
    write(&world, "1");
    on(&world, "a", &[]).ok();
    write(&world, "2");
    // Without a cache, this machine counts the active deploy of its first request as seen.
    on(&world, "b", &["-m", "by b"]).ok();
    write(&world, "3");
    for _ in 0..2 {
        let refused = on(&world, "a", &[]).fails(6, "E_CONFLICT");
        names(
            &refused,
            &[
                "deploy 1",
                "deploy 2",
                "by b",
                "1 modified",
                "--expect 2",
                "--force",
            ],
        );
    }
    on(&world, "a", &["--no-cache"]).fails(6, "E_CONFLICT");
    assert_eq!(shown(&world), "2");
    on(&world, "a", &["--expect", "2"]).ok();
    write(&world, "4");
    on(&world, "a", &[]).ok();
    on(&world, "b", &[]).ok();
    write(&world, "5");
    on(&world, "b", &[]).ok();
    write(&world, "6");
    on(&world, "a", &["--force"]).ok();
    assert_eq!(shown(&world), "6");
}

fn order_replaces_older_builds_of_its_own_sequence_only(world: World) {
    let run = |content: &str, machine: &str, workflow: &str, number: &str| {
        write(&world, content);
        let reference = format!("o/r/.github/workflows/{workflow}.yml@refs/heads/main");
        let env = [
            ("CI", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_REPOSITORY_ID", "1296269"),
            ("GITHUB_WORKFLOW_REF", &reference),
            ("GITHUB_RUN_NUMBER", number),
        ];
        ci(&world, machine, &[], &env)
    };
    run("1", "a", "deploy", "411").ok();
    // A cache that saw an older build of the same sequence does not block the publish.
    run("2", "b", "deploy", "412").ok();
    run("3", "a", "deploy", "413").ok();
    run("4", "b", "deploy", "412").fails(6, "E_OLDER_BUILD");
    // The workflow is renamed, and its run numbers restart at 1.
    run("5", "b", "deploy-v2", "1").fails(6, "E_CONFLICT");
    run("5", "a", "deploy-v2", "1").ok();
    run("6", "b", "deploy-v2", "2").ok();
    run("7", "a", "deploy-v2", "2").ok();
    let history = world.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    assert_eq!(
        history.last()["deploys"][0]["sequence"],
        json!({ "kind": "github:1296269:.github/workflows/deploy-v2.yml", "value": 2 })
    );
}

fn max_delete_holds_against_the_deploy_that_is_replaced(world: World) {
    write(&world, "1");
    on(&world, "a", &[]).ok();
    let names: Vec<String> = (0..40).map(|number| format!("{number}.html")).collect();
    for name in &names {
        world.write(&[(name, "x")]);
    }
    on(&world, "b", &[]).ok();
    for name in &names {
        std::fs::remove_file(world.site().join(name)).unwrap();
    }
    write(&world, "2");
    let bounded = |machine: &str, more: &[&str]| {
        on(&world, machine, &[&["--max-delete", "1%"], more].concat())
    };
    // The base of this small publish contains every file that it would remove.
    bounded("a", &["--expect", "2"]).fails(2, "E_MAX_DELETE");
    bounded("a", &["--force"]).fails(2, "E_MAX_DELETE");
    bounded("b", &[]).fails(2, "E_MAX_DELETE");
    bounded("fresh", &[]).fails(2, "E_MAX_DELETE");
    // A publish of an earlier deploy's root needs no upload, and the bound still applies.
    write(&world, "1");
    bounded("fresh", &[]).fails(2, "E_MAX_DELETE");
    bounded("b", &[]).fails(2, "E_MAX_DELETE");
    assert_eq!(world.get("docs", "/7").status, 200);
    on(&world, "b", &["--max-delete", "40"]).ok();
}

fn publish_without_a_cache_is_one_small_request(world: World) {
    let page = |number: usize| format!("<h1>{number}</h1>{}", "words and words ".repeat(40));
    for number in 0..600 {
        world.write(&[(&format!("p/{number}.html"), &page(number))]);
    }
    write(&world, "1");
    on(&world, "a", &[]).ok();
    let small = |ran: Ran, outcome: &str| {
        let ran = ran.ok();
        assert_eq!(ran.at("/outcome"), outcome);
        assert_eq!(ran.number("/requests"), 1, "{ran:?}");
        let bytes = ran.number("/bytes/sent") + ran.number("/bytes/received");
        assert!(bytes < 1000, "{bytes} bytes: {ran:?}");
    };
    small(on(&world, "b", &[]), "unchanged");
    small(
        on(&world, "c", &["--order", "7", "--max-delete", "1%"]),
        "unchanged",
    );
    small(on(&world, "c", &["--no-cache"]), "unchanged");
    write(&world, "2");
    on(&world, "a", &[]).ok();
    // A root that was active before becomes active after one request.
    write(&world, "1");
    small(on(&world, "d", &[]), "published");
    assert_eq!(shown(&world), "1");
}

fn numbers_that_are_not_exact_are_refused(world: World) {
    const TOO_LARGE: &str = "9007199254740992";
    write(&world, "1");
    world.sync("docs", &[]).ok();
    let order = format!("run:{TOO_LARGE}");
    for args in [
        &["sync", "site", "--expect", TOO_LARGE][..],
        &["sync", "site", "--order", &order],
        &["rollback", TOO_LARGE],
        &["rollback", "1", "--expect", TOO_LARGE],
        &["deploys", "--before", TOO_LARGE],
        &["diff", "1", TOO_LARGE],
    ] {
        let args = [args, &["--space", "docs", "--json"]].concat();
        world.pmx(&args).fails(2, "E_NUMBER_TOO_LARGE");
    }
    let token = world.token();
    let headers = [("Authorization", token.as_str())];
    let refused = |method: &str, path: &str, body: &[u8]| {
        let answer = world.request(method, "", path, &headers, body);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert_eq!(answer.json()["code"], "E_NUMBER_TOO_LARGE", "{path}");
    };
    for path in [
        &format!("/api/deploys/{TOO_LARGE}?space=docs"),
        &format!("/api/deploys?space=docs&before={TOO_LARGE}"),
        &format!("/api/diff?space=docs&from=1&to={TOO_LARGE}"),
        "/api/deploys/1/diff/99999999999999999999999?space=docs",
    ] {
        refused("GET", path, b"");
    }
    for field in ["to", "expect"] {
        let body = format!(r#"{{"v":1,"space":"docs","{field}":{TOO_LARGE},"key":"k"}}"#);
        refused("POST", "/api/publish/rollback", body.as_bytes());
    }
    let terms = [
        format!(r#"{{"expect":{TOO_LARGE},"key":"k"}}"#),
        format!(r#"{{"expect":1,"key":"k","order":{{"kind":"run","value":{TOO_LARGE}}}}}"#),
        format!(r#"{{"expect":1,"key":"k","max_delete":{{"files":{TOO_LARGE}}}}}"#),
    ];
    let root = "ab".repeat(32);
    for terms in terms {
        let head = format!(r#"{{"v":1,"space":"docs","root":"{root}","commit":{terms}}}"#);
        let head = head.into_bytes().into();
        let sections = Vec::new();
        let body = Envelope { head, sections }.encode(&mut Encoder::new());
        refused("POST", "/api/publish/begin", &body);
    }
}

/// A watcher reports the hold, and keeps running.
#[test]
fn watch_reports_a_hold_and_waits() {
    let world = World::new();
    write(&world, "1");
    world.sync("docs", &[]).ok();
    let args = [
        "sync", "site", "--space", "docs", "--watch", "--expect", "1",
    ];
    let mut watcher = world
        .command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(watcher.stderr.take().unwrap());
    let mut lines = stderr.lines().map(|line| line.unwrap());
    let mut await_line = |part: &str| {
        let found = lines.by_ref().find(|line| line.contains(part));
        assert!(found.is_some(), "{part} is never said");
    };
    await_line("unchanged");
    write(&world, "2");
    await_line("published deploy 2");
    write(&world, "3");
    await_line("published deploy 3");
    world.pmx(&["rollback", "1", "--space", "docs"]).ok();
    write(&world, "4");
    await_line("E_HELD");
    assert_eq!(shown(&world), "1");
    world.pmx(&["resume", "--space", "docs"]).ok();
    world.sync("docs", &["--force"]).ok();
    assert_eq!(shown(&world), "4");
    assert!(watcher.try_wait().unwrap().is_none(), "the watcher lives");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}
