//! Generated files over a folder: rows, changes, caches and reads know them.

use std::io::Read;

use bytes::Bytes;

use super::*;
use crate::path::SitePath;

fn with(generated: &[(&str, &str)]) -> Options {
    let generated = generated.iter().map(|(path, text)| {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        (SitePath::parse(path).unwrap(), bytes)
    });
    Options {
        // No pattern leaves a generated file out.
        exclude: vec!["_*".into()],
        generated: generated.collect(),
        ..Options::default()
    }
}

fn contents(found: &Scan) -> Vec<String> {
    let mut sources = Sources::of(found);
    let read = |row: &Row| {
        let mut text = String::new();
        let mut file = sources.open(&row.path).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(BlobId::of(text.as_bytes()), row.entry.blob);
        format!("{} {text}", row.path)
    };
    found.rows().iter().map(read).collect()
}

#[test]
fn generated_files_are_rows_of_the_site() {
    let site = Site::new(&[("a", "1"), ("b/c", "2"), ("_hidden", "3")]);
    let options = with(&[("_pmx/rules.json", "{}"), ("_site.toml", "x"), ("b/d", "4")]);
    for walk in [FileAccess::Descriptors, FileAccess::Portable] {
        let options = Options {
            walk,
            ..options.clone()
        };
        let found = site.try_scan(&options).unwrap();
        let expected = [
            "_pmx/rules.json {}",
            "_site.toml x",
            "a 1",
            "b/c 2",
            "b/d 4",
        ];
        assert_eq!(contents(&found), expected);
        assert_eq!(found.totals().files, 5);
        assert_eq!(found.stats().read.files, 2);
    }
}

#[test]
fn generated_files_change_without_a_read_of_the_others() {
    let site = Site::new(&[("a", "1"), ("b/c", "2")]);
    let before = site.try_scan(&with(&[("b/_x", "one")])).unwrap();
    let cache = saved(&before);
    let rescan = |options: &Options| {
        // A watcher reports no folder for a generated file.
        let touched = Some(BTreeSet::new());
        let options = Options {
            touched,
            ..options.clone()
        };
        scan(site.0.path(), &options, Some(&cache), &(), later()).unwrap()
    };
    for (generated, expected) in [
        (&[("b/_x", "one")][..], vec![]),
        (&[("b/_x", "two")], vec!["+b/_x"]),
        (&[], vec!["-b/_x"]),
        (&[("b/_x", "one"), ("_new/y", "")], vec!["+_new/y"]),
    ] {
        let options = with(generated);
        let after = if generated.is_empty() {
            scan(site.0.path(), &options, Some(&cache), &(), later()).unwrap()
        } else {
            rescan(&options)
        };
        assert_eq!(changed(&after), expected, "{generated:?}");
        assert_eq!(applied(&before, &after), after.rows());
        assert_eq!(after.rows(), site.try_scan(&options).unwrap().rows());
        assert_eq!(after.stats().read.files, 0, "{generated:?}");
    }
    assert!(rescan(&with(&[("b/_x", "one")])).is_settled());
}

#[test]
fn generated_file_must_equal_that_of_the_folder() {
    let site = Site::new(&[("_site.toml", "x"), ("d/x", "1")]);
    let found = site.try_scan(&with(&[("_site.toml", "x")])).unwrap();
    assert_eq!(contents(&found), ["_site.toml x", "d/x 1"]);
    for path in ["_site.toml", "d"] {
        let error = site.try_scan(&with(&[(path, "y")])).unwrap_err();
        assert_eq!(error.code(), Code::Usage);
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[test]
fn generated_files_are_prefetched_from_memory() {
    let site = Site::new(&[("a", "1")]);
    let options = with(&[("_pmx/rules.json", "{}")]);
    let ahead = list(site.0.path(), &options, &(), later()).unwrap();
    let (mut sources, mut bytes) = (ahead.sources(), Vec::new());
    let read = ahead.read(0, &mut sources, &mut bytes);
    assert_eq!((read, &bytes[..]), (Some(BlobId::of(b"{}")), &b"{}"[..]));
    let found = scan_prefetched(site.0.path(), &options, &ahead, &(), later()).unwrap();
    assert_eq!(found.rows(), site.try_scan(&options).unwrap().rows());
}

#[test]
fn generated_files_are_beside_the_roots_of_a_build() {
    let roots = r#"{"roots": {"docs": {}, "blog": {}}}"#;
    let manifest = r#"{"files": {}}"#;
    let site = Site::new(&[
        ("roots.json", roots),
        ("docs/manifest.json", manifest),
        ("docs/a", "1"),
        ("blog/manifest.json", manifest),
        ("_headers", "/*\n  X: y"),
    ]);
    let options = with(&[("_pmx/rules.json", "{}"), ("docs2", "d")]);
    let found = site.try_scan(&options).unwrap();
    // The pattern `_*` leaves out a file that a person wrote.
    assert_eq!(
        contents(&found),
        ["_pmx/rules.json {}", "docs/a 1", "docs2 d"]
    );
    let again = scan(site.0.path(), &options, Some(&saved(&found)), &(), later()).unwrap();
    assert!(again.is_settled() && again.changes().is_empty());
    assert_eq!(again.rows(), found.rows());
}
