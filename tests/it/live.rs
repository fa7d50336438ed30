//! Live pages and event readers: each gets the events of its subscription, and never sees stale
//! bytes.

pub(crate) mod browser;
mod crowd;
mod https;
mod lagging;
mod pages;
pub(crate) mod socket;
mod visitors;

use std::thread;

use serde_json::{Value, json};

use crate::world::{Answer, Host, World, eventually, on_both_hosts, started_on_both_hosts, tcp};
use socket::{Events, Socket};

on_both_hosts!(
    waiting_readers_receive_the_next_deploy,
    events_resume_at_the_last_event_id,
    compact_events_are_one_net_difference,
    socket_receives_what_its_subscription_names,
    socket_catches_up_with_one_frame,
    sockets_are_refused_and_closed_for_cause,
    sockets_of_two_sites_receive_their_own_events_only,
    events_refuse_writes_by_clients,
    page_headers_name_deploy_and_offset,
    live_script_is_put_into_pages_of_live_deploys,
    tail_prints_deploys,
    event_lists_are_for_holders_and_sites_that_opt_in,
    silent_socket_gets_raw_events_where_the_site_opted_in,
);

mod chosen {
    use super::*;

    started_on_both_hosts!(live_setting_all_puts_the_script_into_every_page);
}

pub(crate) fn at(deploy: u64) -> String {
    format!("{:016}_{deploy:016}", 0)
}

fn site(world: &World) {
    world.write(&[
        ("index.html", "<body>home</body>"),
        ("a.html", "<body>a</body>"),
        ("b/index.html", "<body>b</body>"),
        ("style.css", "p {}"),
    ]);
    world.sync("docs", &[]).ok();
}

fn edit(world: &World, file: &str, content: &str) {
    world.write(&[(file, content)]);
    world.sync("docs", &[]).ok();
}

fn deploys(messages: &Value) -> Vec<u64> {
    let messages = messages.as_array().unwrap().iter();
    messages
        .map(|message| message["deploy"].as_u64().unwrap())
        .collect()
}

/// Reads a site's events with the server's token.
pub(crate) fn events(world: &World, site: &str, query: &str) -> Answer {
    let (path, token) = (format!("/_events?{query}"), world.token());
    world.get_with(site, &path, &[("authorization", &token)])
}

/// The token of a channel's newest deploy, as the space sends it to an event reader.
pub(crate) fn deploy_token(world: &World, site: &str) -> String {
    let answer = events(world, site, "offset=now");
    answer.header("x-pmx-know").expect("a token").to_owned()
}

/// Waits for one answer, on a thread of its own.
fn poll(world: &World, query: &str) -> thread::JoinHandle<Answer> {
    let (port, token) = (world.server.port, world.token());
    let head = format!(
        "GET /_events?live=long-poll&{query} HTTP/1.1\r\nHost: docs.localhost:{port}\r\n\
         Authorization: {token}\r\nConnection: close\r\n\r\n"
    );
    thread::spawn(move || crate::world::raw(port, head.as_bytes(), false))
}

/// Waits until `count` readers wait for the events of a site: the server has read their requests,
/// and has answered a later one.
pub(crate) fn readers_wait(world: &World, site: &str, count: usize) {
    tcp::all_read(world.server.port, count);
    assert_eq!(events(world, site, "offset=now").status, 200);
}

fn waiting_readers_receive_the_next_deploy(world: World) {
    site(&world);
    let waiting = [
        poll(&world, &format!("offset={}", at(1))),
        poll(&world, "offset=now"),
    ];
    readers_wait(&world, "docs", waiting.len());
    edit(&world, "a.html", "<body>a2</body>");
    for waiting in waiting {
        let answer = waiting.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let event = &answer.json()[0]["events"][0];
        assert_eq!(event["modified"], json!(["a.html"]));
        assert_eq!(event["paths"], json!(["/a"]));
        assert_eq!(answer.header("stream-next-offset"), Some(&*at(2)));
        assert!(answer.header("stream-cursor").is_some());
        assert!(answer.header("etag").is_some());
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("cross-origin-resource-policy");
        assert_eq!(policy, Some("same-origin"));
    }
    // A poll gets earlier deploys immediately.
    let answer = poll(&world, &format!("offset={}", at(0))).join().unwrap();
    assert_eq!(deploys(&answer.json()), [1, 2]);
}

fn events_resume_at_the_last_event_id(world: World) {
    site(&world);
    let mut events = Events::open(&world, "docs", "offset=-1", "");
    let (first, id) = events.next();
    assert_eq!((deploys(&Value::Array(first)), &*id), (vec![1], &*at(1)));
    edit(&world, "a.html", "2");
    let (second, id) = events.next();
    assert_eq!((deploys(&Value::Array(second)), &*id), (vec![2], &*at(2)));
    drop(events);
    edit(&world, "a.html", "3");
    // A browser requests the same address again, with its offset.
    let last = format!("Last-Event-ID: {id}\r\n");
    let mut again = Events::open(&world, "docs", "offset=-1", &last);
    let (third, id) = again.next();
    assert_eq!((deploys(&Value::Array(third)), &*id), (vec![3], &*at(3)));
}

fn compact_events_are_one_net_difference(world: World) {
    site(&world);
    edit(&world, "a.html", "2");
    edit(&world, "style.css", "p { color: red }");
    edit(&world, "a.html", "<body>a</body>");
    let net = |offset: &str| events(&world, "docs", &format!("offset={offset}&compact=1"));
    let answer = net(&at(1));
    assert_eq!(answer.header("stream-next-offset"), Some(&*at(4)));
    let messages = answer.json();
    assert_eq!(deploys(&messages), [4]);
    assert_eq!(messages[0]["since"], 1);
    assert_eq!(messages[0]["events"][0]["modified"], json!(["style.css"]));
    assert_eq!(messages[0]["events"][0]["paths"], json!(["/style.css"]));
    assert_eq!(net(&at(4)).json(), json!([]));
    assert_eq!(net("now").json(), json!([]));
    assert_eq!(net(&at(5)).status, 400);
    let first = net(&at(0)).json();
    assert_eq!(first[0]["events"][0]["truncated"], true);
    // Live readers can request the compact form too.
    let waited = poll(&world, &format!("offset={}&compact=1", at(1)));
    assert_eq!(deploys(&waited.join().unwrap().json()), [4]);
    let query = format!("offset={}&compact=1", at(1));
    let mut stream = Events::open(&world, "docs", &query, "");
    let (messages, id) = stream.next();
    assert_eq!((messages.len(), &*id), (1, &*at(4)));
    edit(&world, "a.html", "5");
    assert_eq!(deploys(&Value::Array(stream.next().0)), [5]);
}

fn socket_receives_what_its_subscription_names(world: World) {
    site(&world);
    let wish = r#"{"page":"/a","uses":["/style.css"],"offset":"now"}"#;
    let (mut page, first) = Socket::listen(&world, "docs", wish);
    let know = deploy_token(&world, "docs");
    let place = json!({"offset": at(1), "deploy": 1, "events": [], "know": know});
    assert_eq!(first, place);
    let (mut folder, _) = Socket::listen(&world, "docs", r#"{"page":"/b/"}"#);
    let (mut all, _) = Socket::listen(&world, "docs", r#"{"all":true}"#);
    edit(&world, "b/index.html", "2");
    assert_eq!(folder.frame()["events"][0]["paths"], json!(["/b/"]));
    assert_eq!(all.frame()["deploy"], 2);
    world.write(&[("style.css", "p { color: red }"), ("b/index.html", "3")]);
    world.sync("docs", &[]).ok();
    let frame = page.frame();
    assert_eq!(
        (&frame["deploy"], &frame["offset"]),
        (&json!(3), &json!(at(3)))
    );
    assert_eq!(frame["kind"], "publish");
    assert_eq!(frame["events"][0]["modified"], json!(["style.css"]));
    assert_eq!(
        folder.frame()["events"][0]["modified"],
        json!(["b/index.html"])
    );
    let both = all.frame();
    let modified = json!(["b/index.html", "style.css"]);
    assert_eq!(both["events"][0]["modified"], modified);
    world.pmx(&["rollback", "2", "--space", "docs"]).ok();
    let back = page.frame();
    assert_eq!(
        (&back["deploy"], &back["kind"]),
        (&json!(4), &json!("rollback"))
    );
    assert_eq!(back["prev_root"], frame["root"]);
    assert!(page.is_silent());
    world.pmx(&["resume", "--space", "docs"]).ok();
    // The page can change its subscription.
    page.say(&format!(r#"{{"page":"/","offset":"{}"}}"#, at(4)));
    assert_eq!(page.frame()["events"], json!([]));
    edit(&world, "index.html", "2");
    assert_eq!(page.frame()["events"][0]["paths"], json!(["/"]));
}

fn socket_catches_up_with_one_frame(world: World) {
    site(&world);
    for number in 0..5 {
        edit(&world, "a.html", &format!("<body>a{number}</body>"));
    }
    let wish = format!(r#"{{"page":"/a","offset":"{}"}}"#, at(1));
    let (mut page, first) = Socket::listen(&world, "docs", &wish);
    assert_eq!((&first["deploy"], &first["since"]), (&json!(6), &json!(1)));
    assert!(page.is_silent());
    let wish = format!(r#"{{"all":true,"compact":false,"offset":"{}"}}"#, at(1));
    let (mut each, first) = Socket::listen(&world, "docs", &wish);
    assert_eq!(first["deploy"], 2);
    for deploy in 3..=6 {
        assert_eq!(each.frame()["deploy"], deploy);
    }
    edit(&world, "a.html", "last");
    assert_eq!(each.frame()["deploy"], 7);
    assert_eq!(page.frame()["deploy"], 7);
}

fn sockets_are_refused_and_closed_for_cause(world: World) {
    site(&world);
    let port = world.server.port;
    let open = |site: &str, origin: Option<&str>| Socket::open(port, site, origin);
    assert_eq!(open("docs", Some("https://evil.example")).err(), Some(403));
    let sibling = format!("http://other.localhost:{port}");
    assert_eq!(open("docs", Some(&sibling)).err(), Some(403));
    assert_eq!(open("missing", None).err(), Some(404));
    let own = format!("http://docs.localhost:{port}");
    assert!(open("docs", Some(&own)).is_ok());
    for (said, code) in [
        ("{", 1007),
        (r#"{"offset":"soon"}"#, 1007),
        (&*format!(r#"{{"page":"/a","offset":"{}"}}"#, at(9)), 4410),
    ] {
        let mut socket = open("docs", None).unwrap();
        socket.say(said);
        assert_eq!(socket.text(), Err(code), "{said}");
    }
    let mut socket = open("docs", None).unwrap();
    let many = vec!["\"/x\""; 513].join(",");
    socket.say(&format!("{{\"uses\":[{many}]}}"));
    assert_eq!(socket.text(), Err(1009));
}

fn sockets_of_two_sites_receive_their_own_events_only(world: World) {
    site(&world);
    world.sync("other", &[]).ok();
    let (mut docs, _) = Socket::listen(&world, "docs", r#"{"all":true}"#);
    let (mut other, _) = Socket::listen(&world, "other", r#"{"all":true}"#);
    edit(&world, "a.html", "2");
    assert_eq!(docs.frame()["deploy"], 2);
    assert!(other.is_silent());
    world.sync("other", &[]).ok();
    assert_eq!(other.frame()["deploy"], 2);
    assert!(docs.is_silent());
}

fn events_refuse_writes_by_clients(world: World) {
    site(&world);
    for method in ["POST", "PUT", "DELETE"] {
        let answer = world.request(method, "docs", "/_events", &[], b"[1]");
        assert_eq!(answer.status, 405, "{method}");
    }
}

fn page_headers_name_deploy_and_offset(world: World) {
    site(&world);
    edit(&world, "a.html", "2");
    let page = world.get("docs", "/a");
    assert_eq!(page.header("x-pmx-deploy"), Some("2"));
    assert_eq!(page.header("stream-next-offset"), Some(&*at(2)));
    assert_eq!(page.header("server-timing"), Some("pmx;desc=\"2\""));
    assert_eq!(page.text(), "2");
    assert_eq!(
        world.get("docs", "/style.css").header("stream-next-offset"),
        None
    );
    let script = world.get("docs", "/_pmx/live.js");
    assert_eq!(
        (script.status, script.header("x-content-type-options")),
        (200, Some("nosniff"))
    );
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    let tag = script.header("etag").unwrap();
    let again = world.get_with("docs", "/_pmx/live.js", &[("if-none-match", tag)]);
    assert_eq!(again.status, 304);
}

fn live_script_is_put_into_pages_of_live_deploys(world: World) {
    site(&world);
    let plain = world.get("docs", "/a");
    assert_eq!(plain.text(), "<body>a</body>");
    world.write(&[("b/index.html", "2")]);
    world.sync("docs", &["--live"]).ok();
    let tag = plain.header("etag").unwrap().trim_start_matches("W/");
    let known = [("if-none-match", tag)];
    let page = world.get_with("docs", "/a", &known);
    assert_eq!(page.status, 200, "the page is another one now");
    let script = format!(
        "<script src=\"/_pmx/live.js\" data-deploy=\"2\" data-offset=\"{}\" async></script>\
         <body>a</body>",
        at(2)
    );
    assert_eq!(page.text(), script);
    let tag = page.header("etag").unwrap();
    let known = [("if-none-match", tag)];
    let again = world.get_with("docs", "/a", &known);
    assert_eq!(
        (again.status, again.header("x-pmx-deploy")),
        (304, Some("2"))
    );
    assert_eq!(world.get("docs", "/style.css").text(), "p {}");
    assert_eq!(world.request("HEAD", "docs", "/a", &[], b"").status, 200);
    // A deploy's own address shows the deploy as published, and never changes.
    assert_eq!(world.get("2--docs", "/a").text(), "<body>a</body>");
    // After a rollback to the deploy that was published live, the page has the script again.
    world.write(&[("b/index.html", "3")]);
    world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/a").text(), "<body>a</body>");
    world.pmx(&["rollback", "2", "--space", "docs"]).ok();
    assert!(world.get("docs", "/a").text().contains("data-deploy=\"4\""));
}

fn live_setting_all_puts_the_script_into_every_page(host: Host) {
    let world = World::with_settings(host, &[("LIVE", "all")]);
    site(&world);
    assert!(world.get("docs", "/a").text().contains("/_pmx/live.js"));
    assert_eq!(world.get("docs", "/style.css").text(), "p {}");
}

fn tail_prints_deploys(world: World) {
    use std::io::{BufRead as _, BufReader};
    site(&world);
    let mut command = world.command(&["tail", "--space", "docs", "--from", "0"]);
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::null());
    let mut tail = command.spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["deploy"], 1);
    edit(&world, "a.html", "2");
    let second = next();
    assert_eq!(
        (&second["deploy"], &second["kind"]),
        (&json!(2), &json!("publish"))
    );
    assert_eq!(second["events"][0]["paths"], json!(["/a"]));
    tail.kill().unwrap();
    tail.wait().unwrap();
}

fn event_lists_are_for_holders_and_sites_that_opt_in(world: World) {
    let port = world.server.port;
    let visitor = |site: &str, query: &str| world.get(site, &format!("/_events?{query}"));
    site(&world);
    for query in [
        "offset=-1",
        "offset=now",
        "offset=-1&compact=1",
        "offset=-1&live=long-poll",
        "offset=-1&live=sse",
    ] {
        let answer = visitor("docs", query);
        assert_eq!(answer.status, 403, "{query}: {answer:?}");
        assert_eq!(answer.json()["code"], "E_EVENTS_CLOSED", "{query}");
        assert!(!answer.text().contains("style.css"));
        assert_eq!(visitor("missing", query).status, 404, "{query}");
    }
    assert_eq!(deploys(&events(&world, "docs", "offset=-1").json()), [1]);
    // A visitor's page gets events of the paths that it names, and never a list.
    let mut page = Socket::open(port, "docs", None).unwrap();
    page.say(r#"{"page":"/a"}"#);
    assert_eq!(page.frame()["deploy"], 1);
    let mut all = Socket::open(port, "docs", None).unwrap();
    all.say(r#"{"all":true}"#);
    assert_eq!(all.text(), Err(4403));
    edit(&world, "a.html", "2");
    assert_eq!(page.frame()["events"][0]["paths"], json!(["/a"]));
    // Previews have open events. A site published with --live has them until a publish without it.
    world.sync("docs", &["--preview", "pr-7"]).ok();
    assert_eq!(visitor("pr-7--docs", "offset=-1").status, 200);
    world.write(&[("a.html", "3")]);
    world.sync("docs", &["--live"]).ok();
    eventually("the site is open", || {
        visitor("docs", "offset=-1").status == 200
    });
    let mut all = Socket::open(port, "docs", None).unwrap();
    all.say(r#"{"all":true}"#);
    assert_eq!(all.frame()["deploy"], 4);
    edit(&world, "a.html", "4");
    assert_eq!(all.text(), Err(4403), "the site is closed again");
    eventually("the site is closed", || {
        visitor("docs", "offset=-1").status == 403
    });
}

fn silent_socket_gets_raw_events_where_the_site_opted_in(world: World) {
    let port = world.server.port;
    site(&world);
    let mut closed = Socket::silent(port, "docs").unwrap();
    world.sync("open", &["--live"]).ok();
    let mut silent = Socket::silent(port, "open").unwrap();
    let mut old_tab = Socket::silent(port, "docs").unwrap();
    old_tab.say(&format!(r#"{{"page":"/a","offset":"{}"}}"#, at(1)));
    assert_eq!(old_tab.frame()["deploy"], 1);
    world.write(&[("a.html", "2"), ("style.css", "p { color: red }")]);
    world.sync("open", &["--live"]).ok();
    let raw = json!({"type": "artifacts-changed", "paths": ["/a", "/style.css"]});
    assert_eq!(silent.frame(), raw);
    world.sync("docs", &[]).ok();
    assert_eq!(old_tab.frame()["events"][0]["paths"], json!(["/a"]));
    assert!(closed.is_silent());
}

/// A PathMX build contains its own client, which reads all events of its site.
#[test]
fn pathmx_build_opts_in_to_open_events() {
    let world = World::with_settings(Host::Embedded, &[]);
    world.write(&[
        (
            "roots.json",
            r#"{"roots":{"r":{"manifest":"manifest.json"}}}"#,
        ),
        ("manifest.json", r#"{"files":{}}"#),
        ("index.html", "<body>home</body>"),
    ]);
    world.sync("docs", &[]).ok();
    let answer = world.get("docs", "/_events?offset=-1");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(world.get("docs", "/").text(), "<body>home</body>");
}

/// No code deletes deploys yet. A reader at a missing deploy gets a refusal.
#[test]
fn events_after_a_deploy_that_is_gone_are_refused() {
    let world = World::with_settings(Host::Embedded, &[]);
    site(&world);
    edit(&world, "a.html", "2");
    let ledger = world.temp.path().join("data/spaces/docs.db");
    let ledger = rusqlite::Connection::open(ledger).unwrap();
    assert_eq!(
        ledger.execute("DELETE FROM deploy WHERE number = 1", []),
        Ok(1)
    );
    let net = |offset| events(&world, "docs", &format!("offset={offset}&compact=1"));
    let answer = net(at(1));
    assert_eq!(answer.status, 410, "{answer:?}");
    assert_eq!(answer.json()["code"], "E_EVENTS_GONE");
    assert_eq!(net(at(2)).status, 200);
    let mut socket = Socket::open(world.server.port, "docs", None).unwrap();
    socket.say(&format!(r#"{{"page":"/a","offset":"{}"}}"#, at(1)));
    assert_eq!(socket.text(), Err(4410));
}

/// The script must stay small, because each live page contains it.
#[test]
fn live_script_has_less_than_five_kilobytes() {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(pmx_sync::live::SCRIPT).unwrap();
    let bytes = gzip.finish().unwrap().len();
    assert!(bytes < 5_120, "{bytes}");
}
