//! Files that are never content: folders of pmx itself, private keys, settings.

use super::*;

/// The files of a data folder of releases without markers.
const DATA: [&str; 5] = [
    "host.db",
    "secret",
    "lock",
    "streams.db-wal",
    "spaces/docs.db",
];

const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n";

fn left_out(scan: &Scan) -> Vec<String> {
    scan.stats().own.keys().cloned().collect()
}

/// A site with a data folder at a path, identified by its shape or by a marker.
fn with_data(at: &str, has_marker: bool) -> Site {
    let site = Site::new(&[("index.html", "home"), ("a/page.html", "page")]);
    for name in DATA {
        site.write(&format!("{at}/{name}"), name);
    }
    if has_marker {
        fs::remove_file(site.path(&format!("{at}/host.db"))).unwrap();
        site.write(&format!("{at}/{DATA_MARKER}"), DATA_MARKER_TEXT);
    }
    site
}

#[test]
fn own_folders_are_left_out_wherever_they_lie() {
    for has_marker in [false, true] {
        for at in ["data", "a/deep/anything", "a"] {
            let site = with_data(at, has_marker);
            let options = Options {
                exclude: vec!["!.*".into(), "!*".into()],
                ..Options::default()
            };
            for walk in [FileAccess::Descriptors, FileAccess::Portable] {
                let options = Options {
                    walk,
                    ..options.clone()
                };
                let found = site.try_scan(&options).unwrap();
                let expected: &[&str] = if at == "a" {
                    &["index.html"]
                } else {
                    &["a/page.html", "index.html"]
                };
                assert_eq!(paths(&found), expected, "{at}, marker: {has_marker}");
                assert_eq!(left_out(&found), [at]);
            }
        }
    }
    // A Worker's data folder, and a cache with and without a tag.
    let site = Site::new(&[("index.html", "home")]);
    for path in ["w/r2/x", "w/kv/x", "w/spaces/x", "w/secret"] {
        site.write(path, "x");
    }
    let scan_file = format!("c/folders/{}.scan", "0a".repeat(16));
    site.write(&scan_file, "x");
    site.write("c/sites/x", "x");
    site.write("t/CACHEDIR.TAG", CACHE_MARKER_TEXT);
    site.write("t/folders/x", "x");
    // A cache of another program is content.
    site.write(
        "other/CACHEDIR.TAG",
        "Signature: 8a477f597d28d172789f06886806bc55\n",
    );
    let found = site.scan();
    assert_eq!(paths(&found), ["index.html", "other/CACHEDIR.TAG"]);
    assert_eq!(left_out(&found), ["c", "t", "w"]);
}

#[test]
fn own_names_at_the_top_are_left_out() {
    let site = with_data(".", true);
    site.write("host.db", "x");
    let found = site.scan();
    assert_eq!(paths(&found), ["a/page.html", "index.html"]);
    assert!(left_out(&found).contains(&"secret".to_owned()));
    // Parts of an own folder are no sites.
    for part in ["spaces", "spaces/below"] {
        fs::create_dir_all(site.path(part)).unwrap();
        let outcome = scan(&site.path(part), &Options::default(), None, &(), later());
        assert!(
            outcome
                .unwrap_err()
                .to_string()
                .contains("a data folder of pmx")
        );
    }
    let beside = scan(&site.path("a"), &Options::default(), None, &(), later());
    assert_eq!(paths(&beside.unwrap()), ["page.html"]);
}

#[test]
fn links_into_own_folders_are_left_out() {
    let site = with_data("data", true);
    symlink("data", site.path("link")).unwrap();
    symlink("data/secret", site.path("page.txt")).unwrap();
    symlink("../data/spaces", site.path("a/spaces")).unwrap();
    let found = site.scan();
    assert_eq!(paths(&found), ["a/page.html", "index.html"]);
    assert_eq!(left_out(&found), ["a/spaces", "data", "link", "page.txt"]);
}

#[test]
fn folder_that_becomes_pmx_own_goes_away() {
    let site = Site::new(&[("index.html", "home"), ("data/x", "1"), ("b/x", "1")]);
    symlink("../data/x", site.path("b/link")).unwrap();
    let before = site.scan();
    site.write(&format!("data/{DATA_MARKER}"), "");
    let after = site.rescan(&saved(&before));
    assert_eq!(changed(&after), ["-b/link", "-data/x"]);
    let again = site.rescan(&saved(&after));
    assert!(again.changes().is_empty());
    assert_eq!(left_out(&again), ["b/link", "data"]);
}

#[test]
fn private_keys_are_refused_whatever_their_names() {
    let site = Site::new(&[
        ("index.html", "home"),
        ("a/notes.txt", KEY),
        ("b.html", KEY),
    ]);
    let text = |outcome: Result<Scan, ScanError>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), Code::Secret);
        error.problems()[0].items().to_vec()
    };
    let expected = ["a/notes.txt", "b.html"];
    assert_eq!(text(site.try_scan(&Options::default())), expected);
    let now = |options: &Options| scan(site.0.path(), options, None, &(), now());
    assert_eq!(
        text(now(&Options::default())),
        expected,
        "files just written"
    );
    let allow = Options {
        secrets: Secrets::Allow,
        ..Options::default()
    };
    assert_eq!(
        paths(&now(&allow).unwrap()),
        ["a/notes.txt", "b.html", "index.html"]
    );
    // A cache of a scan that allowed secrets does not allow them later.
    let cache = saved(&site.try_scan(&allow).unwrap());
    let later = scan(
        site.0.path(),
        &Options::default(),
        Some(&cache),
        &(),
        later(),
    );
    assert_eq!(text(later), expected);
    // The client prefetches no secret, and so sends none.
    let ahead = list(site.0.path(), &Options::default(), &(), super::later()).unwrap();
    let mut sources = ahead.sources();
    let sent = (0..3).map(|at| ahead.read(at, &mut sources, &mut Vec::new()).is_some());
    assert_eq!(sent.collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn hundred_keys_are_named_and_all_are_counted() {
    let site = Site::new(&[]);
    for number in 0..150 {
        site.write(&format!("{number:03}"), KEY);
    }
    let error = site.try_scan(&Options::default()).unwrap_err();
    assert_eq!(error.problems()[0].items().len(), 100);
    assert!(error.to_string().starts_with("150 files hold"), "{error}");
}

#[test]
fn suspicious_names_are_reported_once() {
    let site = Site::new(&[
        ("id_rsa", "x"),
        ("node_modules/a/b.pem", "x"),
        (".env", "x"),
    ]);
    let found = site.scan();
    let suspects: Vec<_> = found.stats().suspects.paths().collect();
    assert_eq!(suspects, ["id_rsa", "node_modules"]);
    assert_eq!(site.rescan(&saved(&found)).stats().suspects.count(), 0);
}

#[test]
fn ignore_file_is_read_as_editors_write_it() {
    let site = Site::new(&[("index.html", "1"), ("private/x", "1"), ("a.log", "1")]);
    for text in [
        "\u{feff}private/\r\n*.log\r\n",
        "private/\r\n*.log\r",
        "private/\n*.log",
    ] {
        site.write(".pmxignore", text);
        assert_eq!(paths(&site.scan()), ["index.html"], "{text:?}");
    }
    let fault = || {
        let error = site.try_scan(&Options::default()).unwrap_err();
        assert_eq!(error.code(), Code::Usage);
        error.to_string()
    };
    fs::write(site.path(".pmxignore"), b"\xff\xfe*\0.\0").unwrap();
    insta::assert_snapshot!(fault(), @r#"".pmxignore" is UTF-16 text; save it as UTF-8"#);
    fs::remove_file(site.path(".pmxignore")).unwrap();
    symlink("index.html", site.path(".pmxignore")).unwrap();
    insta::assert_snapshot!(fault(), @r#"".pmxignore" is a symbolic link; pmx reads patterns from a file only"#);
    fs::remove_file(site.path(".pmxignore")).unwrap();
    fs::create_dir(site.path(".pmxignore")).unwrap();
    insta::assert_snapshot!(fault(), @r#"".pmxignore" is a folder; pmx reads patterns from a file only"#);
}

#[test]
fn link_matches_as_what_it_leads_to() {
    let site = Site::new(&[("index.html", "1"), ("store/dep.js", "1"), ("sub/x", "1")]);
    symlink("store", site.path("node_modules")).unwrap();
    symlink("../store", site.path("sub/node_modules")).unwrap();
    symlink("index.html", site.path("file")).unwrap();
    let options = Options {
        exclude: vec!["node_modules/".into(), "store/".into(), "file/".into()],
        ..Options::default()
    };
    let found = site.try_scan(&options).unwrap();
    assert_eq!(paths(&found), ["file", "index.html", "sub/x"]);
}

#[test]
fn settings_are_no_content() {
    let site = Site::new(&[("index.html", "1"), ("pmx.toml", "x"), ("a/pmx.toml", "x")]);
    site.write("_headers", "x");
    assert_eq!(paths(&site.scan()), ["_headers", "index.html"]);
}
