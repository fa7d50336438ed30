//! Today's build output, with `paths.json`.

use std::io::Read;

use serde_json::{Value, json};

use super::*;

/// A build of one Path `index.path`.
fn build() -> Site {
    let site = Site::new(&[]);
    write(&site, "paths.json", &paths_json(&["index.path"]));
    let artifacts = json!({"version": 1, "artifacts": {
        "/assets/runtime.js": artifact("assets/runtime.1234.js", "immutable"),
        "/index.path.html": artifact("index.path.html", "revalidate"),
        "/__pathmx/publications/pathmx%2Fgraph":
            {"artifactPath": "__pathmx/publications/pathmx%2Fgraph"},
        "/folder/": artifact("index.path.html", "revalidate"),
    }});
    write(&site, "index.path/artifacts.json", &artifacts);
    let routes = json!({"version": 1, "routes": {
        "/": {"type": "redirect", "to": "/index.path", "status": 308},
        "/index.path": {"type": "document", "artifactPath": "index.path.html"},
        "/über x": {"type": "redirect", "to": "/index.path?a=ü", "status": 302},
    }});
    write(&site, "index.path/serve-routes.json", &routes);
    for (path, text) in [
        ("assets/runtime.1234.js", "js"),
        ("index.path.html", "html"),
        ("__pathmx/publications/pathmx%2Fgraph", "graph"),
        ("stale.txt", "stale"),
        ("sources.json", "{}"),
    ] {
        site.write(&format!("index.path/{path}"), text);
    }
    site.write("cache/huge", "cache");
    site
}

fn paths_json(ids: &[&str]) -> Value {
    let paths = ids.iter().map(|id| {
        let entry = json!({
            "outputPath": id,
            "artifactsPath": format!("{id}/artifacts.json"),
            "routesPath": format!("{id}/serve-routes.json"),
        });
        ((*id).to_owned(), entry)
    });
    let paths: serde_json::Map<_, _> = paths.collect();
    json!({"version": 1, "defaultPath": ids[0], "paths": paths})
}

fn artifact(path: &str, mode: &str) -> Value {
    json!({"artifactPath": path, "cachePolicy": {"mode": mode}})
}

fn write(site: &Site, path: &str, value: &Value) {
    site.write(path, &value.to_string());
}

/// Changes one list of a build.
fn edit(site: &Site, path: &str, change: impl FnOnce(&mut Value)) {
    let bytes = fs::read(site.path(path)).unwrap();
    let mut value = serde_json::from_slice(&bytes).unwrap();
    change(&mut value);
    write(site, path, &value);
}

fn rules(found: &Scan) -> Value {
    let path = crate::path::SitePath::parse("_pmx/rules.json").unwrap();
    serde_json::from_slice(found.generated(&path).unwrap()).unwrap()
}

const ARTIFACTS: &str = "index.path/artifacts.json";
const ROUTES: &str = "index.path/serve-routes.json";

#[test]
fn build_publishes_declared_artifacts_at_both_paths() {
    let site = build();
    for walk in [FileAccess::Descriptors, FileAccess::Portable] {
        let options = Options {
            walk,
            ..Options::default()
        };
        let found = site.try_scan(&options).unwrap();
        let mut sources = Sources::of(&found);
        let texts = found.rows().into_iter().map(|row| {
            let mut text = String::new();
            sources
                .open(&row.path)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(BlobId::of(text.as_bytes()), row.entry.blob);
            text.truncate(5);
            format!("{} {text}", row.path)
        });
        assert_eq!(
            texts.collect::<Vec<_>>(),
            [
                "__pathmx/publications/pathmx%2Fgraph graph",
                "_pmx/rules.json {\"cac",
                "artifacts.json {\"art",
                "assets/runtime.1234.js js",
                "assets/runtime.js js",
                "index.path.html html",
                "serve-routes.json {\"rou",
            ]
        );
        assert!(found.is_pathmx() && !found.is_mere_folder());
        assert_eq!(found.paths(), ["/"]);
    }
}

#[test]
fn build_rules_are_canonical() {
    let site = build();
    let found = site.scan();
    let path = crate::path::SitePath::parse("_pmx/rules.json").unwrap();
    let text = String::from_utf8(found.generated(&path).unwrap().to_vec()).unwrap();
    let expected = [
        r#"{"cache":{"assets/runtime.1234.js":"immutable","assets/runtime.js":"immutable","#,
        r#""index.path.html":"revalidate"},"html":"exact","routes":{"#,
        r#""/":{"status":308,"to":"/index.path"},"#,
        r#""/%C3%BCber%20x":{"status":302,"to":"/index.path?a=%C3%BC"},"#,
        r#""/__pathmx/publications/pathmx%2Fgraph":"#,
        r#"{"file":"__pathmx/publications/pathmx%2Fgraph"},"#,
        r#""/folder/":{"file":"index.path.html"},"#,
        r#""/index.path":{"file":"index.path.html"}},"version":1}"#,
    ];
    assert_eq!(text, expected.concat());
}

#[test]
fn build_is_scanned_again_by_its_stats() {
    let site = build();
    let before = site.scan();
    let cache = saved(&before);
    let again = site.rescan(&cache);
    assert!(again.is_settled() && again.changes().is_empty());
    assert_eq!((again.rows(), again.stats().read.files), (before.rows(), 0));
    site.write("index.path/assets/runtime.1234.js", "new js");
    site.write("index.path/stale.txt", "not published");
    edit(&site, ROUTES, |routes| {
        routes["routes"]["/index.path"] = Value::Null;
    });
    edit(&site, ROUTES, |routes| {
        routes["routes"]
            .as_object_mut()
            .unwrap()
            .remove("/index.path");
    });
    // A watcher's folders are those on disk.
    let touched = Some(BTreeSet::from(["index.path/assets".to_owned()]));
    let options = Options {
        touched,
        ..Options::default()
    };
    let after = scan(site.0.path(), &options, Some(&cache), &(), later()).unwrap();
    assert_eq!(
        changed(&after),
        [
            "+_pmx/rules.json",
            "+assets/runtime.1234.js",
            "+assets/runtime.js",
            "+serve-routes.json"
        ]
    );
    assert_eq!(applied(&before, &after), site.scan().rows());
}

#[test]
fn build_may_have_rule_files_that_people_write() {
    let site = build();
    site.write("_headers", "/*\n  X-Frame-Options: SAMEORIGIN");
    let found = site.scan();
    assert!(paths(&found).contains(&"_headers".to_owned()));
}

#[test]
fn several_paths_are_below_their_ids() {
    let site = build();
    write(
        &site,
        "paths.json",
        &paths_json(&["index.path", "more.path"]),
    );
    write(
        &site,
        "more.path/artifacts.json",
        &json!({"version": 1, "artifacts": {
            "/more.path.html": artifact("more.path.html", "revalidate"),
        }}),
    );
    write(
        &site,
        "more.path/serve-routes.json",
        &json!({"version": 1, "routes": {
            "/": {"type": "redirect", "to": "/more.path", "status": 307},
            "/more.path": {"type": "document", "artifactPath": "more.path.html"},
        }}),
    );
    site.write("more.path/more.path.html", "more");
    let found = site.scan();
    assert_eq!(found.paths(), ["/", "/more.path/"]);
    let rules = rules(&found);
    for (url, expected) in [
        ("/", json!({"status": 308, "to": "/index.path"})),
        ("/more.path", json!({"status": 308, "to": "/more.path/"})),
        (
            "/more.path/",
            json!({"status": 307, "to": "/more.path/more.path"}),
        ),
        (
            "/more.path/more.path",
            json!({"file": "more.path/more.path.html"}),
        ),
    ] {
        assert_eq!(rules["routes"][url], expected, "{url}");
    }
    assert!(paths(&found).contains(&"more.path/artifacts.json".to_owned()));
    // One Path alone is at the top.
    let options = Options {
        path: Some("more.path".into()),
        ..Options::default()
    };
    let alone = site.try_scan(&options).unwrap();
    assert_eq!(
        paths(&alone),
        [
            "_pmx/rules.json",
            "artifacts.json",
            "more.path.html",
            "serve-routes.json"
        ]
    );
    // Only a default or a choice decides which one is at the top.
    edit(&site, "paths.json", |file| {
        file["defaultPath"] = Value::Null;
    });
    let error = site.try_scan(&Options::default()).unwrap_err();
    assert!(
        error.to_string().contains("index.path, more.path"),
        "{error}"
    );
    assert!(site.try_scan(&options).is_ok());
    let options = Options {
        path: Some("none".into()),
        ..Options::default()
    };
    let error = site.try_scan(&options).unwrap_err();
    assert!(error.to_string().contains("\"none\""), "{error}");
    let plain = Site::new(&[("a", "1")]);
    assert_eq!(plain.try_scan(&options).unwrap_err().code(), Code::Usage);
}

#[test]
fn builds_that_cannot_be_published_are_named() {
    type Spoil = fn(&Site);
    let table: [(&str, Spoil); 18] = [
        ("which no artifact declares", |site| {
            edit(site, ROUTES, |file| {
                file["routes"]["/x"] = json!({"type": "document", "artifactPath": "stale.txt"});
            });
        }),
        ("status is none of", |site| {
            edit(site, ROUTES, |file| {
                file["routes"]["/"]["status"] = json!(200);
            });
        }),
        ("which is the public path of an artifact", |site| {
            edit(site, ROUTES, |file| {
                file["routes"]["/assets/runtime.js"] =
                    json!({"type": "redirect", "to": "/", "status": 302});
            });
        }),
        ("neither a path of the site nor a URL", |site| {
            edit(site, ROUTES, |file| {
                file["routes"]["/"]["to"] = json!("//example.org/");
            });
        }),
        ("unknown type", |site| {
            edit(site, ROUTES, |file| {
                file["routes"]["/"]["type"] = json!("proxy");
            });
        }),
        ("two rules for", |site| {
            let text = r#"{"version":1,"routes":{
                "/":{"type":"redirect","to":"/a","status":301},
                "/":{"type":"redirect","to":"/b","status":301}}}"#;
            site.write(ROUTES, text);
        }),
        ("two different files", |site| {
            edit(site, ARTIFACTS, |file| {
                file["artifacts"]["/index.path.html"] =
                    artifact("assets/runtime.1234.js", "immutable");
            });
            edit(site, ROUTES, |file| file["routes"] = json!({}));
        }),
        ("two cache policies", |site| {
            edit(site, ARTIFACTS, |file| {
                file["artifacts"]["/b.js"] = artifact("assets/runtime.1234.js", "revalidate");
            });
        }),
        ("a file that is none", |site| {
            edit(site, ARTIFACTS, |file| {
                file["artifacts"]["/x"] = artifact("../../secret", "revalidate");
            });
        }),
        ("a file that is none", |site| {
            edit(site, ARTIFACTS, |file| {
                file["artifacts"]["/x"] = artifact("/etc/passwd", "revalidate");
            });
        }),
        ("keeps this folder", |site| {
            edit(site, ARTIFACTS, |file| {
                file["artifacts"]["/_pmx/x"] = artifact("index.path.html", "revalidate");
            });
        }),
        ("a folder that is none", |site| {
            edit(site, "paths.json", |file| {
                file["paths"]["index.path"]["outputPath"] = json!("../x");
            });
        }),
        ("not there: index.path/a, index.path/b", |site| {
            edit(site, ARTIFACTS, |file| {
                file["artifacts"]["/b"] = artifact("b", "revalidate");
                file["artifacts"]["/a"] = artifact("a", "revalidate");
            });
        }),
        ("is a symbolic link", |site| {
            fs::remove_file(site.path("index.path/index.path.html")).unwrap();
            symlink("stale.txt", site.path("index.path/index.path.html")).unwrap();
        }),
        ("is a symbolic link", |site| {
            fs::rename(site.path("index.path/assets"), site.path("elsewhere")).unwrap();
            symlink("../elsewhere", site.path("index.path/assets")).unwrap();
        }),
        ("version 2", |site| {
            edit(site, ARTIFACTS, |file| file["version"] = json!(2));
        }),
        ("version 7", |site| {
            edit(site, "paths.json", |file| file["version"] = json!(7));
        }),
        ("can't be understood", |site| site.write(ROUTES, "{")),
    ];
    for (expected, spoil) in table {
        let site = build();
        spoil(&site);
        let error = site.try_scan(&Options::default()).unwrap_err();
        assert_eq!(error.code(), Code::BuildIncomplete, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn build_that_is_rewritten_during_the_scan_is_read_again() {
    /// Rewrites a build as often as it should, whenever a scan finds files.
    struct Rewriting<'a> {
        site: &'a Site,
        left: AtomicU64,
    }
    impl Progress for Rewriting<'_> {
        fn found(&self, _files: u64, _bytes: u64) {
            let left = self.left.load(Ordering::Relaxed);
            if left > 0 {
                self.left.store(left - 1, Ordering::Relaxed);
                self.site
                    .write("index.path/index.path.html", &format!("rewritten {left}"));
                let mut file = paths_json(&["index.path"]);
                file["build"] = json!(left);
                write(self.site, "paths.json", &file);
            }
        }
        fn hashed(&self, _files: u64, _bytes: u64) {}
    }
    let site = build();
    for (times, expected) in [(1, true), (1_000, false)] {
        let left = AtomicU64::new(times);
        let rewriting = Rewriting { site: &site, left };
        let found = scan(
            site.0.path(),
            &Options::default(),
            None,
            &rewriting,
            later(),
        );
        match found {
            Ok(found) => {
                assert!(expected);
                assert_eq!(found.rows(), site.scan().rows());
            }
            Err(error) => {
                assert!(!expected, "{error}");
                assert_eq!(error.code(), Code::ChangedDuringRead);
            }
        }
    }
}
