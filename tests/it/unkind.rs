//! Unkind platform: the faults that the bench injects into the Worker, and the promises that still
//! hold.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Answer, Host, World, eventually, noise, sync_args};

/// A world on an unkind platform with these settings; `None` if it can't run here.
fn world(settings: &[(&str, &str)]) -> Option<World> {
    World::of_worker(Host::Unkind, settings)
}

const ISOLATES: usize = 3;

/// The response of one isolate.
fn at(world: &World, isolate: usize, host: &str, path: &str) -> Answer {
    let isolate = isolate.to_string();
    world.ask("GET", host, path, &[("x-unkind-isolate", &isolate)], b"")
}

/// The statuses of all isolates.
fn statuses(world: &World, host: &str, path: &str) -> Vec<u16> {
    let answers = (0..ISOLATES).map(|isolate| at(world, isolate, host, path).status);
    answers.collect()
}

/// The number of faults of a name.
fn faults(world: &World, name: &str) -> u64 {
    let report = world.ask("GET", "", "/.unkind/report", &[], b"").json();
    let isolates = report.as_object().unwrap().values();
    let counts = isolates.flat_map(|isolate| isolate["faults"].as_object().unwrap());
    let counts = counts.filter(|(known, _)| known.starts_with(name));
    counts.filter_map(|(_, count)| count.as_u64()).sum()
}

#[test]
fn unkind_isolates_see_a_change_each_at_its_own_time() {
    let Some(world) = world(&[("PMX_UNKIND_LAG", "0.1")]) else {
        return;
    };
    world.write(&[("index.html", "one")]);
    world.sync("docs", &[]).ok();
    world.get("docs", "/");
    let texts = || -> Vec<String> {
        let answers = (0..ISOLATES).map(|isolate| at(&world, isolate, "docs", "/").text());
        answers.collect()
    };
    assert_eq!(texts(), ["one"; ISOLATES], "after it was waited for");
    world.write(&[("index.html", "two")]);
    world.sync("docs", &[]).ok();
    let seen = texts();
    let is_seen = |text: &str| seen.iter().any(|seen| seen == text);
    assert!(is_seen("one"), "an isolate lags: {seen:?}");
    world.get("docs", "/");
    // An isolate reads a pointer at most once in five seconds.
    eventually("each isolate shows the change", || {
        texts() == ["two"; ISOLATES]
    });
}

#[test]
fn unkind_faults_make_operations_fail() {
    check_fault("PMX_UNKIND_FAULTS", "stub space");
}

#[test]
fn unkind_resets_end_objects_in_the_middle_of_a_request() {
    check_fault("PMX_UNKIND_RESETS", "reset SpaceDO");
}

/// Publishes on a platform with only this fault, and checks that the fault occurred.
fn check_fault(setting: &str, fault: &str) {
    let Some(world) = world(&[(setting, "0.9")]) else {
        return;
    };
    world.write(&[("index.html", "one")]);
    let ran = world.sync("docs", &[]);
    assert!(faults(&world, fault) > 0, "{ran:?}");
}

/// Waits for a response of an isolate, at most for the time in which an acknowledged deploy must be
/// visible.
fn within_5_s(acknowledged: Instant, what: &str, mut holds: impl FnMut() -> bool) {
    while !holds() {
        assert!(acknowledged.elapsed() < PROMISE, "not within 5 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const PROMISE: Duration = Duration::from_secs(5);

/// A page and its only asset, whose name changes with its content.
fn version(world: &World, number: usize) {
    let _none = std::fs::remove_dir_all(world.site());
    let page = format!("<link rel=stylesheet href=/app-{number}.css>");
    let style = format!("p {{ order: {number} }}");
    world.write(&[
        ("index.html", &page),
        (&format!("app-{number}.css"), &style),
    ]);
}

fn asset_of(page: &str) -> &str {
    let start = page.find("href=").expect("a page names its asset") + 5;
    page[start..].split('>').next().unwrap()
}

#[test]
fn isolates_serve_what_was_acknowledged_5_s_ago() {
    // KV lags as long as on Cloudflare.
    let Some(world) = world(&[("PMX_UNKIND_LAG", "1")]) else {
        return;
    };
    // Each isolate caches from an early request that the site does not exist.
    assert_eq!(statuses(&world, "docs", "/"), [404; ISOLATES]);
    assert_eq!(statuses(&world, "pr-7--docs", "/"), [404; ISOLATES]);
    version(&world, 0);
    world.sync("docs", &[]).ok();
    let acknowledged = Instant::now();
    within_5_s(acknowledged, "a new site", || {
        statuses(&world, "docs", "/") == [200; ISOLATES]
    });
    world.write(&[("more.html", "more")]);
    world.sync("docs", &["--preview", "pr-7"]).ok();
    let acknowledged = Instant::now();
    within_5_s(acknowledged, "a new preview", || {
        statuses(&world, "pr-7--docs", "/more") == [200; ISOLATES]
    });
    for number in 1..=3 {
        version(&world, number);
        world.sync("docs", &[]).ok();
        let acknowledged = Instant::now();
        within_5_s(acknowledged, "an asset of a page", || {
            (0..ISOLATES).all(|isolate| {
                let page = at(&world, isolate, "docs", "/");
                assert_eq!(page.status, 200, "{page:?}");
                let asset = statuses(&world, "docs", asset_of(&page.text()));
                asset == [200; ISOLATES]
            })
        });
    }
}

/// The number of publishes of the test command; `cargo xtask unkind` does more.
fn publishes() -> usize {
    let said = std::env::var("PMX_UNKIND_PUBLISHES").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(60)
}

#[test]
fn publishes_succeed_once_each_although_operations_fail() {
    let Some(world) = world(&[("PMX_UNKIND_FAULTS", "0.02"), ("PMX_UNKIND_RESETS", "0.02")]) else {
        return;
    };
    for number in 1..=publishes() {
        version(&world, number);
        let ran = world.sync("docs", &[]).ok();
        assert_eq!(ran.number("/deploy"), number as u64, "{ran:?}");
        assert_eq!(ran.at("/outcome"), "published", "{ran:?}");
    }
    let deploys = world.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    let listed = deploys.last();
    let newest = listed.pointer("/deploys/0/number").and_then(Value::as_u64);
    assert_eq!(newest, Some(publishes() as u64), "{listed}");
    for kind in ["stub space", "reset SpaceDO"] {
        assert!(faults(&world, kind) > 0, "no fault of {kind}");
    }
}

#[test]
fn uploads_of_a_client_that_left_are_kept() {
    let Some(world) = world(&[("PMX_UNKIND_SLOW_MS", "2000")]) else {
        return;
    };
    world.write_bytes("film.bin", &noise(1, 3 * MIB));
    let mut client = world.command(&sync_args("docs", &[]));
    let mut client = client.stderr(Stdio::null()).spawn().unwrap();
    eventually("the isolate writes to R2", || {
        faults(&world, "begun: r2 put") > 0
    });
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("what was begun is written", || {
        faults(&world, "done: r2 put") == faults(&world, "begun: r2 put")
    });
    let again = world.sync("docs", &[]).ok();
    assert!(again.number("/bytes/sent") < MIB as u64, "{again:?}");
}

/// The largest memory of an isolate in bytes: of its module, and of JavaScript.
fn memory(world: &World) -> (u64, u64) {
    let report = world.ask("GET", "", "/.unkind/report", &[], b"").json();
    let peaks = world.ask("GET", "", "/.unkind/memory", &[], b"").json();
    let module = report["ISOLATE_0"]["module"].as_u64().unwrap();
    (module, peaks["isolate-0"].as_u64().unwrap())
}

#[test]
fn large_bodies_at_once_fit_into_one_isolate() {
    let settings = [
        ("PMX_UNKIND_ISOLATES", "1"),
        ("PMX_UNKIND_MEMORY", "1"),
        ("PMX_UNKIND_SLOW_MS", "200"),
    ];
    let Some(world) = world(&settings) else {
        return;
    };
    world.write(&[("index.html", "home")]);
    world.sync("docs", &[]).ok();
    let mut publishers: Vec<Child> = (0..4).map(|number| publisher(&world, number)).collect();
    let body = noise(9, 16 * MIB);
    let media = [("content-type", "application/octet-stream")];
    let made = world.request("PUT", "", "/v1/stream/film", &media, b"");
    assert_eq!(made.status, 201, "{made:?}");
    let mut appended = 0;
    while publishers
        .iter_mut()
        .any(|one| one.try_wait().unwrap().is_none())
    {
        let answer = world.request("POST", "", "/v1/stream/film", &media, &body);
        assert!(matches!(answer.status, 200 | 204 | 503), "{answer:?}");
        appended += usize::from(answer.status != 503);
        assert_eq!(world.get("docs", "/").text(), "home");
    }
    assert!(appended > 0, "an append found room");
    for mut publisher in publishers {
        assert!(publisher.wait().unwrap().success());
    }
    let (module, javascript) = memory(&world);
    assert!(javascript > MIB as u64, "it is measured: {javascript}");
    println!("module {module}, JavaScript {javascript} bytes at most");
    assert!(module + javascript < 100_000_000, "{module} + {javascript}");
}

#[test]
fn refused_appends_are_read_a_piece_at_a_time() {
    let settings = [("PMX_UNKIND_ISOLATES", "1"), ("PMX_UNKIND_MEMORY", "1")];
    let Some(world) = world(&settings) else {
        return;
    };
    let media = [
        ("content-type", "application/octet-stream"),
        ("producer-epoch", "none"),
    ];
    let body = noise(9, 16 * MIB);
    for _ in 0..3 {
        let refused = world.request("POST", "", "/v1/stream/film", &media, &body);
        assert_eq!(refused.status, 400, "{refused:?}");
    }
    let (module, _) = memory(&world);
    assert!(module < 8 * MIB as u64, "{module} bytes of module");
}

/// Publishes 24 MiB of incompressible bytes.
fn publisher(world: &World, number: u64) -> Child {
    let folder = format!("site-{number}");
    let path = world.temp.path().join(&folder);
    std::fs::create_dir(&path).unwrap();
    for file in 0..3 {
        std::fs::write(
            path.join(format!("{file}.bin")),
            noise(number * 8 + file, 8 * MIB),
        )
        .unwrap();
    }
    let space = format!("film-{number}");
    let mut client = world.command(&["sync", &folder, "--space", &space]);
    client.env(
        "PMX_CACHE",
        world.temp.path().join(format!("cache-{number}")),
    );
    client.stdout(Stdio::null()).spawn().unwrap()
}

const MIB: usize = 1024 * 1024;
