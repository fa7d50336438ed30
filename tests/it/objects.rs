//! Objects in S3: stories of a host that keeps its objects in a bucket.

mod bucket;
mod port;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{Host, Server, World, eventually, noise, or_skip};
use bucket::{BUCKET, Bucket, SECRET, SESSION};

/// The place of the objects.
const PLACE: &str = "s3://sites/hosts/prod";

/// A host with its objects in the bucket.
fn world(bucket: &Bucket) -> World {
    let settings = bucket.settings(PLACE);
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    World::with_settings(Host::Embedded, &settings)
}

fn log(world: &World) -> String {
    fs::read_to_string(world.temp.path().join("data.log")).unwrap()
}

/// The keys of objects; fails if there is a key of another form.
fn objects(bucket: &Bucket) -> Vec<String> {
    let mut keys = bucket.keys();
    keys.retain(|key| key != "hosts/prod/owner");
    for key in &keys {
        let own = key.strip_prefix("hosts/prod/spaces/");
        let (space, object) = own.and_then(|own| own.split_once('/')).expect(key);
        let is_id = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(is_id(space) && is_id(object), "{key}");
    }
    keys
}

#[test]
fn site_is_served_from_a_bucket() {
    let bucket = or_skip!(Bucket::start());
    let mut world = world(&bucket);
    world.write(&[("index.html", "<body>one</body>"), ("a.css", "body{}")]);
    world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/").text(), "<body>one</body>");
    let first = objects(&bucket);
    assert!(!first.is_empty());
    world.write(&[("index.html", "<body>two</body>")]);
    world.sync("docs", &[]).ok();
    assert!(objects(&bucket).len() > first.len());
    // The data folder has ledgers and no objects.
    world.server.kill();
    let data = world.temp.path().join("data");
    assert!(!data.join("objects").exists());
    assert!(data.join("spaces/docs.db").exists());
    world.restart();
    assert_eq!(world.get("docs", "/").text(), "<body>two</body>");
    assert_eq!(world.get("1--docs", "/").text(), "<body>one</body>");
    assert_eq!(world.get("docs", "/a.css").text(), "body{}");
    let said = log(&world);
    assert!(
        said.contains("objects are kept in s3://sites/hosts/prod"),
        "{said}"
    );
}

#[test]
fn large_file_is_sent_in_ranges() {
    let bucket = or_skip!(Bucket::start());
    let mut world = world(&bucket);
    let bytes = noise(1, 9 * 1024 * 1024 + 7);
    world.write_bytes("big.bin", &bytes);
    world.sync("docs", &[]).ok();
    world.server.kill();
    world.restart();
    assert!(world.get("docs", "/big.bin").body == bytes);
    let part = world.get_with("docs", "/big.bin", &[("Range", "bytes=8388600-9437100")]);
    assert_eq!(part.status, 206);
    assert!(part.body == bytes[8_388_600..=9_437_100]);
}

#[test]
fn collection_and_deletion_empty_the_bucket() {
    let bucket = or_skip!(Bucket::start());
    let world = world(&bucket);
    for seed in 1..=2 {
        world.write_bytes("index.html", &noise(seed, 4_000));
        world.sync("docs", &[]).ok();
    }
    let before = objects(&bucket);
    let pmx = |args: &[&str]| world.pmx(&[args, &["--space", "docs", "--json"]].concat());
    pmx(&["deploys", "rm", "1", "--yes", "--purge"]).ok();
    eventually("nothing waits for a collection", || {
        pmx(&["gc"]).ok().at("/waiting") == json!(0)
    });
    assert_eq!(objects(&bucket).len() + 2, before.len(), "{before:?}");
    assert_eq!(world.get("docs", "/").body, noise(2, 4_000));
    let delete = ["spaces", "delete", "docs", "--yes", "--purge"];
    world.pmx(&delete).ok();
    eventually("the bucket is empty", || objects(&bucket).is_empty());
}

#[test]
fn host_waits_for_a_store_that_stopped() {
    let bucket = or_skip!(Bucket::start());
    let mut world = world(&bucket);
    world.write(&[
        ("index.html", "<body>one</body>"),
        ("other.html", "<body>other</body>"),
    ]);
    world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/").status, 200);
    bucket.cut(true);
    assert_eq!(
        world.get("docs", "/").text(),
        "<body>one</body>",
        "from the cache"
    );
    let other = world.get("docs", "/other");
    assert!([200, 503].contains(&other.status), "{other:?}");
    world.write_bytes("index.html", &noise(1, 9_000));
    let refused = world.sync("docs", &[]);
    refused.fails(5, "E_UNAVAILABLE");
    // A host that starts without its store serves nothing of it, and has lost nothing.
    world.server.kill();
    world.restart();
    assert_eq!(world.get("docs", "/").status, 503);
    bucket.cut(false);
    eventually("the page is back", || {
        world.get("docs", "/").text() == "<body>one</body>"
    });
    world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/").body, noise(1, 9_000));
    assert_eq!(world.get("1--docs", "/other").text(), "<body>other</body>");
}

#[test]
fn bucket_that_is_missing_is_no_lost_content() {
    let bucket = or_skip!(Bucket::start());
    let world = world(&bucket);
    let mut serve = world.command(&["serve", "--listen", "127.0.0.1:0", "--data", "elsewhere"]);
    serve.envs(bucket.settings("s3://no-such-bucket"));
    let refused = crate::world::Ran::from(serve.output().unwrap()).fails(1, "E_STORAGE");
    assert!(refused.stderr.contains("404 NoSuchBucket"), "{refused:?}");
}

#[test]
fn no_output_shows_a_credential() {
    let bucket = or_skip!(Bucket::start());
    let world = world(&bucket);
    world.write(&[("index.html", "<body>one</body>")]);
    let mut said = format!("{:?}", world.sync("docs", &[]).ok());
    bucket.cut(true);
    world.write_bytes("index.html", &noise(1, 9_000));
    said += &format!("{:?}", world.sync("docs", &[]));
    let credentials = world.temp.path().join("credentials");
    let text = format!("AWS_SECRET_ACCESS_KEY={SECRET}\nnonsense {SESSION}\n");
    fs::write(&credentials, text).unwrap();
    let serve = |args: &[&str], settings: &[(&str, &str)]| {
        let start = [
            "serve",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--data",
            "elsewhere",
        ];
        let mut serve = world.command(&[&start[..], args].concat());
        serve.envs(settings.iter().copied());
        let ran = crate::world::Ran::from(serve.output().unwrap());
        assert_ne!(ran.code, 0, "{ran:?}");
        format!("{ran:?}")
    };
    let near = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let with_user = format!("https://me:{SECRET}@store.example");
    let place_with_user = format!("s3://me:{SECRET}@sites/a");
    let file = ["--objects", PLACE, "--objects-credentials", "credentials"];
    for (args, settings, expected) in [
        (&file[..], [near], "can be read by others"),
        (
            &["--objects", &place_with_user],
            [near],
            "contains user information",
        ),
        (
            &["--objects", PLACE],
            [("AWS_ENDPOINT_URL", &*with_user)],
            "contains user information",
        ),
        (
            &["--objects", PLACE],
            [("AWS_ENDPOINT_URL", "http://far.example")],
            "AWS_ALLOW_HTTP",
        ),
        (&["--objects", "gs://sites"], [near], "s3://"),
        (&["--take-over"], [near], "--objects"),
    ] {
        let ran = serve(args, &settings);
        assert!(ran.contains(expected), "{ran}");
        said += &ran;
    }
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
    let ran = serve(&file, &[near]);
    assert!(ran.contains("line 2"), "{ran}");
    said += &ran;
    said += &log(&world);
    for secret in [SECRET, SESSION, "hunter2"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn one_server_owns_a_prefix_until_another_takes_over() {
    let bucket = or_skip!(Bucket::start());
    let first = world(&bucket);
    first.write(&[("index.html", "<body>one</body>")]);
    first.sync("docs", &[]).ok();
    first.write(&[("index.html", "<body>two</body>")]);
    first.sync("docs", &[]).ok();
    assert!(bucket.text("hosts/prod/owner").contains("\"epoch\":1"));
    // Another server with a copy of the ledger, as from a backup.
    let mut second = world(&bucket);
    let folder = |world: &World| world.temp.path().join("data/spaces");
    second.server.kill();
    fs::create_dir_all(folder(&second)).unwrap();
    for entry in fs::read_dir(folder(&first)).unwrap().flatten() {
        fs::copy(entry.path(), folder(&second).join(entry.file_name())).unwrap();
    }
    fs::remove_file(second.temp.path().join("data/host.db")).unwrap();
    second.restart();
    assert_eq!(second.get("docs", "/").text(), "<body>two</body>");
    second.write(&[("index.html", "<body>three</body>")]);
    let refused = second.sync("docs", &["--force"]).fails(1, "E_STORAGE");
    let said = format!("{refused:?}");
    assert!(said.contains("--take-over"), "{said}");
    second.server.kill();
    let data = second.temp.path().join("data");
    let settings = bucket.settings(PLACE);
    let mut settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    settings.push(("TAKE_OVER", "true"));
    second.server = Server::start_with(Host::Embedded, &data, second.server.port, &settings);
    assert!(bucket.text("hosts/prod/owner").contains("\"epoch\":2"));
    second.sync("docs", &["--force"]).ok();
    // The former owner learns of it before it deletes anything.
    refuses_to_delete(&first, &bucket, "--take-over");
    assert_eq!(first.get("docs", "/").text(), "<body>two</body>");
    let rollback = first.pmx(&["rollback", "1", "--space", "docs", "--json"]);
    rollback.fails(1, "E_STORAGE");
}

/// Checks that a former owner refuses to purge and to collect, for this reason, and deletes no
/// object.
fn refuses_to_delete(former: &World, bucket: &Bucket, why: &str) {
    let before = objects(bucket);
    let pmx = |args: &[&str]| former.pmx(&[args, &["--space", "docs", "--json"]].concat());
    let purge = pmx(&["deploys", "rm", "1", "--yes", "--purge"]);
    let collected = pmx(&["gc"]);
    let refusals = format!("{purge:?} {collected:?}");
    assert!(refusals.contains(why), "{refusals}");
    let after = objects(bucket);
    let is_whole = before.iter().all(|key| after.contains(key));
    assert!(is_whole, "{before:?} {after:?}");
}

#[test]
fn newest_start_of_two_copies_of_a_data_folder_owns_the_prefix() {
    let bucket = or_skip!(Bucket::start());
    let mut first = world(&bucket);
    for seed in 1..=2 {
        first.write_bytes("index.html", &noise(seed, 4_000));
        first.sync("docs", &[]).ok();
    }
    let data = |world: &World| world.temp.path().join("data");
    // The copy is whole, with the file `server-id`.
    let mut second = world(&bucket);
    second.server.kill();
    first.server.kill();
    fs::remove_dir_all(data(&second)).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([data(&first), data(&second)])
        .status();
    assert!(copied.unwrap().success());
    first.restart();
    assert!(bucket.text("hosts/prod/owner").contains("\"epoch\":2"));
    second.restart();
    assert!(bucket.text("hosts/prod/owner").contains("\"epoch\":3"));
    second.write(&[("index.html", "<body>two</body>")]);
    second.sync("docs", &["--force"]).ok();
    assert_eq!(second.get("docs", "/").text(), "<body>two</body>");
    // The older process finds the newer record before it deletes anything.
    refuses_to_delete(&first, &bucket, "a copy of its data folder");
    first.write(&[("index.html", "<body>three</body>")]);
    first.sync("docs", &["--force"]).fails(1, "E_STORAGE");
}

#[test]
fn store_that_ignores_conditions_is_refused() {
    let bucket = or_skip!(Bucket::start());
    bucket.ignore_conditions();
    let world = World::new();
    let mut serve = world.command(&["serve", "--listen", "127.0.0.1:0", "--data", "elsewhere"]);
    serve.envs(bucket.settings(PLACE));
    let refused = crate::world::Ran::from(serve.output().unwrap()).fails(1, "E_STORAGE");
    let said = &refused.stderr;
    assert!(said.contains("AWS_CONDITIONAL_PUT=disabled"), "{said}");
}

/// Reads of the store at once, as `cli/src/host/state.rs` has them.
const FAR_READS_MAX: usize = 12;

#[test]
fn store_that_never_answers_leaves_threads_to_other_requests() {
    let bucket = or_skip!(Bucket::start());
    let world = world(&bucket);
    world.write(&[("index.html", "<body>one</body>")]);
    world.write_bytes("big.bin", &noise(1, 2_000_000));
    world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/big.bin").status, 200);
    assert_eq!(world.get("docs", "/").status, 200);
    bucket.stall(true);
    let port = world.server.port;
    for _ in 0..60 {
        std::thread::spawn(move || {
            let request = "GET /big.bin HTTP/1.1\r\nHost: docs.localhost\r\n\r\n";
            let mut reader = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            reader.write_all(request.as_bytes()).unwrap();
            let _ended = std::io::copy(&mut reader, &mut std::io::sink());
        });
    }
    eventually("all far reads wait for the store", || {
        bucket.stalled() >= FAR_READS_MAX
    });
    let started = Instant::now();
    assert_eq!(world.get("docs", "/").text(), "<body>one</body>");
    world.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(10), "{taken:?}");
    bucket.stall(false);
}

/// Requests and times of a page, cold and warm. `cargo nextest run … --no-capture` prints them.
#[test]
fn warm_page_costs_no_request() {
    let bucket = or_skip!(Bucket::start());
    let mut world = world(&bucket);
    let page = |n: usize| format!("<body>{n} {}</body>", "all work and no play ".repeat(200));
    for n in 0..100 {
        world.write(&[(&format!("p{n}.html"), &page(n))]);
    }
    world.write_bytes("image.png", &noise(1, 300_000));
    world.sync("docs", &[]).ok();
    world.server.kill();
    world.restart();
    let measured = |what: &str, path: &str| {
        bucket.requests();
        let started = Instant::now();
        assert_eq!(world.get("docs", path).status, 200, "{path}");
        let taken = started.elapsed().as_secs_f64() * 1_000.0;
        let mut requests = bucket.requests();
        // The server looks there from time to time.
        requests.retain(|request| !request.contains("/owner"));
        println!("{what}: {} requests, {taken:.1} ms", requests.len());
        requests.len()
    };
    measured("first page of a site", "/p0");
    let cold: Vec<_> = (1..20)
        .map(|n| measured("cold page", &format!("/p{n}")))
        .collect();
    assert!(cold.iter().all(|requests| *requests <= 2), "{cold:?}");
    assert!(cold.iter().sum::<usize>() > 0, "{cold:?}");
    for n in 1..20 {
        assert_eq!(measured("warm page", &format!("/p{n}")), 0);
    }
    for what in ["cold file of 300 kB", "warm file of 300 kB"] {
        measured(what, "/image.png");
    }
    assert!(bucket.keys().len() < 20, "{BUCKET}");
}
