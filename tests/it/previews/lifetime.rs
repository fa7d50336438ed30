//! Preview lifetime: names of branches, the list of previews, their ends, and promotion.

use serde_json::{Value, json};

use super::{edit, preview, shown, shows, site};
use crate::live::socket::Socket;
use crate::world::{Ran, World, eventually, on_both_hosts};

on_both_hosts!(
    preview_list_names_each_with_its_address_and_end,
    preview_with_an_end_is_gone_from_then_on,
    preview_end_moves_with_each_publish,
    promote_makes_a_preview_or_a_deploy_live_without_an_upload,
    promote_meets_the_hold_of_a_rollback,
    www_is_a_space,
);

fn previews(world: &World) -> Vec<Value> {
    let args = ["preview", "list", "--space", "docs", "--json"];
    let listed = world.pmx(&args).ok().at("/previews");
    listed.as_array().unwrap().clone()
}

fn preview_list_names_each_with_its_address_and_end(world: World) {
    site(&world);
    assert_eq!(previews(&world), [] as [Value; 0]);
    let ran = world.sync(
        "docs",
        &["--preview", "Feature/Login_Page", "--expires", "7d"],
    );
    let ends = ran.ok().number("/expires");
    edit(&world, "3", &["--preview", "pr-7", "-m", "third"]);
    let port = world.server.port;
    let url = |name: &str| json!(format!("http://{name}--docs.localhost:{port}/"));
    let of = |preview: &Value, name: &str| preview.pointer(name).cloned().unwrap_or_default();
    let listed = previews(&world);
    let seen = listed
        .iter()
        .map(|it| ["/name", "/url", "/deploy/number", "/expires"].map(|name| of(it, name)));
    let seen: Vec<_> = seen.collect();
    let expected = [
        [
            json!("feature-login-page"),
            url("feature-login-page"),
            json!(2),
            json!(ends),
        ],
        [json!("pr-7"), url("pr-7"), json!(3), Value::Null],
    ];
    assert_eq!(seen, expected);
    let at = listed[0]
        .pointer("/deploy/at")
        .and_then(Value::as_u64)
        .unwrap();
    assert_eq!(ends - at, 7 * 86_400_000, "from the moment of the publish");
    let text = world
        .pmx(&["preview", "list", "--space", "docs"])
        .ok()
        .stdout;
    for part in ["feature-login-page", "pr-7", "third", "http://pr-7--docs."] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // The words of a branch are printed as the name that they become.
    let ran = world.pmx(&[
        "sync",
        "site",
        "--space",
        "docs",
        "--preview",
        "Feature/Login_Page",
    ]);
    let note = "the preview of Feature/Login_Page is named feature-login-page";
    assert!(ran.stderr.contains(note), "{ran:?}");
    assert!(ran.stderr.contains("the preview ends at 2"), "{ran:?}");
    world.sync("docs", &["--expires", "7d"]).fails(2, "E_USAGE");
    for odd in ["7", "0d", "400d", "soon"] {
        world
            .sync("docs", &["--preview", "x", "--expires", odd])
            .fails(2, "E_USAGE");
    }
    let missing = ["preview", "list", "--space", "missing"];
    world.pmx(&missing).fails(1, "E_NOT_FOUND");
}

fn preview_with_an_end_is_gone_from_then_on(world: World) {
    site(&world);
    edit(&world, "2", &["--preview", "pr-7", "--expires", "15s"]);
    assert_eq!(shown(&world, "pr-7--docs"), shows("2", 2));
    let (mut page, _) = Socket::listen(&world, "pr-7--docs", r#"{"all":true}"#);
    eventually("the preview ends", || {
        world.get("pr-7--docs", "/a").status == 404
    });
    assert_eq!(page.text(), Err(4404), "the alarm closes its sockets");
    assert_eq!(world.get("pr-7--docs", "/_events?offset=-1").status, 404);
    assert_eq!(previews(&world), [] as [Value; 0]);
    // Its deploy is given up, the site is untouched, and the name is free.
    eventually("its deploy is gone", || {
        world.get("2--docs", "/a").status == 410
    });
    assert_eq!(shown(&world, "docs"), shows("<body>a</body>", 1));
    assert_eq!(preview(&world, "3").number("/deploy"), 3);
    assert_eq!(shown(&world, "pr-7--docs"), shows("3", 3));
    assert_eq!(
        previews(&world)[0].get("expires"),
        None,
        "it begins without an end"
    );
}

fn preview_end_moves_with_each_publish(world: World) {
    site(&world);
    let to = |more: &[&str]| {
        world
            .sync("docs", &[&["--preview", "pr-7"], more].concat())
            .ok()
    };
    let ends = |ran: &Ran| ran.last().get("expires").and_then(Value::as_u64);
    let first = ends(&to(&["--expires", "1d"])).unwrap();
    // A publish that says nothing, or changes nothing, keeps the end or moves it.
    assert_eq!(ends(&to(&[])), Some(first));
    let unchanged = to(&["--expires", "2d"]);
    assert_eq!(unchanged.at("/outcome"), json!("unchanged"));
    assert!(
        ends(&unchanged).unwrap() > first + 80_000_000,
        "{unchanged:?}"
    );
    world.write(&[("a.html", "new")]);
    assert_eq!(ends(&to(&[])), ends(&unchanged));
    assert_eq!(ends(&to(&["--expires", "never"])), None);
    assert_eq!(shown(&world, "pr-7--docs"), shows("new", 3));
}

fn promote(world: &World, more: &[&str]) -> Ran {
    world.pmx(&[&["promote", "--space", "docs", "--json"], more].concat())
}

fn promote_makes_a_preview_or_a_deploy_live_without_an_upload(world: World) {
    site(&world);
    edit(&world, "2", &["--preview", "Feature/X", "--live"]);
    let ran = promote(&world, &["Feature/X"]).ok();
    let seen = ["/outcome", "/deploy", "/promotes"].map(|name| ran.at(name));
    assert_eq!(seen, [json!("published"), json!(3), json!(2)]);
    let port = world.server.port;
    assert_eq!(
        ran.at("/url"),
        json!(format!("http://docs.localhost:{port}/"))
    );
    let own = format!("http://3--docs.localhost:{port}/");
    assert_eq!(ran.at("/deploy_url"), json!(own));
    assert_eq!(shown(&world, "docs"), shows("2", 3));
    assert!(
        world.get("docs", "/a").text().contains("<script"),
        "it stays live"
    );
    // The preview stays, and this machine has seen the deploy: the next publish replaces it.
    assert_eq!(shown(&world, "feature-x--docs"), shows("2", 2));
    edit(&world, "4", &[]);
    assert_eq!(shown(&world, "docs"), shows("4", 4));
    assert_eq!(
        promote(&world, &["1", "--expect", "4"])
            .ok()
            .number("/deploy"),
        5
    );
    assert_eq!(shown(&world, "docs"), shows("<body>a</body>", 5));
    let again = promote(&world, &["1"]).ok();
    assert_eq!(again.at("/outcome"), json!("unchanged"));
    promote(&world, &["3", "--expect", "4"]).fails(6, "E_CONFLICT");
    promote(&world, &["missing"]).fails(1, "E_NOT_FOUND");
    promote(&world, &["99"]).fails(1, "E_DEPLOY_UNKNOWN");
}

fn promote_meets_the_hold_of_a_rollback(world: World) {
    site(&world);
    edit(&world, "2", &[]);
    edit(&world, "3", &["--preview", "next"]);
    world.pmx(&["rollback", "--space", "docs"]).ok();
    promote(&world, &["next"]).fails(6, "E_HELD");
    assert_eq!(
        promote(&world, &["next", "--expect", "4"])
            .ok()
            .number("/deploy"),
        5
    );
    assert_eq!(shown(&world, "docs"), shows("3", 5));
    // A promotion holds nothing.
    edit(&world, "6", &[]);
    assert_eq!(shown(&world, "docs"), shows("6", 6));
}

fn www_is_a_space(world: World) {
    site(&world);
    world.sync("www", &[]).ok();
    assert_eq!(shown(&world, "www"), shows("<body>a</body>", 1));
}
