//! JSON publish: clients that speak nothing but JSON, on both hosts.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{Answer, World, noise, on_both_hosts, skipped};

on_both_hosts! {
    example_publishes_the_root_of_sync,
    json_publish_uploads_what_is_missing_and_commits,
    json_commit_replaces_the_deploy_that_its_begin_saw,
    json_publish_takes_the_rules_of_a_build,
    json_publish_refuses_what_pmx_refuses,
    rollback_and_history_are_those_of_the_first_releases,
}

fn post(world: &World, path: &str, body: &Value) -> Answer {
    send(world, path, "application/json", body.to_string().as_bytes())
}

fn send(world: &World, path: &str, media: &str, body: &[u8]) -> Answer {
    let token = world.token();
    let headers = [("authorization", &*token), ("content-type", media)];
    world.request("POST", "", path, &headers, body)
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A list of files with their contents.
fn listed(files: &[(&str, &str)]) -> Value {
    let files = files.iter().map(
        |(path, text)| json!({"path": path, "hash": hash(text.as_bytes()), "size": text.len()}),
    );
    json!({"space": "docs", "files": files.collect::<Vec<_>>()})
}

/// Uploads what a begin misses, among these contents.
fn upload(world: &World, begun: &Value, files: &[(&str, &str)]) -> usize {
    let missing = begun["missing"].as_array().unwrap();
    for blob in missing {
        let is = |(_, text): &&(&str, &str)| blob["hash"] == hash(text.as_bytes());
        let (_, text) = files.iter().find(is).unwrap();
        let url = blob["uploadUrl"].as_str().unwrap();
        let kept = send(world, url, "application/octet-stream", text.as_bytes());
        assert_eq!(kept.status, 200, "{kept:?}");
    }
    missing.len()
}

fn begin(world: &World, body: &Value) -> Value {
    let begun = post(world, "/api/publish/begin", body);
    assert_eq!(begun.status, 200, "{}", begun.text());
    begun.json()
}

fn commit(world: &World, body: &Value) -> Value {
    let committed = post(world, "/api/publish/commit", body);
    assert_eq!(committed.status, 200, "{}", committed.text());
    committed.json()
}

fn published(world: &World, files: &[(&str, &str)]) -> Value {
    let site = listed(files);
    upload(world, &begin(world, &site), files);
    commit(world, &site)
}

fn code(answer: &Answer) -> Value {
    answer.json()["code"].clone()
}

fn example_publishes_the_root_of_sync(world: World) {
    let node = Command::new("node").arg("--version").output();
    if !node.is_ok_and(|node| node.status.success()) {
        return skipped("examples/publish.mjs", "there is no node");
    }
    world.write(&[
        ("index.html", "<h1>one</h1>"),
        ("a/b/über ü.css", "p{}"),
        ("a/b/twin.css", "p{}"),
        ("empty.txt", ""),
        ("no-extension", "x"),
        (".hidden", "left out"),
        (".well-known/x", "kept"),
        ("pmx.toml", ""),
    ]);
    world.write_bytes("noise.bin", &noise(1, 300_000));
    let publish = || {
        let mut node = Command::new("node");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/publish.mjs");
        let server = format!("http://127.0.0.1:{}", world.server.port);
        node.arg(example).arg(world.site()).args(["docs", &server]);
        let token = world.token();
        node.env("PMX_TOKEN", token.trim_start_matches("Bearer "));
        let ran = node.output().expect("node runs");
        assert!(ran.status.success(), "{ran:?}");
        serde_json::from_slice::<Value>(&ran.stdout).expect("a line of JSON")
    };
    let first = publish();
    let root = || world.pmx(&["hash", "site", "--json"]).ok().at("/root");
    assert_eq!(
        (&first["root"], &first["outcome"]),
        (&root(), &json!("published"))
    );
    assert_eq!(first["deployId"], 1);
    assert_eq!(world.get("docs", "/").text(), "<h1>one</h1>");
    assert_eq!(world.get("docs", "/noise.bin").body, noise(1, 300_000));
    assert_eq!(publish()["outcome"], "unchanged");
    world.write(&[("index.html", "<h1>two</h1>")]);
    let second = publish();
    assert_eq!((&second["root"], &second["deployId"]), (&root(), &json!(2)));
    assert_eq!(world.get("docs", "/").text(), "<h1>two</h1>");
    // `pmx` finds nothing to send, and nothing to change.
    assert_eq!(world.sync("docs", &[]).ok().at("/outcome"), "unchanged");
}

fn json_publish_uploads_what_is_missing_and_commits(world: World) {
    let files = [
        ("z.html", "z"),
        ("index.html", "home"),
        ("a/twin.html", "home"),
    ];
    let mut site = listed(&files);
    let begun = begin(&world, &site);
    assert_eq!(
        (&begun["space"], &begun["active"]),
        (&json!("docs"), &json!(0))
    );
    let missing = begun["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 2, "a blob travels once: {begun}");
    let refused = post(&world, "/api/publish/commit", &site);
    assert_eq!(
        (refused.status, code(&refused)),
        (409, json!("E_MISSING_OBJECTS"))
    );
    let url = missing[0]["uploadUrl"].as_str().unwrap();
    let refused = send(&world, url, "application/octet-stream", b"other bytes");
    assert_eq!(code(&refused), "E_HASH_MISMATCH", "{refused:?}");
    assert_eq!(upload(&world, &begun, &files), 2);
    assert_eq!(begin(&world, &site)["missing"], json!([]));
    site["meta"] = json!({"message": "by hand"});
    let committed = commit(&world, &site);
    assert_eq!(committed["outcome"], "published");
    assert_eq!(committed["deployId"], 1);
    assert_eq!(committed["deploy"]["number"], 1);
    assert_eq!(committed["deploy"]["meta"]["message"], "by hand");
    assert_eq!(committed["root"], begun["root"]);
    let url = format!("http://docs.localhost:{}/", world.server.port);
    assert_eq!(committed["url"], url);
    assert_eq!(world.get("docs", "/a/twin").text(), "home");
    let again = commit(&world, &site);
    assert_eq!(
        (&again["outcome"], &again["deployId"]),
        (&json!("unchanged"), &json!(1))
    );
    // A media type of the client's, and a preview.
    let plain = [("page", "<p>")];
    let mut preview = listed(&plain);
    preview["alias"] = json!("pr-7");
    preview["files"][0]["type"] = json!("text/html");
    preview["expires"] = json!("7d");
    upload(&world, &begin(&world, &preview), &plain);
    let url = format!("http://pr-7--docs.localhost:{}/", world.server.port);
    let committed = commit(&world, &preview);
    assert_eq!(committed["url"], url);
    let at = committed["deploy"]["at"].as_u64().unwrap();
    assert_eq!(committed["expires"], at + 7 * 86_400_000);
    preview["expires"] = json!("400d");
    let refused = post(&world, "/api/publish/commit", &preview);
    assert_eq!(code(&refused), "E_PUBLISH_FORM", "{}", refused.text());
    let page = world.get("pr-7--docs", "/page");
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html"),
        "{page:?}"
    );
}

fn json_commit_replaces_the_deploy_that_its_begin_saw(world: World) {
    let (first, second) = ([("index.html", "one")], [("index.html", "two")]);
    published(&world, &first);
    let site = listed(&second);
    upload(&world, &begin(&world, &site), &second);
    // Another publish comes between begin and commit.
    published(&world, &[("index.html", "between")]);
    let refused = post(&world, "/api/publish/commit", &site);
    assert_eq!((refused.status, code(&refused)), (409, json!("E_CONFLICT")));
    assert_eq!(world.get("docs", "/").text(), "between");
    let with = |name: &str, value: Value| {
        let mut site = site.clone();
        site[name] = value;
        site
    };
    let refused = post(&world, "/api/publish/commit", &with("expect", json!(1)));
    assert_eq!(code(&refused), "E_CONFLICT");
    assert_eq!(commit(&world, &with("expect", json!(2)))["deployId"], 3);
    // A commit without a begin has to name what it replaces.
    let unseen = listed(&first);
    let refused = post(&world, "/api/publish/commit", &unseen);
    assert_eq!(
        code(&refused),
        "E_CONFLICT",
        "the begin of deploy 1 saw none"
    );
    let refused = post(&world, "/api/publish/commit", &listed(&[("x", "two")]));
    assert_eq!(code(&refused), "E_PUBLISH_FORM");
    let forced = json!({"space": "docs", "files": unseen["files"], "force": true, "order": 7});
    assert_eq!(commit(&world, &forced)["deployId"], 4);
    // An older build is refused, a newer one replaces the older.
    begin(&world, &site);
    let refused = post(&world, "/api/publish/commit", &with("order", json!(6)));
    assert_eq!(code(&refused), "E_OLDER_BUILD");
    assert_eq!(commit(&world, &with("order", json!(8)))["deployId"], 5);
}

fn json_publish_takes_the_rules_of_a_build(world: World) {
    let files = [("page.html", "<p>page"), ("app.js", "app")];
    let mut site = listed(&files);
    // The server writes the rules in their canonical form, whatever the order here.
    site["rules"] = json!({
        "version": 1,
        "routes": {
            "/old%2Fpage": {"to": "/the/page?x", "status": 301},
            "/the/page": {"file": "page.html"},
        },
        "html": "exact",
        "cache": {"page.html": "revalidate", "app.js": "immutable"},
    });
    upload(&world, &begin(&world, &site), &files);
    let committed = commit(&world, &site);
    assert_eq!(committed["deploy"]["files"], 3, "{committed}");
    assert_eq!(world.get("docs", "/the/page").text(), "<p>page");
    assert_eq!(world.get("docs", "/page").status, 404);
    let moved = world.get("docs", "/old%2Fpage");
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("/the/page?x"))
    );
    let kept = world.get("docs", "/app.js");
    assert_eq!(
        kept.header("cache-control"),
        Some("public, max-age=31536000, immutable")
    );
    assert_eq!(world.get("docs", "/_pmx/rules.json").status, 404);
    assert_eq!(commit(&world, &site)["outcome"], "unchanged");
    // Rules that are wrong, and a route to a file that the site lacks.
    for (rules, expected) in [
        (json!({"version": 2}), "E_PUBLISH_FORM"),
        (json!({"version": 1, "wat": 1}), "E_PUBLISH_FORM"),
        (
            json!({"version": 1, "routes": {"/": {"status": 200, "to": "/x"}}}),
            "E_PUBLISH_FORM",
        ),
        (
            json!({"version": 1, "routes": {"/": {"status": 301, "to": "//x.org"}}}),
            "E_PUBLISH_FORM",
        ),
        (
            json!({"version": 1, "routes": {
                "/a": {"status": 301, "to": "/b"}, "/b": {"status": 301, "to": "/a?x"}}}),
            "E_RULES_INVALID",
        ),
        (
            json!({"version": 1, "routes": {"/a": {"file": "missing.html"}}}),
            "E_RULES_INVALID",
        ),
    ] {
        site["rules"] = rules;
        let refused = post(&world, "/api/publish/begin", &site);
        assert_eq!(code(&refused), expected, "{}", refused.text());
    }
}

fn json_publish_refuses_what_pmx_refuses(world: World) {
    let file = |path: &str| json!({"path": path, "hash": hash(b"x"), "size": 1});
    let of = |files: Value| json!({"space": "docs", "files": files});
    let many: Vec<Value> = (0..20_001).map(|n| file(&n.to_string())).collect();
    let large = 9 * 1024 * 1024;
    for (body, expected) in [
        (
            json!({"subdomain": "docs", "hashes": ["x"]}),
            "E_PUBLISH_FORM",
        ),
        (json!({"subdomain": "docs", "roots": {}}), "E_PUBLISH_FORM"),
        (json!({"space": "docs"}), "E_PUBLISH_FORM"),
        (
            json!({"space": "docs", "files": [], "wat": 1}),
            "E_PUBLISH_FORM",
        ),
        (
            json!({"space": "NOT A NAME", "files": []}),
            "E_PUBLISH_FORM",
        ),
        (
            json!({"v": 2, "space": "docs", "files": []}),
            "E_REQUEST_MALFORMED",
        ),
        (of(json!([file("../x")])), "E_PATH_INVALID"),
        (of(json!([file("a"), file("a")])), "E_PATH_DUPLICATE"),
        (of(json!([file("a"), file("a/b")])), "E_PATH_DUPLICATE"),
        (
            of(json!([{"path": "a", "hash": "x", "size": 1}])),
            "E_HASH_INVALID",
        ),
        (
            of(json!([{"path": "a", "hash": hash(b"x"), "size": large}])),
            "E_TOO_LARGE",
        ),
        (
            of(json!([{"path": "a", "hash": hash(b"x"), "size": 1, "type": "x"}])),
            "E_REQUEST_MALFORMED",
        ),
        (of(json!(many)), "E_TOO_LARGE"),
        (
            json!({"space": "docs", "files": [], "rules": []}),
            "E_PUBLISH_FORM",
        ),
    ] {
        let shown: String = body.to_string().chars().take(100).collect();
        let refused = post(&world, "/api/publish/begin", &body);
        assert_eq!(code(&refused), expected, "{shown}: {}", refused.text());
    }
    // The calls of `pmx` have other media types, and are as they were.
    let refused = send(
        &world,
        "/api/publish/begin",
        "application/vnd.pmx.publish",
        b"{}",
    );
    assert_eq!(code(&refused), "E_REQUEST_MALFORMED");
    let size = 8 * 1024 * 1024 + 1;
    let url = format!("/api/publish/upload?space=docs&hash={}", hash(b"x"));
    let head = [
        ("authorization", &*world.token()),
        ("content-length", &size.to_string()),
    ];
    let refused = world.request("POST", "", &url, &head, b"");
    assert_eq!(code(&refused), "E_TOO_LARGE");
    // A wrong size shows when the blob is there.
    let wrong = json!([{"path": "a", "hash": hash(b"x"), "size": 2}]);
    begin(&world, &of(wrong.clone()));
    let kept = send(&world, &url, "application/octet-stream", b"x");
    assert_eq!(kept.status, 200, "{kept:?}");
    let refused = post(&world, "/api/publish/commit", &of(wrong));
    assert_ne!(refused.status, 200, "{}", refused.text());
}

fn rollback_and_history_are_those_of_the_first_releases(world: World) {
    published(&world, &[("index.html", "one")]);
    published(&world, &[("index.html", "two")]);
    for (id, number) in [(json!(1), 3), (json!("2"), 4)] {
        let body = json!({"subdomain": "docs", "deployId": id, "events": []});
        let answer = post(&world, "/api/publish/rollback", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["deployId"], number);
        let url = format!("http://docs.localhost:{}/", world.server.port);
        assert_eq!(answer["url"], url);
    }
    assert_eq!(world.get("docs", "/").text(), "two");
    let unknown = json!({"subdomain": "docs", "deployId": "abc", "events": []});
    let refused = post(&world, "/api/publish/rollback", &unknown);
    assert_eq!(code(&refused), "E_DEPLOY_UNKNOWN");
    let token = world.token();
    let headers = [("authorization", &*token)];
    let by = |name: &str| world.get_with("", &format!("/api/deploys?{name}=docs"), &headers);
    assert_eq!(
        by("subdomain").json()["deploys"].as_array().unwrap().len(),
        4
    );
    assert_eq!(by("subdomain").text(), by("space").text());
}
