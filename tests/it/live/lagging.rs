//! Late pointers: readers still find published content, and never go back to an older deploy.

use super::socket::Socket;
use super::{deploy_token, edit, site};
use crate::world::{Host, World, eventually, started_on_kind_hosts};

// Each isolate would measure the lag of an hour from its own first request.
started_on_kind_hosts!(
    deploy_tokens_make_reads_monotonic,
    missing_paths_of_a_late_pointer_are_looked_up,
    preview_assets_resolve_after_the_next_deploy,
);

/// A lag of an hour: no story takes that long.
const LAG: [(&str, &str); 1] = [("PMX_POINTER_LAG_MS", "3600000")];

fn deploy_tokens_make_reads_monotonic(host: Host) {
    let world = World::with_settings(host, &LAG);
    site(&world);
    assert_eq!(world.get("docs", "/a").text(), "<body>a</body>");
    edit(&world, "a.html", "2");
    let late = world.get("docs", "/a");
    assert_eq!(
        (&*late.text(), late.header("x-pmx-deploy")),
        ("<body>a</body>", Some("1"))
    );
    // A forged claim has no effect, and does not delay requests with genuine claims.
    let first = late.header("x-pmx-know").unwrap().to_owned();
    let forged = first.replacen('1', "2", 1);
    let plain = "_pmx_deploy=2".to_owned();
    for number in 0..60 {
        let claim = match number % 4 {
            0 => ("x-pmx-know", "2"),
            1 => ("x-pmx-know", "9007199254740991"),
            2 => ("cookie", &*plain),
            _ => ("x-pmx-know", &*forged),
        };
        let page = world.get_with("docs", "/a", &[claim]);
        assert_eq!(page.header("x-pmx-deploy"), Some("1"), "{claim:?}");
    }
    let token = deploy_token(&world, "docs");
    let cookie = format!("a=b; _pmx_deploy={token}");
    for known in [
        ("x-pmx-know", &*token),
        ("x-pmx-min-deploy", &token),
        ("cookie", &cookie),
    ] {
        let page = world.get_with("docs", "/a", &[known]);
        assert_eq!(
            (&*page.text(), page.header("x-pmx-deploy")),
            ("2", Some("2"))
        );
        assert_eq!(page.header("x-pmx-know"), Some(&*token));
    }
    // A rollback is a newer deploy too. The frame of a socket contains the token as well.
    let (_socket, frame) = {
        world.pmx(&["rollback", "1", "--space", "docs"]).ok();
        Socket::listen(&world, "docs", r#"{"page":"/a"}"#)
    };
    let token = frame["know"].as_str().unwrap();
    let page = world.get_with("docs", "/a", &[("x-pmx-know", token)]);
    assert_eq!(
        (&*page.text(), page.header("x-pmx-deploy")),
        ("<body>a</body>", Some("3"))
    );
}

fn missing_paths_of_a_late_pointer_are_looked_up(host: Host) {
    let world = World::with_settings(host, &LAG);
    site(&world);
    let status = |path: &str| world.get("docs", path).status;
    assert_eq!(world.get("docs", "/a").text(), "<body>a</body>");
    world.write(&[
        ("a.html", "<script src=/app-2.js></script>"),
        ("app-2.js", "2"),
        ("new.html", "new"),
    ]);
    world.sync("docs", &[]).ok();
    assert_eq!(
        world.get("docs", "/a").text(),
        "<body>a</body>",
        "it is late"
    );
    for (path, text) in [("/app-2.js", "2"), ("/new", "new")] {
        let found = world.get("docs", path);
        assert_eq!((found.status, &*found.text()), (200, text), "{path}");
        assert_eq!(found.header("x-pmx-deploy"), Some("2"), "{path}");
    }
    assert_eq!(status("/new.html"), 307, "its other spelling");
    assert_eq!(world.request("HEAD", "docs", "/new", &[], b"").status, 200);
    // Only the space may answer 404, and the server caches that for some seconds.
    assert_eq!(status("/app-3.js"), 404);
    edit(&world, "app-3.js", "3");
    eventually("the answer no longer counts", || status("/app-3.js") == 200);
    assert_eq!(status("/app-2.js"), 200);
    assert_eq!(status("/nothing"), 404);
}

/// The page belongs to one deploy, and its assets are requested where the next one is known.
fn preview_assets_resolve_after_the_next_deploy(host: Host) {
    let world = World::with_settings(host, &[]);
    site(&world);
    for number in ["1", "2"] {
        let script = format!("app-{number}.js");
        world.write(&[("a.html", &script), (&script, number)]);
        world.sync("docs", &["--preview", "pr-7"]).ok();
        std::fs::remove_file(world.site().join(&script)).unwrap();
    }
    for number in ["1", "2"] {
        let found = world.get("pr-7--docs", &format!("/app-{number}.js"));
        assert_eq!((found.status, &*found.text()), (200, number));
    }
    assert_eq!(world.get("3--docs", "/app-1.js").status, 404);
    assert_eq!(world.get("docs", "/app-1.js").status, 404);
}
