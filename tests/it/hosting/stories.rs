//! Hosting stories: how rules are checked, published, shown and changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::id::BlobId;
use pmx_core::name::SpaceName;
use pmx_sync::manifest::{Entry, NodeMap, Row, build};
use pmx_sync::media::Media;
use pmx_sync::path::SitePath;
use pmx_sync::push::Intent;
use pmx_sync::testing::client::Client;
use pmx_sync::testing::host::{Host, block_on};
use pmx_tests::sql::Sqlite;

use serde_json::Value;

use crate::world::{World, noise, on_both_hosts};

on_both_hosts!(
    rules_follow_their_deploy,
    bad_lines_are_refused_at_once,
    rules_depend_on_the_client,
    redirects_take_every_method,
    diff_names_the_rules_that_changed,
    file_of_a_deploy_is_read_by_its_path
);

/// Writes the rules and a page that names the version.
fn write(world: &World, version: &str, redirects: &str) {
    world.write(&[("index.html", version), ("new.html", "new")]);
    world.write(&[("_redirects", redirects)]);
}

fn rules_follow_their_deploy(world: World) {
    write(&world, "one", "/a /new 301\n");
    world.sync("docs", &[]).ok();
    write(&world, "two", "/a / 302\n");
    world.sync("docs", &[]).ok();
    write(&world, "three", "/a /three 200\n/b /new 302\n");
    world.sync("docs", &["--preview", "next"]).ok();
    for (host, location, rule) in [
        ("docs", Some("/"), None),
        ("1--docs", Some("/new"), Some("_redirects:1")),
        ("next--docs", None, None),
    ] {
        let answer = world.get(host, "/a");
        assert_eq!(answer.header("location"), location, "{host}");
        assert_eq!(answer.header("x-pmx-rule"), rule, "{host}");
    }
    assert_eq!(world.get("next--docs", "/b").status, 302);
    world
        .pmx(&["rollback", "1", "--space", "docs", "--json"])
        .ok();
    let answer = world.get("docs", "/a");
    assert_eq!(
        (answer.status, answer.header("location")),
        (301, Some("/new"))
    );
    world.write(&[("_redirects", "# nothing\n")]);
    world.pmx(&["resume", "--space", "docs"]).ok();
    world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/a").status, 404);
}

fn bad_lines_are_refused_at_once(world: World) {
    write(&world, "one", "/a /new 999\n/b\n/c /new\n");
    world.write(&[
        ("_headers", "/a\n  ETag: x\n"),
        ("_site.toml", "htlm = \"auto\"\n"),
    ]);
    let refused = world.sync("docs", &[]).fails(2, "E_RULES_INVALID");
    for line in [
        "_redirects:1:9",
        "_redirects:2:1",
        "_headers:2:3",
        "_site.toml:1:1",
    ] {
        assert!(refused.stdout.contains(line), "{line}: {refused:?}");
    }
    assert_eq!(
        world.get("docs", "/").status,
        404,
        "something was published"
    );
    world.sync("docs", &["--lenient"]).ok();
    assert_eq!(world.get("docs", "/c").status, 302);
    assert_eq!(world.get("docs", "/a").status, 404);
    let again = world.sync("docs", &["--lenient"]).ok();
    assert_eq!(again.at("/outcome"), "unchanged");
    let explained = world.pmx(&["explain", "rules-status"]).ok();
    assert!(
        explained.stdout.contains("301, 302, 303, 307 or 308"),
        "{explained:?}"
    );
}

/// A client that checks no rules, as those of earlier releases.
#[test]
fn commit_refuses_rules_with_errors() {
    let host = Host::new(Sqlite::new);
    let space = SpaceName::parse("docs").unwrap();
    let publish = |redirects: &'static str, key: &str| {
        let media = Media::parse("text/plain").unwrap();
        let files = [("_redirects", redirects), ("index.html", "home")];
        let mut blobs = BTreeMap::new();
        let rows = files.map(|(path, text)| {
            let (blob, size) = (BlobId::of(text.as_bytes()), text.len() as u64);
            blobs.insert(blob, Bytes::from(text));
            let media = media.clone();
            let entry = Entry { blob, size, media };
            Row {
                path: SitePath::parse(path).unwrap(),
                entry,
            }
        });
        let site = build(rows.to_vec()).unwrap();
        let mut nodes = NodeMap::default();
        nodes.extend(site.nodes);
        let client = Client {
            network: &host,
            space: space.clone(),
            nodes: &nodes,
            blobs: &blobs,
            tries: 1,
        };
        block_on(client.publish(Intent::new(space.clone(), site.root, key)))
    };
    let refused = publish("/a /new 999\n", "first").unwrap_err();
    assert_eq!(refused.code(), Code::RulesInvalid, "{refused:?}");
    let shown = format!("{refused:?}");
    assert!(
        shown.contains("_redirects:1:9: error[rules-status]"),
        "{shown}"
    );
    publish("/a /new 301\n", "second").unwrap();
    let answer = host.get("http://docs.localhost/a").unwrap();
    assert_eq!(answer.status, 301);
}

fn rules_depend_on_the_client(world: World) {
    let text = "/ /de 302 Language=de\n/beta /new 302 Cookie=beta\n/q id=:id /n/:id\n";
    write(&world, "one", text);
    world.sync("docs", &[]).ok();
    for (path, headers, location) in [
        (
            "/",
            vec![("Accept-Language", "de-CH,en;q=0.5")],
            Some("/de"),
        ),
        ("/", vec![("Accept-Language", "en")], None),
        ("/beta", vec![("Cookie", "a=1; beta=1")], Some("/new")),
        ("/beta", vec![], None),
        ("/q?id=7", vec![], Some("/n/7?id=7")),
        ("/q", vec![], None),
    ] {
        let answer = world.get_with("docs", path, &headers);
        assert_eq!(answer.header("location"), location, "{path} {headers:?}");
        let caching = answer.header("cache-control").unwrap_or_default();
        if !path.starts_with("/q") {
            assert!(caching.starts_with("private"), "{path}: {caching}");
        }
    }
}

fn redirects_take_every_method(world: World) {
    write(&world, "one", "/m /new 308\n/r /new 200\n");
    world.sync("docs", &[]).ok();
    for (method, path, status) in [
        ("POST", "/m", 308),
        ("DELETE", "/m", 308),
        ("POST", "/r", 405),
        ("POST", "/", 405),
        ("POST", "/missing", 404),
    ] {
        let answer = world.request(method, "docs", path, &[], b"a body");
        assert_eq!(answer.status, status, "{method} {path}");
    }
}

fn diff_names_the_rules_that_changed(world: World) {
    let rules = |args: &[&str]| {
        let ran = world.pmx(&[&["diff"], args, &["--space", "docs", "--json"]].concat());
        let stdout = ran.ok().stdout;
        let objects = stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let rules = objects.filter(|it| it["type"] == "rule_change");
        let text = |it: Value| {
            let line = it["line"]
                .as_u64()
                .map_or(String::new(), |line| format!(":{line}"));
            let of = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}{line} {}", of("change"), of("file"), of("rule"))
        };
        rules.map(text).collect::<Vec<_>>()
    };
    write(&world, "one", "# old\n/a /new 301\n");
    assert_eq!(rules(&["site"]), ["added _redirects:2 /a /new 301"]);
    world.sync("docs", &[]).ok();
    assert_eq!(rules(&["site"]), [] as [&str; 0]);
    world.write(&[("_headers", "/*\n  X-A: 1\n")]);
    write(&world, "two", "/a /new 302\n/b /new\n");
    let changes = [
        "removed _redirects:2 /a /new 301",
        "added _redirects:1 /a /new 302",
        "added _redirects:2 /b /new",
        "added _headers:2 /* X-A: 1",
    ];
    assert_eq!(rules(&["site"]), changes);
    world.sync("docs", &[]).ok();
    assert_eq!(rules(&["1", "2"]), changes);
    let text = world
        .pmx(&["diff", "2", "1", "--space", "docs"])
        .ok()
        .stdout;
    assert!(text.contains("\n  - _redirects:2 /b /new\n"), "{text}");
}

fn file_of_a_deploy_is_read_by_its_path(world: World) {
    write(&world, "one", "/a /new 301\n");
    world.write_bytes("big.bin", &noise(1, 9_000_000));
    world.sync("docs", &[]).ok();
    write(&world, "two", "");
    world.sync("docs", &[]).ok();
    let token = world.token();
    let read = |number: u64, path: &str| {
        let path = format!("/api/deploys/{number}/file?space=docs&path={path}");
        world.ask("GET", "", &path, &[("authorization", &token)], b"")
    };
    assert_eq!(read(1, "_redirects").text(), "/a /new 301\n");
    assert_eq!(read(2, "_redirects").text(), "");
    let page = read(1, "index.html");
    assert_eq!((page.status, page.text()), (200, "one".to_owned()));
    assert_eq!(
        page.header("content-type"),
        Some("application/octet-stream")
    );
    let tag = format!("\"{}\"", BlobId::of(b"one"));
    assert_eq!(page.header("etag"), Some(&*tag));
    assert_eq!(read(2, "big.bin").body, noise(1, 9_000_000));
    for (number, path, code) in [
        (1, "none", "E_NOT_FOUND"),
        (1, "new", "E_NOT_FOUND"),
        (1, "../x", "E_PATH_INVALID"),
        (3, "index.html", "E_DEPLOY_UNKNOWN"),
    ] {
        let refused = read(number, path);
        assert_eq!(refused.json()["code"], code, "{number} {path}: {refused:?}");
    }
}
