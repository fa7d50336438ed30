//! Custom domains: hosts outside of the server's domain show a space, once a record proves them.

mod resolver;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::live::socket::Socket;
use crate::world::{Answer, Host, Ran, World, eventually, raw, started_on_kind_hosts};
use resolver::Resolver;

started_on_kind_hosts!(
    domain_shows_its_space_once_its_record_is_there,
    domain_belongs_to_one_space,
    domain_goes_with_its_space,
    domain_outlives_a_restart_and_a_resolver_that_is_down,
    domain_without_its_record_is_found_by_the_daily_check,
    domain_names_are_checked,
    domain_serves_live_pages,
    unknown_hosts_get_one_answer,
);

const HOST: &str = "docs.example.com";

/// A server in public mode, and the resolver that it asks.
fn world(host: Host) -> (World, Resolver) {
    let resolver = Resolver::start();
    let settings = [
        ("DOH_URL", resolver.url()),
        ("PUBLIC_URL", "http://localhost"),
    ];
    let world = World::with_settings(host, &settings);
    world.write(&[
        ("index.html", "<body>home</body>"),
        ("a.html", "<body>a</body>"),
    ]);
    world.sync("docs", &[]).ok();
    (world, resolver)
}

fn domain(world: &World, args: &[&str], space: &str) -> Ran {
    world.pmx(&[&["domain"], args, &["--space", space, "--json"]].concat())
}

fn at_host(world: &World, method: &str, host: &str, path: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    raw(world.server.port, request.as_bytes(), method == "HEAD")
}

fn get(world: &World, host: &str, path: &str) -> Answer {
    at_host(world, "GET", host, path)
}

fn becomes(world: &World, host: &str, status: u16) {
    eventually("readers see the route", || {
        get(world, host, "/").status == status
    });
}

/// Adds a domain and sets its record, without a check.
fn added(world: &World, resolver: &Resolver, host: &str, space: &str) -> Ran {
    let ran = domain(world, &["add", host], space).ok();
    let text = |name| ran.at(name).as_str().unwrap().to_owned();
    resolver.set(
        &text("/record/name"),
        &["v=spf1 -all", &text("/record/value")],
    );
    ran
}

fn domain_shows_its_space_once_its_record_is_there(host: Host) {
    let (world, resolver) = world(host);
    let ran = domain(&world, &["add", "Docs.Example.com."], "docs").ok();
    assert_eq!(ran.at("/state"), json!("pending"));
    assert_eq!(ran.at("/record/name"), json!("_pmx.docs.example.com"));
    let value = ran.at("/record/value").as_str().unwrap().to_owned();
    assert!(
        value.starts_with("pmx-domain=") && value.len() == 11 + 65,
        "{value}"
    );
    assert_eq!(domain(&world, &["check", HOST], "docs").code, 1);
    // A record of another challenge proves nothing.
    resolver.set(
        "_pmx.docs.example.com",
        &["pmx-domain=0.1", &value[..value.len() - 1]],
    );
    assert_eq!(domain(&world, &["check", HOST], "docs").code, 1);
    assert_eq!(get(&world, HOST, "/").status, 404);
    resolver.set("_pmx.docs.example.com", &["v=spf1 -all", &value]);
    let ran = domain(&world, &["check", HOST], "docs").ok();
    assert_eq!(ran.at("/state"), json!("active"));
    becomes(&world, HOST, 200);
    for (host, path, text) in [
        (HOST, "/", "<body>home</body>"),
        ("DOCS.example.com:8443", "/a", "<body>a</body>"),
        ("docs.example.com.", "/a", "<body>a</body>"),
    ] {
        let page = get(&world, host, path);
        assert_eq!((page.status, &*page.text()), (200, text), "{host}{path}");
        assert_eq!(page.header("x-robots-tag"), None, "it is the site itself");
    }
    let head = at_host(&world, "HEAD", HOST, "/a");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("14"))
    );
    // No API answers there, and no other host of the zone shows the site.
    assert_eq!(get(&world, HOST, "/api/deploys?space=docs").status, 404);
    assert_eq!(
        at_host(&world, "POST", HOST, "/api/publish/begin").status,
        404
    );
    assert_eq!(at_host(&world, "POST", HOST, "/a").status, 405);
    for other in ["example.com", "a.docs.example.com", "1--docs.example.com"] {
        assert_eq!(get(&world, other, "/").status, 404, "{other}");
    }
    // The host follows the site.
    world.write(&[("a.html", "<body>new</body>")]);
    world.sync("docs", &[]).ok();
    eventually("the host shows the new deploy", || {
        get(&world, HOST, "/a").text() == "<body>new</body>"
    });
    let listed = domain(&world, &["list"], "docs").ok().at("/domains");
    let shown = |name: &str| listed.pointer(name).cloned().unwrap_or_default();
    assert_eq!(
        [shown("/0/host"), shown("/0/state"), shown("/1")],
        [json!(HOST), json!("active"), Value::Null]
    );
    assert_eq!(
        domain(&world, &["rm", HOST], "docs").ok().at("/removed"),
        json!(true)
    );
    becomes(&world, HOST, 404);
    assert_eq!(
        domain(&world, &["rm", HOST], "docs").ok().at("/removed"),
        json!(false)
    );
    domain(&world, &["check", HOST], "docs").fails(1, "E_NOT_FOUND");
}

fn domain_belongs_to_one_space(host: Host) {
    let (world, resolver) = world(host);
    world.sync("blog", &[]).ok();
    added(&world, &resolver, HOST, "docs");
    domain(&world, &["check", HOST], "docs").ok();
    domain(&world, &["add", HOST], "blog").fails(6, "E_DOMAIN_TAKEN");
    domain(&world, &["add", HOST, "--unverified"], "blog").fails(6, "E_DOMAIN_TAKEN");
    domain(&world, &["rm", HOST], "docs").ok();
    // The record of the first space proves nothing for the second.
    let ran = domain(&world, &["add", HOST], "blog").ok();
    assert_eq!(ran.at("/state"), json!("pending"));
    added(&world, &resolver, HOST, "blog");
    let ran = domain(&world, &["check"], "blog").ok();
    assert_eq!(ran.at("/state"), json!("active"));
    // An apex, `www` and others, each by itself.
    let asked = resolver.asked();
    for host in ["example.com", "www.example.com"] {
        let ran = domain(&world, &["add", host, "--unverified"], "docs").ok();
        assert_eq!(ran.at("/state"), json!("unverified"));
        becomes(&world, host, 200);
    }
    assert_eq!(
        resolver.asked(),
        asked,
        "nothing is looked up for a host that is vouched for"
    );
}

fn domain_goes_with_its_space(host: Host) {
    let (world, _resolver) = world(host);
    domain(&world, &["add", HOST, "--unverified"], "docs").ok();
    becomes(&world, HOST, 200);
    let deleted = world
        .pmx(&["spaces", "delete", "docs", "--yes", "--json"])
        .ok();
    assert_eq!(deleted.number("/domains"), 1);
    // A space that takes the name does not get the host, once readers see that the route is gone;
    // another space may have it.
    world.sync("docs", &[]).ok();
    eventually("the site is back, and not at the host", || {
        world.get("docs", "/").status == 200 && get(&world, HOST, "/").status == 404
    });
    world.sync("blog", &[]).ok();
    domain(&world, &["add", HOST, "--unverified"], "blog").ok();
    becomes(&world, HOST, 200);
}

fn domain_outlives_a_restart_and_a_resolver_that_is_down(host: Host) {
    let (mut world, resolver) = world(host);
    added(&world, &resolver, HOST, "docs");
    domain(&world, &["check", HOST], "docs").ok();
    becomes(&world, HOST, 200);
    resolver.set_down(true);
    world.server.kill();
    world.restart();
    becomes(&world, HOST, 200);
    let ran = domain(&world, &["check", HOST], "docs").ok();
    assert_eq!(ran.at("/state"), json!("active"));
    assert!(
        ran.at("/fault").as_str().unwrap().contains("resolver"),
        "{ran:?}"
    );
    // A record that is gone ends the host later, and says when.
    resolver.set_down(false);
    resolver.set("_pmx.docs.example.com", &[]);
    let ran = domain(&world, &["check", HOST], "docs").ok();
    assert_eq!(ran.at("/state"), json!("failing"));
    let days = (ran.number("/ends") - ran.number("/checked")) / 86_400_000;
    assert_eq!(days, 3);
    assert_eq!(get(&world, HOST, "/").status, 200);
}

fn domain_without_its_record_is_found_by_the_daily_check(host: Host) {
    let (mut world, resolver) = world(host);
    added(&world, &resolver, HOST, "docs");
    domain(&world, &["check", HOST], "docs").ok();
    let shown = |world: &World| {
        let ran = world
            .pmx(&["status", "site", "--space", "docs", "--json"])
            .ok();
        let state = ran.at("/domains/0/state").as_str().unwrap().to_owned();
        (state, resolver.asked())
    };
    let (state, asked) = shown(&world);
    assert_eq!(state, "active");
    resolver.set("_pmx.docs.example.com", &[]);
    world.server.kill();
    let due = "UPDATE domain SET due = 1";
    if host == Host::Embedded {
        let path = world.temp.path().join("data/access.db");
        let registry = Connection::open(path).unwrap();
        assert_eq!(registry.execute(due, []).unwrap(), 1);
    } else {
        world.objects().run_in("DomainsDO", due);
        world.objects().wake_all(true);
    }
    world.restart();
    eventually("the alarm looks the record up", || {
        shown(&world) == ("failing".to_owned(), asked + 1)
    });
    assert_eq!(get(&world, HOST, "/").status, 200);
}

fn domain_names_are_checked(host: Host) {
    let (world, _resolver) = world(host);
    for odd in [
        "127.0.0.1",
        "docs",
        "docs.localhost",
        "localhost",
        "a.example.com:80",
        "::1",
    ] {
        domain(&world, &["add", odd], "docs").fails(2, "E_DOMAIN_INVALID");
    }
    let token = world.token();
    let send = |host: &str| {
        let body = json!({ "v": 1, "space": "docs", "host": host }).to_string();
        let headers = [
            ("authorization", &*token),
            ("content-type", "application/json"),
        ];
        world.request("POST", "", "/api/domains", &headers, body.as_bytes())
    };
    for odd in [
        "b\u{fc}cher.example",
        "docs.localhost.",
        "a.example.com/b",
        "[::1]",
    ] {
        let refused = send(odd);
        assert_eq!(refused.status, 422, "{odd}: {refused:?}");
        assert!(
            refused.text().contains("E_DOMAIN_INVALID"),
            "{odd}: {refused:?}"
        );
    }
    let ran = domain(
        &world,
        &["add", "B\u{fc}cher.example", "--unverified"],
        "docs",
    )
    .ok();
    assert_eq!(ran.at("/host"), json!("xn--bcher-kva.example"));
    becomes(&world, "xn--bcher-kva.example", 200);
    domain(&world, &["add", HOST], "missing").fails(1, "E_NOT_FOUND");
    assert_eq!(domain(&world, &["check"], "docs").code, 0);
}

fn domain_serves_live_pages(host: Host) {
    let (world, _resolver) = world(host);
    world.write(&[("a.html", "<body>live</body>")]);
    world.sync("docs", &["--live"]).ok();
    domain(&world, &["add", HOST, "--unverified"], "docs").ok();
    becomes(&world, HOST, 200);
    assert!(get(&world, HOST, "/a").text().contains("<script"));
    let events = get(&world, HOST, "/_events?offset=-1");
    assert_eq!(events.status, 200, "{events:?}");
    let authority = format!("{HOST}:{}", world.server.port);
    let open = |origin: &str| {
        let headers = [("sec-websocket-protocol", "pmx.v1"), ("origin", origin)];
        Socket::open_at(world.server.port, &authority, &headers)
    };
    let other = format!("http://docs.localhost:{}", world.server.port);
    assert_eq!(
        open(&other).err(),
        Some(403),
        "pages of other hosts are foreign"
    );
    let mut socket = open(&format!("http://{authority}")).unwrap();
    socket.say(r#"{"page":"/a"}"#);
    socket.frame();
    world.write(&[("a.html", "<body>newer</body>")]);
    world.sync("docs", &["--live"]).ok();
    let event = socket.frame();
    assert!(event.to_string().contains("/a"), "{event}");
}

fn unknown_hosts_get_one_answer(host: Host) {
    let (world, _resolver) = world(host);
    domain(&world, &["add", "waits.example.com"], "docs").ok();
    let of = |host: &str| {
        let page = get(&world, host, "/");
        (page.status, page.text())
    };
    let unknown = of("unknown.example.com");
    assert_eq!(unknown.0, 404);
    assert!(
        unknown
            .1
            .contains("no site on this server has this host name"),
        "{unknown:?}"
    );
    assert_eq!(of("waits.example.com"), unknown);
    assert_eq!(of("1.2.3.4").0, 404);
}

/// In local mode, a host that was added is no stranger's, and any other still is.
#[test]
fn domain_in_local_mode_is_no_foreign_host() {
    let world = World::new();
    world.write(&[("index.html", "<body>home</body>")]);
    world.sync("docs", &[]).ok();
    let refused = get(&world, HOST, "/");
    assert!(
        refused.status == 403 && refused.text().contains("E_HOST_FOREIGN"),
        "{refused:?}"
    );
    domain(&world, &["add", HOST, "--unverified"], "docs").ok();
    assert_eq!(get(&world, HOST, "/").status, 200);
    // Its pages are foreign to the API and to all other sites.
    let port = world.server.port;
    for (host, origin, expected) in [
        (HOST, HOST, 200),
        (HOST, "evil.example", 403),
        ("docs.localhost", HOST, 403),
        ("localhost", HOST, 403),
    ] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: http://{origin}:{port}\r\n\
             Connection: close\r\n\r\n"
        );
        let answer = raw(port, request.as_bytes(), false);
        assert_eq!(answer.status, expected, "{host} {origin}");
    }
    assert_eq!(get(&world, "other.example.com", "/").status, 403);
}
