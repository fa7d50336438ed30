//! Scans of single files: the path of the site counts for nothing on disk.

use super::*;

fn single(path: &str, file: &Path) -> Result<Scan, ScanError> {
    let path = crate::path::SitePath::parse(path).unwrap();
    scan_file(&path, file, &Options::default(), &(), later())
}

#[test]
fn own_folders_are_those_of_the_real_file() {
    let site = Site::new(&[
        ("page", "page"),
        ("data/host.db", "db"),
        ("data/page", "page"),
    ]);
    site.write("data/spaces/docs.db", "ledger");
    site.write("cache/CACHEDIR.TAG", CACHE_MARKER_TEXT);
    site.write("cache/deep/file", "x");
    symlink(site.path("data/host.db"), site.path("link")).unwrap();
    // Folders of these names are pmx's own, and the file is in neither.
    for path in ["data/host.db", "cache/CACHEDIR.TAG", "r2"] {
        assert_eq!(paths(&single(path, &site.path("page")).unwrap()), [path]);
    }
    for file in [
        "data/host.db",
        "data/spaces/docs.db",
        "cache/deep/file",
        "link",
    ] {
        let error = single("page", &site.path(file)).unwrap_err();
        let faults = error.problems();
        assert!(matches!(faults, [ScanFault::Own { .. }]), "{file}: {error}");
    }
    // A site may be published from a data folder.
    assert_eq!(paths(&single("x", &site.path("data/page")).unwrap()), ["x"]);
}

#[test]
fn other_files_of_its_folder_are_not_read() {
    let site = Site::new(&[(".hidden", "x"), ("paths.json", "no JSON")]);
    fs::write(site.path(".pmxignore"), b"a[\n\xff").unwrap();
    for path in [".hidden", "a/b/c", ".a/.b"] {
        assert_eq!(paths(&single(path, &site.path(".hidden")).unwrap()), [path]);
    }
}
