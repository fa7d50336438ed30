//! Validation list of the project's beginning, line by line, on Cloudflare's runtime.

use std::fs;

use serde_json::{Value, json};

use crate::access_log::AccessLog;
use crate::world::{World, eventually, or_skip};

/// The deploys of a space, newest first, and the active one.
fn history(world: &World, space: &str) -> (Value, Vec<Value>) {
    let token = world.token();
    let path = format!("/api/deploys?space={space}");
    let answer = world.get_with("", &path, &[("Authorization", &token)]);
    let history = answer.json();
    let deploys = history["deploys"].as_array().cloned();
    (history["active"].clone(), deploys.unwrap_or_default())
}

/// The home page of a site, and the deploy in its header.
fn shown(world: &World, space: &str) -> (String, String) {
    let answer = world.get(space, "/");
    let deploy = answer.header("x-pmx-deploy").unwrap_or_default().to_owned();
    (answer.text(), deploy)
}

fn shows(world: &World, space: &str, text: &str, deploy: u64) {
    assert_eq!(shown(world, space), (text.to_owned(), deploy.to_string()));
}

/// Publishes a home page.
fn publish(world: &World, space: &str, text: &str) {
    world.write(&[("index.html", text)]);
    world.sync(space, &[]).ok();
}

/// All files below a folder.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn site_is_served_from_r2_through_the_worker() {
    let mut world = or_skip!(World::worker());
    publish(&world, "docs", "from R2");
    // The new isolate has an empty memory.
    world.server.kill();
    world.restart();
    let mut log = AccessLog::new(&world);
    shows(&world, "docs", "from R2", 1);
    let costs = log.costs(&world);
    assert!(costs["r2_read"] > 0 && costs["kv_read"] == 1, "{costs:?}");
    assert!(!costs.contains_key("space_call"), "{costs:?}");
}

#[test]
fn second_site_of_a_worker_has_its_own_durable_object() {
    let world = or_skip!(World::worker());
    let spaces = || {
        let files = files(&world.temp.path().join("data/spaces")).into_iter();
        let ledgers = files.filter(|file| file.ends_with(".sqlite") && !file.contains("metadata"));
        ledgers.count()
    };
    publish(&world, "one", "the first site");
    let before = spaces();
    publish(&world, "two", "the second site");
    assert_eq!(spaces(), before + 1, "one ledger for each site");
    shows(&world, "one", "the first site", 1);
    shows(&world, "two", "the second site", 1);
}

#[test]
fn publish_uploads_only_missing_blobs() {
    let world = or_skip!(World::worker());
    let page = |number: u32| format!("page {number} {}", "word ".repeat(99));
    for number in 0..50 {
        world.write(&[(&format!("{number}.html"), &page(number))]);
    }
    let first = world.sync("docs", &[]).ok();
    assert_eq!(first.number("/bytes/new"), first.number("/bytes/site"));
    // One file changes, one is copied, one is moved.
    world.write(&[("7.html", "changed"), ("copy.html", &page(8))]);
    fs::rename(world.site().join("9.html"), world.site().join("moved.html")).unwrap();
    let second = world.sync("docs", &[]).ok();
    assert_eq!(second.number("/bytes/new"), "changed".len() as u64);
    assert_eq!(world.get("docs", "/copy").text(), page(8));
    assert_eq!(world.get("docs", "/moved").text(), page(9));
}

#[test]
fn publish_creates_a_deploy_record() {
    let world = or_skip!(World::worker());
    world.write(&[("index.html", "one"), ("about.html", "about")]);
    let ran = world.sync("docs", &["-m", "what is new"]).ok();
    let (_, deploys) = history(&world, "docs");
    assert_eq!(deploys.len(), 1);
    let record = &deploys[0];
    assert_eq!(record["number"], 1);
    assert_eq!(record["kind"], "publish");
    assert_eq!(record["meta"]["message"], "what is new");
    assert_eq!(record["root"], ran.at("/root"));
}

#[test]
fn publish_activates_the_deploy() {
    let world = or_skip!(World::worker());
    publish(&world, "docs", "one");
    assert_eq!(history(&world, "docs").0, 1);
    shows(&world, "docs", "one", 1);
    publish(&world, "docs", "two");
    assert_eq!(history(&world, "docs").0, 2);
    shows(&world, "docs", "two", 2);
}

#[test]
fn deploys_reach_readers_of_their_site_only() {
    let world = or_skip!(World::worker());
    publish(&world, "one", "of one");
    publish(&world, "two", "of two");
    let mut log = AccessLog::new(&world);
    publish(&world, "one", "of one, changed");
    world.pmx(&["rollback", "--space", "one"]).ok();
    shows(&world, "one", "of one", 3);
    shows(&world, "two", "of two", 1);
    let mut reported = Vec::new();
    eventually("the alarm has written the last pointer", || {
        reported.extend(log.lines(&world));
        let writes = reported
            .iter()
            .filter_map(|line| line["ops"]["kv_write"].as_u64());
        writes.sum::<u64>() >= 1
    });
    let commands = reported.iter().filter(|line| line["type"] == "command");
    let spaces: Vec<&Value> = commands.map(|line| &line["space"]).collect();
    assert!(
        !spaces.is_empty() && spaces.iter().all(|space| **space == "one"),
        "{reported:?}"
    );
}

/// The events of a site from an offset.
fn events(world: &World, space: &str, offset: &str) -> Vec<Value> {
    let answer = crate::live::events(world, space, &format!("offset={offset}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

#[test]
fn events_are_emitted_to_the_right_site_only() {
    let world = or_skip!(World::worker());
    publish(&world, "one", "of one");
    publish(&world, "two", "of two");
    let before = crate::live::events(&world, "one", "offset=now");
    let offset = before.header("stream-next-offset").unwrap().to_owned();
    assert_eq!(offset, "0000000000000000_0000000000000001", "deploy 1");
    publish(&world, "one", "of one, changed");
    world.pmx(&["rollback", "--space", "one"]).ok();
    let reported = events(&world, "one", &offset);
    let kinds: Vec<_> = reported.iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["publish", "rollback"], "{reported:?}");
    for (event, deploy) in reported.iter().zip(2..) {
        assert_eq!(event["deploy"], deploy);
        let change = &event["events"][0];
        assert_eq!(change["type"], "artifacts-changed");
        assert_eq!(change["modified"], serde_json::json!(["index.html"]));
        assert_eq!(change["paths"], serde_json::json!(["/"]));
        assert_eq!(event["prev_root"], root_of(&world, deploy - 1));
    }
    assert_eq!(events(&world, "two", "-1").len(), 1, "its own publish");
    assert_eq!(events(&world, "two", "0_1"), [] as [Value; 0]);
    let forged = world.request("POST", "one", "/_events", &[], b"[]");
    assert_eq!(forged.status, 405, "only deploys write events");
}

fn root_of(world: &World, deploy: u64) -> Value {
    let (_, deploys) = history(world, "one");
    let found = deploys.iter().find(|made| made["number"] == deploy);
    found.unwrap()["root"].clone()
}

#[test]
fn rollback_activates_an_older_deploy_without_build_or_upload() {
    let world = or_skip!(World::worker());
    publish(&world, "docs", "one");
    publish(&world, "docs", "two");
    // The client could build and upload nothing.
    fs::remove_dir_all(world.site()).unwrap();
    let mut log = AccessLog::new(&world);
    let ran = world
        .pmx(&["rollback", "1", "--space", "docs", "--json"])
        .ok();
    assert_eq!(ran.number("/deploy"), 3);
    let costs = log.costs(&world);
    assert!(!costs.contains_key("r2_write"), "{costs:?}");
    shows(&world, "docs", "one", 3);
    let (active, deploys) = history(&world, "docs");
    assert_eq!(
        (active, &deploys[0]["kind"]),
        (json!(3), &json!("rollback"))
    );
    assert_eq!(deploys[0]["root"], deploys[2]["root"]);
}

#[test]
fn stable_routes_never_serve_stale_html() {
    let world = or_skip!(World::worker());
    // A browser revalidates the page that it had, and the page has changed.
    let is_new = |etag: &str| {
        let answer = world.get_with("docs", "/", &[("If-None-Match", etag)]);
        assert_eq!(answer.status, 200);
        let cached = answer.header("cache-control");
        assert_eq!(cached, Some("public, max-age=0, must-revalidate"));
        answer.header("etag").unwrap().to_owned()
    };
    publish(&world, "docs", "first");
    let mut etag = is_new("\"none\"");
    for round in 1..=5 {
        publish(&world, "docs", &format!("round {round}"));
        // Read immediately: KV may not show the deploy yet.
        shows(&world, "docs", &format!("round {round}"), 2 * round);
        etag = is_new(&etag);
        world.pmx(&["rollback", "1", "--space", "docs"]).ok();
        world.pmx(&["resume", "--space", "docs"]).ok();
        shows(&world, "docs", "first", 2 * round + 1);
        etag = is_new(&etag);
    }
}

#[test]
fn route_is_published_again_and_again() {
    let world = or_skip!(World::worker());
    for number in 1..=12 {
        let text = format!("version {number}");
        publish(&world, "docs", &text);
        shows(&world, "docs", &text, number);
    }
    let (active, deploys) = history(&world, "docs");
    assert_eq!((active, deploys.len()), (json!(12), 12));
    for number in 1..=12 {
        let earlier = world.get(&format!("{number}--docs"), "/");
        assert_eq!(earlier.text(), format!("version {number}"));
    }
}

#[test]
fn subdomains_show_their_own_sites() {
    let world = or_skip!(World::worker());
    let names: Vec<String> = (0..6).map(|number| format!("site-{number}")).collect();
    for name in &names {
        publish(&world, name, &format!("I am {name}"));
    }
    for name in &names {
        shows(&world, name, &format!("I am {name}"), 1);
    }
    for unknown in ["site-6", "site", "a.site-0"] {
        assert_eq!(world.get(unknown, "/").status, 404, "{unknown}");
    }
}

#[test]
fn requests_and_publishes_are_logged_as_one_object_a_line() {
    let world = or_skip!(World::worker());
    let mut log = AccessLog::new(&world);
    publish(&world, "docs", "one");
    world.get("docs", "/?token=hidden");
    world.get("docs", "/nothing");
    let lines = log.lines(&world);
    let find = |what: &str, of: &[(&str, Value)]| {
        let found = lines.iter().find(|line| {
            let is = |(name, value): &(&str, Value)| line[*name] == *value;
            of.iter().all(is)
        });
        found.unwrap_or_else(|| panic!("no line about {what}: {lines:#?}"))
    };
    let page = find("the page", &[("path", json!("/")), ("status", json!(200))]);
    assert_eq!(
        (&page["type"], &page["method"]),
        (&json!("request"), &json!("GET"))
    );
    assert!(page["host"].as_str().unwrap().starts_with("docs.localhost"));
    find(
        "what is missing",
        &[("path", json!("/nothing")), ("status", json!(404))],
    );
    find(
        "the publish",
        &[
            ("path", json!("/api/publish/begin")),
            ("status", json!(200)),
        ],
    );
    let command = find("the command", &[("command", json!("publish"))]);
    assert_eq!(
        (&command["space"], &command["code"]),
        (&json!("docs"), &Value::Null)
    );
    let secret = world.token();
    let secret = secret.trim_start_matches("Bearer ");
    let said = fs::read_to_string(world.temp.path().join("data.log")).unwrap();
    assert!(
        !said.contains(secret) && !said.contains("hidden"),
        "secrets are not logged"
    );
    for line in said.lines() {
        let reported = serde_json::from_str::<Value>(line);
        assert!(
            reported.is_ok_and(|reported| reported.is_object()),
            "not an object: {line}"
        );
    }
}
