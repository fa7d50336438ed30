//! Previews: a deploy beside the active one, at its own address, where another deploy can replace
//! it.

mod events;
mod lifetime;

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::access_log::AccessLog;
use crate::live::socket::Socket;
use crate::live::{at, deploy_token};
use crate::world::{Host, World, eventually, on_both_hosts, started_on_kind_hosts};

on_both_hosts!(
    preview_is_shown_beside_the_site,
    preview_of_known_content_uploads_nothing,
    preview_replaces_its_own_deploy_or_fails,
    rollback_restores_no_preview_unless_named,
    preview_removal_closes_its_address_and_gives_up_its_deploy,
    preview_names_become_labels_or_are_refused,
    preview_watch_follows_its_folder,
);

mod lagging {
    use super::*;

    // Each isolate would measure the lag of an hour from its own first request.
    started_on_kind_hosts!(deploy_tokens_of_previews_make_reads_monotonic);
}

fn site(world: &World) {
    world.write(&[
        ("index.html", "<body>home</body>"),
        ("a.html", "<body>a</body>"),
        ("style.css", "p {}"),
    ]);
    world.sync("docs", &[]).ok();
}

fn edit(world: &World, content: &str, more: &[&str]) -> crate::world::Ran {
    world.write(&[("a.html", content)]);
    world.sync("docs", more).ok()
}

fn preview(world: &World, content: &str) -> crate::world::Ran {
    edit(world, content, &["--preview", "pr-7"])
}

/// A page's text without the live script, and the number of its deploy.
fn shown(world: &World, host: &str) -> (String, u64) {
    let page = world.get(host, "/a");
    assert_eq!(page.status, 200, "{host}: {page:?}");
    let text = page.text();
    let text = match (text.find("<script"), text.find("</script>")) {
        (Some(start), Some(end)) => [&text[..start], &text[end + 9..]].concat(),
        _ => text,
    };
    let deploy = page.header("x-pmx-deploy").unwrap().parse().unwrap();
    (text, deploy)
}

fn shows(text: &str, deploy: u64) -> (String, u64) {
    (text.to_owned(), deploy)
}

fn history(world: &World) -> Value {
    world
        .pmx(&["deploys", "--space", "docs", "--json"])
        .ok()
        .last()
}

fn preview_is_shown_beside_the_site(world: World) {
    site(&world);
    let ran = preview(&world, "<body>2</body>");
    let url = format!("http://pr-7--docs.localhost:{}/", world.server.port);
    assert_eq!(ran.at("/url"), json!(url));
    assert_eq!(
        (ran.at("/outcome"), ran.number("/deploy")),
        (json!("published"), 2)
    );
    assert_eq!(ran.number("/files/modified"), 1, "compared with the site");
    assert_eq!(shown(&world, "docs"), shows("<body>a</body>", 1));
    assert_eq!(shown(&world, "pr-7--docs"), shows("<body>2</body>", 2));
    assert_eq!(shown(&world, "2--docs"), shows("<body>2</body>", 2));
    let page = |host| world.get(host, "/a");
    for (host, robots, is_live) in [
        ("docs", None, false),
        ("pr-7--docs", Some("noindex"), true),
        ("2--docs", Some("noindex"), false),
    ] {
        let page = page(host);
        assert_eq!(page.header("x-robots-tag"), robots, "{host}");
        let caching = "public, max-age=0, must-revalidate";
        assert_eq!(page.header("cache-control"), Some(caching), "{host}");
        assert_eq!(page.text().contains("data-deploy=\"2\""), is_live, "{host}");
    }
    assert_eq!(
        page("pr-7--docs").header("stream-next-offset"),
        Some(&*at(2))
    );
    assert_eq!(world.get("pr-8--docs", "/a").status, 404);
    // The next deploy replaces it; the site and the first deploy stay.
    preview(&world, "<body>3</body>");
    assert_eq!(shown(&world, "pr-7--docs"), shows("<body>3</body>", 3));
    assert_eq!(shown(&world, "2--docs"), shows("<body>2</body>", 2));
    assert_eq!(shown(&world, "docs"), shows("<body>a</body>", 1));
    let history = history(&world);
    assert_eq!(history["active"], 1);
    assert_eq!(history["aliases"], json!({"pr-7": 3}));
    let deploys = history["deploys"].as_array().unwrap().iter();
    let deploys: Vec<_> = deploys
        .map(|deploy| {
            (
                deploy["number"].clone(),
                deploy["alias"].clone(),
                deploy["parent"].clone(),
            )
        })
        .collect();
    let line = |number: u64, alias: Value, parent: u64| (json!(number), alias, json!(parent));
    let expected = [
        line(3, json!("pr-7"), 2),
        line(2, json!("pr-7"), 0),
        line(1, Value::Null, 0),
    ];
    assert_eq!(deploys, expected);
    let listed = world.pmx(&["deploys", "--space", "docs"]).ok().stdout;
    let marks: Vec<_> = listed
        .lines()
        .skip(1)
        .map(|line| line.split(' ').next())
        .collect();
    assert_eq!(marks, [Some("pr-7"), Some(""), Some("*")], "{listed}");
    let status = world
        .pmx(&["status", "site", "--space", "docs", "--json"])
        .ok();
    assert_eq!(status.number("/active/number"), 1);
}

fn preview_of_known_content_uploads_nothing(world: World) {
    site(&world);
    // Publishes the active content as a preview, and a preview's content to the site, without an
    // upload.
    let same = world.sync("docs", &["--preview", "same"]).ok();
    let sent = |ran: &crate::world::Ran| {
        (
            ran.at("/outcome"),
            ran.number("/bytes/new"),
            ran.number("/requests"),
        )
    };
    assert_eq!(sent(&same), (json!("published"), 0, 1));
    assert_eq!(shown(&world, "same--docs"), shows("<body>a</body>", 2));
    let again = world.sync("docs", &["--preview", "same"]).ok();
    assert_eq!(
        (again.at("/outcome"), again.number("/deploy")),
        (json!("unchanged"), 2)
    );
    let new = preview(&world, "<body>3</body>");
    assert_eq!(
        (sent(&new).0, sent(&new).2),
        (json!("published"), 1),
        "one request"
    );
    // Publishing it makes another deploy of the same content.
    let published = world.sync("docs", &[]).ok();
    assert_eq!(sent(&published), (json!("published"), 0, 1));
    assert_eq!(shown(&world, "docs"), shows("<body>3</body>", 4));
    // Each publish takes one request: the client keeps separate bases for site and preview.
    for (number, more) in [
        (5, &["--preview", "pr-7"][..]),
        (6, &[]),
        (7, &["--preview", "pr-7"]),
    ] {
        let ran = edit(&world, &format!("<body>{number}</body>"), more);
        assert_eq!(
            (ran.number("/deploy"), ran.number("/requests")),
            (number, 1)
        );
    }
    // A dry run changes nothing.
    world.write(&[("a.html", "8")]);
    let asked = world.sync("docs", &["--preview", "pr-9", "--dry-run"]).ok();
    assert_eq!(asked.at("/outcome"), json!("planned"));
    assert_eq!(asked.number("/files/modified"), 1);
    assert_eq!(world.get("pr-9--docs", "/a").status, 404);
    assert_eq!(history(&world)["aliases"], json!({"pr-7": 7, "same": 2}));
}

fn preview_replaces_its_own_deploy_or_fails(world: World) {
    site(&world);
    let to = |name, more: &[&str]| world.sync("docs", &[&["--preview", name], more].concat());
    world.write(&[("a.html", "2")]);
    to("one", &["--order", "7", "--expect", "0"]).ok();
    world.write(&[("a.html", "3")]);
    to("one", &["--order", "6"]).fails(6, "E_OLDER_BUILD");
    to("one", &["--expect", "1"]).fails(6, "E_CONFLICT");
    to("one", &["--expect", "0"]).fails(6, "E_CONFLICT");
    // Another preview and the site have sequences of their own.
    to("two", &["--order", "6"]).ok();
    world.sync("docs", &["--order", "5", "--expect", "1"]).ok();
    to("one", &["--expect", "2"]).ok();
    let history = history(&world);
    assert_eq!(
        (&history["active"], &history["aliases"]),
        (&json!(4), &json!({"one": 5, "two": 3}))
    );
    world.write(&[("b.html", "3")]);
    world.sync("docs", &["--max-delete", "0"]).ok();
    std::fs::remove_file(world.site().join("b.html")).unwrap();
    to("one", &["--max-delete", "0"]).ok();
    to("six", &["--max-delete", "0"]).fails(2, "E_MAX_DELETE");
}

fn rollback_restores_no_preview_unless_named(world: World) {
    site(&world);
    edit(&world, "2", &[]);
    preview(&world, "3");
    let back = |more: &[&str]| {
        let args = [&["rollback", "--space", "docs", "--json"], more].concat();
        let ran = world.pmx(&args).ok();
        (ran.number("/deploy"), ran.number("/restores"))
    };
    assert_eq!(back(&[]), (4, 1));
    assert_eq!(shown(&world, "docs"), shows("<body>a</body>", 4));
    assert_eq!(shown(&world, "pr-7--docs"), shows("3", 3));
    // A rollback makes a preview active unchanged, and the next returns to the deploy active
    // before.
    assert_eq!(back(&["3"]), (5, 3));
    assert_eq!(shown(&world, "docs"), shows("3", 5));
    assert_eq!(back(&[]), (6, 1));
    let diff = world
        .pmx(&["diff", "3", "6", "--space", "docs", "--json"])
        .ok();
    assert_eq!(diff.number("/files/modified"), 1);
}

fn preview_removal_closes_its_address_and_gives_up_its_deploy(world: World) {
    site(&world);
    preview(&world, "2");
    assert_eq!(shown(&world, "pr-7--docs"), shows("2", 2));
    let (mut page, _) = Socket::listen(&world, "pr-7--docs", r#"{"all":true}"#);
    let token = deploy_token(&world, "pr-7--docs");
    let remove = || {
        let args = ["preview", "rm", "pr-7", "--space", "docs", "--json"];
        world.pmx(&args).ok().at("/deploy")
    };
    assert_eq!(remove(), json!(2));
    assert_eq!(page.text(), Err(4404));
    for path in ["/a", "/_events?offset=-1"] {
        let known = [("x-pmx-know", &*token)];
        assert_eq!(world.get("pr-7--docs", path).status, 404);
        assert_eq!(world.get_with("pr-7--docs", path, &known).status, 404);
    }
    assert_eq!(
        Socket::open(world.server.port, "pr-7--docs", None).err(),
        Some(404)
    );
    assert_eq!(history(&world)["aliases"], json!({}));
    assert_eq!(remove(), Value::Null, "there is none any more");
    // The deploy is given up, and the name becomes free.
    assert_eq!(world.get("2--docs", "/a").status, 410);
    assert_eq!(preview(&world, "3").number("/deploy"), 3);
    assert_eq!(shown(&world, "pr-7--docs"), shows("3", 3));
    assert_eq!(shown(&world, "docs"), shows("<body>a</body>", 1));
    let args = ["preview", "rm", "pr-7", "--space", "missing"];
    world.pmx(&args).fails(1, "E_NOT_FOUND");
    let stranger = world.request("DELETE", "", "/api/aliases/pr-7?space=docs", &[], b"");
    assert_eq!(stranger.status, 401);
}

fn preview_names_become_labels_or_are_refused(world: World) {
    site(&world);
    for name in ["12", "***", ""] {
        let ran = world.sync("docs", &["--preview", name]);
        assert_eq!(ran.code, 2, "{name}: {ran:?}");
    }
    // A branch's name becomes a label.
    for (name, label) in [
        ("A", "a"),
        ("a--b", "a-b"),
        ("Feature/Log_in", "feature-log-in"),
    ] {
        let url = world.sync("docs", &["--preview", name]).ok().at("/url");
        let start = format!("http://{label}--docs.");
        assert!(url.as_str().unwrap().starts_with(&start), "{name}: {url}");
    }
    // Preview and space name together have to fit in a label.
    let space = "s".repeat(40);
    let long = "p".repeat(22);
    world
        .sync(&space, &["--preview", &long])
        .fails(2, "E_NAME_INVALID");
    world.sync(&space, &["--preview", &long[1..]]).ok();
    let host = format!("{}--{space}", &long[1..]);
    assert_eq!(world.get(&host, "/a").status, 200);
    // The space has no active deploy, and readers see none.
    assert_eq!(world.get(&space, "/a").status, 404);
    let status = world
        .pmx(&["status", "site", "--space", &space, "--json"])
        .ok();
    assert_eq!(status.at("/active"), Value::Null);
    world.sync(&space, &[]).ok();
    assert_eq!(shown(&world, &space), shows("<body>a</body>", 2));
}

fn preview_watch_follows_its_folder(world: World) {
    site(&world);
    let args = [
        "sync",
        "site",
        "--space",
        "docs",
        "--preview",
        "now",
        "--watch",
        "-q",
    ];
    let mut watching: Command = world.command(&args);
    watching.stdout(Stdio::null()).stderr(Stdio::null());
    let mut watching = watching.spawn().unwrap();
    let is = |text: &str| {
        let page = world.get("now--docs", "/a");
        page.status == 200 && page.text().contains(text)
    };
    eventually("the preview is there", || is("<body>a"));
    world.write(&[("a.html", "<body>saved</body>")]);
    eventually("the preview shows what was saved", || is("<body>saved"));
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert_eq!(shown(&world, "docs"), shows("<body>a</body>", 1));
}

fn deploy_tokens_of_previews_make_reads_monotonic(host: Host) {
    let lag = [("PMX_POINTER_LAG_MS", "3600000")];
    let world = World::with_settings(host, &lag);
    let mut log = AccessLog::new(&world);
    // The Worker's pointers lag from the time when KV has them, which may take a second.
    let mut announced = || {
        if host.is_worker() {
            log.announced(&world);
        }
    };
    site(&world);
    announced();
    preview(&world, "2");
    announced();
    assert_eq!(shown(&world, "pr-7--docs"), shows("2", 2));
    preview(&world, "3");
    edit(&world, "4", &[]);
    assert_eq!(shown(&world, "pr-7--docs"), shows("2", 2), "it is late");
    let token = deploy_token(&world, "pr-7--docs");
    let cookie = format!("_pmx_deploy={token}");
    for known in [("x-pmx-know", &*token), ("cookie", &*cookie)] {
        let page = world.get_with("pr-7--docs", "/a", &[known]);
        assert_eq!(page.header("x-pmx-deploy"), Some("3"), "{known:?}");
        assert!(page.text().starts_with('3'));
    }
}

/// A ledger from before previews is migrated when it is used.
#[test]
fn previews_work_on_an_older_ledger() {
    let mut world = World::with_settings(Host::Embedded, &[]);
    site(&world);
    edit(&world, "2", &[]);
    world.server.kill();
    let ledger = world.temp.path().join("data/spaces/docs.db");
    let ledger = rusqlite::Connection::open(ledger).unwrap();
    let before = "ALTER TABLE deploy DROP COLUMN pin; DROP INDEX deploy_channel;
        ALTER TABLE deploy DROP COLUMN state; ALTER TABLE node DROP COLUMN mark;
        ALTER TABLE node DROP COLUMN refs; ALTER TABLE outbox DROP COLUMN since;
        DROP TABLE object; DROP TABLE big; DROP TABLE doomed; DROP TABLE unmarked;
        ALTER TABLE outbox DROP COLUMN pointer; DROP TABLE removed;
        DROP INDEX deploy_order; DROP TABLE hold; DROP TABLE build;
        DROP TABLE loss; DROP TABLE lost_blob; DROP TABLE damaged; DROP TABLE arrived;
        DROP INDEX pack_arrived; DROP INDEX pack_pending; DROP INDEX part_pending;
        DROP INDEX node_pending; ALTER TABLE pack DROP COLUMN at;
        ALTER TABLE pack DROP COLUMN folded; ALTER TABLE part DROP COLUMN at;
        ALTER TABLE node DROP COLUMN kept;
        DELETE FROM meta WHERE key = 'readable_by';
        DROP TABLE alias; ALTER TABLE deploy DROP COLUMN alias;
        UPDATE meta SET value = '1' WHERE key = 'schema'";
    ledger.execute_batch(before).unwrap();
    drop(ledger);
    world.restart();
    assert_eq!(history(&world)["active"], 2);
    preview(&world, "3");
    assert_eq!(shown(&world, "pr-7--docs"), shows("3", 3));
    assert_eq!(shown(&world, "docs"), shows("2", 2));
}
