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

use crate::world::{World, on_both_hosts};

on_both_hosts!(
    rules_follow_their_deploy,
    bad_lines_are_refused_at_once,
    rules_depend_on_the_client,
    redirects_take_every_method
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
