//! HTTPS settings of a deployed Worker: redirects, headers for an edge, and sampled log lines.

use std::fs;

use tempfile::TempDir;

use crate::world::{Answer, Host, Server, World, eventually, raw, skipped, worker_lacks};

/// A Worker with environment variables.
fn worker(settings: &[(&str, &str)]) -> Option<World> {
    World::of_worker(Host::Worker, settings)
}

/// Sends a request as if by HTTPS: the local runtime passes the Worker another URL than the
/// requested one.
fn by_https(world: &World, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let address = format!("https://{host}{path}");
    let all = [&[("mf-original-url", address.as_str())][..], headers].concat();
    world.get_with(host.strip_suffix(".localhost").unwrap_or(""), path, &all)
}

/// The Worker has a data folder of its own, so that `pmx` can't publish by HTTP here.
const HTTPS: (&str, &str) = ("SITE_SCHEME", "https");

#[test]
fn plain_http_leads_to_https_and_takes_no_token() {
    let Some(world) = worker(&[HTTPS]) else {
        return;
    };
    for (method, host, path) in [
        ("GET", "docs", "/a%20b?c=d"),
        ("HEAD", "docs", "/"),
        ("POST", "", "/api/publish/begin"),
        ("GET", "docs", "/_events?offset=-1"),
        ("GET", "", "/v1/stream/a?offset=-1"),
    ] {
        let answer = world.request(method, host, path, &[], b"");
        assert_eq!(answer.status, 308, "{method} {path}: {answer:?}");
        let location = answer.header("location").unwrap();
        assert!(location.starts_with("https://"), "{location}");
        assert!(location.ends_with(path), "{location}");
        assert_eq!(answer.header("strict-transport-security"), None);
    }
    // Also with the right token, because others could read it on its way.
    let token = world.token();
    for (host, path) in [
        ("", "/api/deploys?space=docs"),
        ("docs", "/_events?offset=-1"),
        ("", "/v1/stream/a"),
    ] {
        let answer = world.get_with(host, path, &[("authorization", &token)]);
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert_eq!(answer.json()["code"], "E_INSECURE", "{answer:?}");
        assert!(!answer.text().contains(&token[7..]), "{answer:?}");
    }
    let ran = world.pmx(&["deploys", "--space", "docs"]);
    let ran = ran.fails(4, "E_INSECURE");
    assert!(ran.stderr.contains("https"), "{ran:?}");
    // HTTPS requests work as before.
    let health = by_https(&world, "localhost", "/healthz", &[]);
    assert_eq!(health.status, 200, "{health:?}");
    let strict = health.header("strict-transport-security");
    assert_eq!(strict, Some("max-age=15552000"));
    let deploys = "/api/deploys?space=docs";
    let answer = by_https(&world, "localhost", deploys, &[("authorization", &token)]);
    assert!(
        [200, 404].contains(&answer.status),
        "there is no such space: {answer:?}"
    );
}

#[test]
fn hsts_follows_its_setting() {
    let Some(world) = worker(&[HTTPS, ("HSTS", "off")]) else {
        return;
    };
    let health = by_https(&world, "localhost", "/healthz", &[]);
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(health.header("strict-transport-security"), None);
}

/// A page that is long enough to compress.
fn page() -> String {
    format!("<h1>page</h1>{}", "<p>words of a page</p>".repeat(50))
}

/// The Worker's own response. The local runtime's edge takes the accepted codings from a header of
/// the client, and does not change the response.
fn read(world: &World, accepted: &str) -> Answer {
    world.get_with("docs", "/", &[("accept-encoding", accepted)])
}

#[test]
fn no_transform_is_set_on_compressed_bodies_only() {
    let Some(world) = worker(&[]) else {
        return;
    };
    world.write(&[("index.html", &page())]);
    world.sync("docs", &[]).ok();
    let caching = "public, max-age=0, must-revalidate";
    let frame = read(&world, "zstd");
    assert_eq!(frame.header("content-encoding"), Some("zstd"), "{frame:?}");
    let kept = format!("{caching}, no-transform");
    assert_eq!(frame.header("cache-control"), Some(&*kept));
    let open = read(&world, "identity");
    assert_eq!(open.header("content-encoding"), None, "{open:?}");
    assert_eq!(open.header("cache-control"), Some(caching));
    assert_eq!(open.text(), page());
}

#[test]
fn zstd_setting_off_sends_open_bodies() {
    let Some(world) = worker(&[("ZSTD", "off")]) else {
        return;
    };
    world.write(&[("index.html", &page())]);
    world.sync("docs", &[]).ok();
    for accepted in ["zstd", "gzip, br, zstd, dcz", "identity"] {
        let answer = read(&world, accepted);
        let coding = answer.header("content-encoding");
        assert_ne!(coding, Some("zstd"), "{accepted}: {answer:?}");
        let caching = answer.header("cache-control");
        assert_eq!(caching, Some("public, max-age=0, must-revalidate"));
    }
    assert_eq!(read(&world, "identity").text(), page());
}

/// The paths of which the Worker logged a line.
fn logged(world: &World) -> Vec<String> {
    let log = fs::read_to_string(world.temp.path().join("data.log")).unwrap();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let lines = lines.filter(|line| line["type"] == "request");
    lines
        .filter_map(|line| Some(line["path"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn log_has_errors_and_publishes_and_a_share_of_page_views() {
    let Some(world) = worker(&[("LOG_SAMPLE", "0")]) else {
        return;
    };
    world.write(&[("index.html", &page())]);
    world.sync("docs", &[]).ok();
    for _ in 0..20 {
        assert_eq!(world.get("docs", "/").status, 200);
        assert_eq!(world.get("docs", "/nothing").status, 404);
    }
    // Lines have the order of requests, so a line that is missing now is missing for ever.
    let refused = world.get("", "/api/deploys?space=docs");
    assert_eq!(refused.status, 401);
    eventually("the refusal has a line", || {
        logged(&world).iter().any(|path| path == "/api/deploys")
    });
    let paths = logged(&world);
    assert!(
        paths.iter().any(|path| path.starts_with("/api/publish")),
        "{paths:?}"
    );
    let views = paths.iter().filter(|path| !path.starts_with("/api/"));
    assert_eq!(views.count(), 0, "{paths:?}");
}

#[test]
fn invalid_variable_closes_the_server() {
    let Some(lack) = worker_lacks() else {
        let temp = TempDir::new().unwrap();
        let settings = [("LOG_SAMPLE", "often")];
        let server = Server::start_with(Host::Worker, &temp.path().join("data"), 0, &settings);
        let ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answer = raw(server.port, ask, false);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.json()["code"], "E_NOT_CONFIGURED", "{answer:?}");
        return;
    };
    skipped("the Worker", lack);
}

#[test]
fn wrangler_config_has_routes_no_shared_cache_and_few_log_lines() {
    let file = |path: &str| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/");
        fs::read_to_string(format!("{root}{path}")).unwrap()
    };
    let (config, local) = (file("wrangler.toml"), file("local.js"));
    let lines: Vec<&str> = config
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let config = lines.join("\n");
    for part in [
        "{ pattern = \"path.app/*\"",
        "{ pattern = \"*.path.app/*\"",
        "[cache]\nenabled = false\n",
        "[durable_objects.code_update_strategy]\nmode = \"deferred\"\n",
        "invocation_logs = false",
    ] {
        assert!(config.contains(part), "{part}");
    }
    // The local runtime has the compatibility date of the deployment.
    let date = lines
        .iter()
        .find_map(|line| line.strip_prefix("compatibility_date = "));
    let date = date.expect("a date");
    assert!(
        local.contains(&format!("compatibilityDate: {date}")),
        "{date}"
    );
}
