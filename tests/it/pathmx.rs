//! PathMX builds: published as PathMX serves them, on both hosts.

pub(crate) mod build;

use std::fs;
use std::path::PathBuf;

use crate::watching::Watching;
use crate::world::{Answer, Ran, World, eventually, on_both_hosts};
use build::{Build, Expected, Table, write_paths};

on_both_hosts! {
    pathmx_build_answers_each_of_its_urls,
    pathmx_build_has_several_paths,
    folder_with_the_name_of_a_build_is_published_with_a_warning,
    publish_as_of_the_first_releases,
}

mod large {
    crate::world::on_kind_hosts! {
        pathmx_build_of_ten_thousand_artifacts_is_served,
    }

    use super::*;

    fn pathmx_build_of_ten_thousand_artifacts_is_served(world: World) {
        let (build, table) = Build::sized(10_000, 300);
        written(&world, &build);
        publish(&world, &[]);
        let each_hundredth = table.into_iter().step_by(100).collect();
        answers(&world, "", &each_hundredth);
        // Another route costs its own bytes, whatever the number of rules.
        let mut build = build;
        build.redirect("/new", "/0.path", 302);
        written(&world, &build);
        let again = world
            .pmx(&["sync", "out/.pathmx", "--space", "docs", "--json"])
            .ok();
        assert_eq!(again.number("/files/modified"), 2, "{again:?}");
        assert!(again.number("/bytes/sent") < 100_000, "{again:?}");
    }
}

fn folder(world: &World) -> PathBuf {
    world.temp.path().join("out/.pathmx")
}

/// Writes a build of one Path.
fn written(world: &World, build: &Build) {
    build.write(&folder(world), "index.path");
    write_paths(&folder(world), &["index.path"]);
}

fn publish(world: &World, more: &[&str]) -> serde_json::Value {
    let args = [&["sync", "out/.pathmx", "--space", "docs", "--json"], more].concat();
    world.pmx(&args).ok().last()
}

fn answer(world: &World, url: &str) -> (Answer, Expected) {
    let answer = world.get("docs", url);
    let is_page = answer.status == 200;
    let cache = [build::IMMUTABLE, build::REVALIDATE].into_iter();
    let mut cache = cache.filter(|known| is_page && answer.header("cache-control") == Some(known));
    let expected = Expected {
        status: answer.status,
        location: answer.header("location").map(str::to_owned),
        cache: cache.next_back(),
        body: is_page.then(|| answer.text()),
    };
    (answer, expected)
}

/// Compares the answers at a prefix with a table.
fn answers(world: &World, prefix: &str, table: &Table) {
    for (url, expected) in table {
        let location = expected.location.as_ref();
        let expected = Expected {
            location: location.map(|to| format!("{prefix}{to}")),
            ..expected.clone()
        };
        let (whole, found) = answer(world, &format!("{prefix}{url}"));
        assert_eq!(found, expected, "{prefix}{url}: {whole:?}");
    }
}

fn pathmx_build_answers_each_of_its_urls(world: World) {
    let (build, mut table) = Build::sized(500, 300);
    written(&world, &build);
    let summary = publish(&world, &[]);
    assert_eq!(summary["path_urls"], serde_json::json!([summary["url"]]));
    for absent in [
        "/sources.json",
        "/stale.html",
        "/stale",
        "/cache/graph.bin",
        "/paths.json",
        "/_pmx/rules.json",
        "/0",
        "/0.path.html/",
        "/nowhere",
    ] {
        table.insert(absent.to_owned(), Expected::absent());
    }
    answers(&world, "", &table);
    for list in ["/artifacts.json", "/serve-routes.json"] {
        let file = folder(&world).join("index.path").join(&list[1..]);
        assert_eq!(
            world.get("docs", list).body,
            fs::read(file).unwrap(),
            "{list}"
        );
    }
    // The same build is the same site, and a changed page is one change.
    assert_eq!(publish(&world, &[])["outcome"], "unchanged");
    fs::write(folder(&world).join("index.path/3.path.html"), "new page").unwrap();
    let changed = publish(&world, &[]);
    assert_eq!(changed["files"]["modified"], 1, "{changed}");
    assert_eq!(world.get("docs", "/3.path").text(), "new page");
}

fn pathmx_build_has_several_paths(world: World) {
    let (first, table) = Build::sized(8, 4);
    let (second, others) = Build::sized(12, 6);
    first.write(&folder(&world), "index.path");
    second.write(&folder(&world), "more.path");
    write_paths(&folder(&world), &["index.path", "more.path"]);
    let summary = publish(&world, &[]);
    let url = summary["url"].as_str().unwrap();
    let more = format!("{url}more.path/");
    assert_eq!(summary["path_urls"], serde_json::json!([url, more]));
    answers(&world, "", &table);
    answers(&world, "/more.path", &others);
    let (_, top) = answer(&world, "/more.path");
    assert_eq!(
        (top.status, top.location.as_deref()),
        (308, Some("/more.path/"))
    );
    publish(&world, &["--path", "more.path"]);
    answers(&world, "", &others);
    let args = ["sync", "out/.pathmx", "--space", "docs", "--path", "none"];
    world.pmx(&args).fails(3, "index.path, more.path");
}

fn folder_with_the_name_of_a_build_is_published_with_a_warning(world: World) {
    fs::create_dir_all(folder(&world)).unwrap();
    fs::write(folder(&world).join("index.html"), "plain").unwrap();
    let ran = world.pmx(&["sync", "out/.pathmx", "--space", "docs"]).ok();
    assert!(ran.stderr.contains("no PathMX build"), "{ran:?}");
    assert_eq!(world.get("docs", "/").text(), "plain");
}

/// The calls that the first releases document: a project, its output, a subdomain, a variable.
fn publish_as_of_the_first_releases(world: World) {
    let (build, _) = Build::sized(4, 2);
    written(&world, &build);
    let token = world.token();
    let token = token.trim_start_matches("Bearer ");
    let run = |args: &[&str]| {
        let mut command = world.command(args);
        command.env("PATHMX_PUBLISH_TOKEN", token);
        command
            .env_remove("PMX_DATA")
            .current_dir(world.temp.path().join("out"));
        Ran::from(command.output().unwrap())
    };
    run(&["publish", ".", "-s", "docs", "-o", ".pathmx"]).ok();
    assert_eq!(world.get("docs", "/").status, 308);
    fs::write(folder(&world).join("index.path/0.path.html"), "second").unwrap();
    run(&["publish", ".", "-s", "docs", "-o", ".pathmx"]).ok();
    assert_eq!(world.get("docs", "/0.path").text(), "second");
    run(&["publish", "-s", "docs", "--rollback", "1"]).ok();
    assert!(world.get("docs", "/0.path").text().contains("<title>0"));
}

#[test]
fn watch_follows_a_build_that_is_written_again() {
    let world = World::new();
    let (build, _) = Build::sized(8, 4);
    written(&world, &build);
    let args = ["sync", "out/.pathmx", "--space", "docs", "--watch"];
    let watching = Watching::start(world.command(&args));
    watching.sees("a first publish", |line| line["type"] == "summary");
    for round in 1..4 {
        let (mut build, _) = Build::sized(8, 4);
        let name = format!("/round{round}.txt");
        build.artifact(&name, &name[1..], "revalidate", &format!("round {round}"));
        if round == 2 {
            // `pathmx dev --clean` begins with an empty folder.
            fs::remove_dir_all(folder(&world)).unwrap();
        }
        written(&world, &build);
        eventually("the new page is served", || {
            world.get("docs", &name).text() == format!("round {round}")
        });
    }
}
