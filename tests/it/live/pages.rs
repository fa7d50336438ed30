//! Live script in served pages: large pages, and pages of a site or preview that does not exist
//! yet.

use super::at;
use crate::world::{Answer, Host, World, noise, on_both_hosts, started_on_both_hosts};

on_both_hosts!(
    live_script_is_put_into_large_pages,
    waiting_page_of_a_missing_preview_reloads,
);

mod chosen {
    use super::*;

    started_on_both_hosts!(waiting_page_of_a_missing_site_reloads);
}

const HEAD: &str = "<!doctype html><html><head>";

const MIB: usize = 1024 * 1024;

/// Text that compresses to almost nothing.
fn even(bytes: usize) -> String {
    "Words of a page. ".repeat(bytes / 17)
}

/// Text that hardly compresses.
fn uneven(bytes: usize) -> String {
    data_encoding::BASE64.encode(&noise(0, bytes * 3 / 4))
}

/// Pages in one frame, in raw bytes, and in parts.
fn live_script_is_put_into_large_pages(world: World) {
    let pages = [
        ("even", even(5 * MIB)),
        ("noise", uneven(5 * MIB)),
        ("parts", even(9 * MIB)),
        ("noisy-parts", uneven(9 * MIB)),
    ];
    for (name, text) in &pages {
        world.write_bytes(&format!("{name}.html"), format!("{HEAD}{text}").as_bytes());
    }
    // The head might begin with this comment, and the script would come before it.
    let hidden = format!("<!--{}-->{HEAD}", even(5 * MIB));
    world.write_bytes("hidden.html", hidden.as_bytes());
    world.sync("docs", &["--live"]).ok();
    let offset = at(1);
    for (name, text) in &pages {
        let page = world.get("docs", &format!("/{name}"));
        let script = format!(
            "<script src=\"/_pmx/live.js\" data-deploy=\"1\" data-offset=\"{offset}\" async></script>"
        );
        assert_eq!(page.status, 200, "{name}");
        let (start, rest) = page.body.split_at(HEAD.len() + script.len());
        let start = String::from_utf8_lossy(start);
        assert_eq!(start, format!("{HEAD}{script}"), "{name}");
        assert!(rest == text.as_bytes(), "{name} goes on as it was");
        let length = page.header("content-length").map(str::parse);
        assert_eq!(length, Some(Ok(page.body.len())), "{name}");
        let head = world.request("HEAD", "docs", &format!("/{name}"), &[], b"");
        assert_eq!(head.header("etag"), page.header("etag"), "{name}");
    }
    let page = world.get("docs", "/hidden");
    assert!(page.body == hidden.as_bytes(), "it is as it was published");
}

fn waits(answer: &Answer) -> bool {
    assert_eq!(answer.status, 404, "{answer:?}");
    answer
        .text()
        .contains("<script src=\"/_pmx/live.js\" data-deploy=\"0\"")
}

/// A preview is always live, also before its first deploy. A missing site or deploy number is not.
fn waiting_page_of_a_missing_preview_reloads(world: World) {
    world.write(&[("index.html", "1")]);
    world.sync("docs", &[]).ok();
    for (site, expected) in [
        ("pr-1--docs", true),
        ("pr-1--other", true),
        ("other", false),
        ("7--docs", false),
    ] {
        let page = world.get(site, "/a");
        assert_eq!(waits(&page), expected, "{site}: {page:?}");
        let image = [("sec-fetch-dest", "image"), ("accept", "image/*")];
        let image = world.get_with(site, "/a.png", &image);
        assert!(!waits(&image), "{site}: {image:?}");
    }
}

fn waiting_page_of_a_missing_site_reloads(host: Host) {
    let world = World::with_settings(host, &[("LIVE", "all")]);
    for (site, expected) in [("other", true), ("pr-1--other", true), ("7--other", false)] {
        let page = world.get(site, "/a");
        assert_eq!(waits(&page), expected, "{site}: {page:?}");
    }
}
