//! Older build output, with `roots.json`.

use super::*;

fn pathmx(files: &[(&str, &str)]) -> Site {
    let site = Site::new(&[]);
    for (path, content) in files {
        site.write(&format!(".pathmx/{path}"), content);
    }
    site
}

fn scan_pathmx(site: &Site, cache: Option<&StatCache>) -> Result<Scan, ScanError> {
    scan(
        &site.path(".pathmx"),
        &Options::default(),
        cache,
        &(),
        later(),
    )
}

#[test]
fn build_with_one_root_is_served_at_the_top() {
    let site = pathmx(&[
        (
            "roots.json",
            r#"{"roots": {"docs": {"routes": [], "manifest": "docs/manifest.json"}}}"#,
        ),
        (
            "docs/manifest.json",
            r#"{"files": {"index.html": {"hash": "x"}, "/a/b.css": {}}}"#,
        ),
        ("docs/index.html", "1"),
        ("docs/a/b.css", "2"),
        ("docs/extra.js", "3"),
        ("other", "4"),
    ]);
    let found = scan_pathmx(&site, None).unwrap();
    assert_eq!(paths(&found), ["a/b.css", "extra.js", "index.html"]);
    let source = found.source(&found.rows()[0].path);
    assert_eq!(fs::read(source).unwrap(), b"2");
    let cache = saved(&found);
    let again = scan_pathmx(&site, Some(&cache)).unwrap();
    assert!(again.is_settled() && again.changes().is_empty());
    fs::remove_file(site.path(".pathmx/docs/a/b.css")).unwrap();
    let error = scan_pathmx(&site, Some(&cache)).unwrap_err();
    assert_eq!(error.code(), Code::BuildIncomplete);
    assert!(error.to_string().contains("a/b.css"), "{error}");
}

#[test]
fn build_with_several_roots_is_served_below_their_slugs() {
    let site = pathmx(&[
        (
            "roots.json",
            r#"{"roots": {"docs": {}, "blog": {"manifest": "out/m.json"}}}"#,
        ),
        ("docs/manifest.json", r#"{"files": {"index.html": {}}}"#),
        ("docs/index.html", "1"),
        ("out/m.json", r#"{"files": {"post.html": {}}}"#),
        ("out/post.html", "2"),
        ("out/sub/manifest.json", "3"),
    ]);
    let found = scan_pathmx(&site, None).unwrap();
    assert_eq!(
        paths(&found),
        [
            "blog/post.html",
            "blog/sub/manifest.json",
            "docs/index.html"
        ]
    );
    for row in found.rows() {
        let content = fs::read(found.source(&row.path)).unwrap();
        assert_eq!(BlobId::of(&content), row.entry.blob);
    }
    let cache = saved(&found);
    site.write(".pathmx/out/sub/new", "4");
    let after = scan_pathmx(&site, Some(&cache)).unwrap();
    assert_eq!(changed(&after), ["+blog/sub/new"]);
    assert_eq!(applied(&found, &after), after.rows());
    // The manifest now names more files than exist.
    site.write(
        ".pathmx/out/m.json",
        r#"{"files": {"post.html": {}, "gone.html": {}}}"#,
    );
    let error = scan_pathmx(&site, Some(&cache)).unwrap_err();
    assert_eq!(error.code(), Code::BuildIncomplete);
}

#[test]
fn builds_that_are_not_whole_are_refused() {
    let manifest = ("docs/manifest.json", r#"{"files": {"a": {}}}"#);
    let tables: [&[(&str, &str)]; 9] = [
        &[("roots.json", "{"), manifest, ("docs/a", "1")],
        &[("roots.json", "[]"), manifest, ("docs/a", "1")],
        &[
            ("roots.json", r#"{"roots": {}}"#),
            manifest,
            ("docs/a", "1"),
        ],
        &[
            ("roots.json", r#"{"roots": {"docs": {}}}"#),
            ("docs/a", "1"),
        ],
        &[("roots.json", r#"{"roots": {"docs": {}}}"#), manifest],
        &[
            ("roots.json", r#"{"roots": {"docs": {}}}"#),
            ("docs/manifest.json", "{}"),
        ],
        &[
            ("roots.json", r#"{"roots": {"..": {}}}"#),
            manifest,
            ("docs/a", "1"),
        ],
        &[
            ("roots.json", r#"{"roots": {"a": {"manifest": "../../x"}}}"#),
            manifest,
        ],
        &[
            ("roots.json", r#"{"roots": {"docs": {}, "more": {}}}"#),
            manifest,
            ("docs/a", "1"),
        ],
    ];
    for files in tables {
        let error = scan_pathmx(&pathmx(files), None).unwrap_err();
        assert_eq!(error.code(), Code::BuildIncomplete, "{files:?}");
    }
    // A plain site may have a file of that name.
    let site = Site::new(&[("roots.json", "[]"), ("a", "1")]);
    assert_eq!(paths(&site.scan()), ["a", "roots.json"]);
}

#[test]
fn folder_named_like_a_build_is_published_as_it_is() {
    for (files, is_build) in [
        (&[("docs/a", "1")][..], false),
        (&[("a", "1"), ("paths.json", "{}")], false),
        (&[("a", "1"), ("paths.json", r#"{"paths": []}"#)], false),
        (
            &[
                ("roots.json", r#"{"roots": {"docs": {}}}"#),
                ("docs/manifest.json", r#"{"files": {}}"#),
            ],
            true,
        ),
    ] {
        let site = pathmx(files);
        let found = scan_pathmx(&site, None).unwrap();
        assert_eq!(found.is_mere_folder(), !is_build, "{files:?}");
        assert_eq!(found.is_pathmx(), is_build, "{files:?}");
        let expected = if is_build { 0 } else { files.len() };
        assert_eq!(found.rows().len(), expected, "{files:?}");
    }
    assert!(!Site::new(&[("a", "1")]).scan().is_mere_folder());
}

#[test]
fn roots_may_name_manifests_and_routes_by_their_hashes() {
    use sha2::{Digest, Sha256};
    let manifest = r#"{"files": {"index.html": {"hash": "x"}}}"#;
    let routes = r#"{"/": "index.html"}"#;
    let blake3 = |text: &str| pmx_core::hash::Hash::of(text.as_bytes()).to_hex();
    let sha256 = |text: &str| data_encoding::HEXLOWER.encode(&Sha256::digest(text));
    let build = |manifest_hash: &str, routes_hash: &str| {
        let roots = format!(
            "\u{feff}{{\"roots\":{{\"docs\":{{\"routes\":\"{routes_hash}\",\"manifest\":\"{manifest_hash}\"}}}}}}"
        );
        pathmx(&[
            ("roots.json", &roots),
            ("docs/manifest.json", manifest),
            ("docs/routes.json", routes),
            ("docs/index.html", "1"),
        ])
    };
    for (manifest_hash, routes_hash) in [
        (blake3(manifest), blake3(routes)),
        (sha256(manifest), sha256(routes)),
        (
            format!("sha256:{}", sha256(manifest)),
            format!("blake3-{}", blake3(routes)),
        ),
        ("docs/manifest.json".into(), "docs/routes.json".into()),
    ] {
        let site = build(&manifest_hash, &routes_hash);
        let found = scan_pathmx(&site, None).unwrap();
        assert_eq!(
            paths(&found),
            ["index.html", "routes.json"],
            "{manifest_hash}"
        );
        // The name of the folder does not matter.
        fs::rename(site.path(".pathmx"), site.path("out")).unwrap();
        let moved = scan(&site.path("out"), &Options::default(), None, &(), later());
        assert_eq!(paths(&moved.unwrap()), ["index.html", "routes.json"]);
    }
    let unknown = "ab".repeat(32);
    for (manifest_hash, routes_hash) in [
        (unknown.clone(), blake3(routes)),
        (blake3(manifest), unknown.clone()),
    ] {
        let error = scan_pathmx(&build(&manifest_hash, &routes_hash), None).unwrap_err();
        assert_eq!(error.code(), Code::BuildIncomplete);
        assert!(error.to_string().contains(&unknown), "{error}");
    }
}
