//! Scans of real folders, good and bad. All times are real: a scan whose clock is ten seconds ahead
//! finds settled files, and one with the right clock finds files just written.
#![cfg(unix)] // links, FIFOs and invalid names need Unix
#![allow(clippy::disallowed_methods)] // tests write what scans read, and know the time

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmx_core::code::Code;
use pmx_core::id::{BlobId, Root};
use proptest::prelude::*;
use tempfile::TempDir;

use super::filesystem::FileSystem as _;
use super::*;
use crate::manifest::{Row, Totals};

mod cache;
mod generated;
mod oddities;
mod own;
mod pathmx;
mod pathmx_paths;
mod prefetch;
mod reading;
mod single;
mod virtual_files;

const ROOT: Root = Root::from_bytes([7; 32]);

const KEY: [u8; 32] = [8; 32];

struct Site(TempDir);

impl Site {
    fn new(files: &[(&str, &str)]) -> Self {
        let site = Self(TempDir::new().unwrap());
        for (path, content) in files {
            site.write(path, content);
        }
        site
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn try_scan(&self, options: &Options) -> Result<Scan, ScanError> {
        scan(self.0.path(), options, None, &(), later())
    }

    fn scan(&self) -> Scan {
        self.try_scan(&Options::default()).unwrap()
    }

    fn rescan(&self, cache: &StatCache) -> Scan {
        scan(
            self.0.path(),
            &Options::default(),
            Some(cache),
            &(),
            later(),
        )
        .unwrap()
    }

    /// The codes of all problems; both walks agree.
    fn codes(&self) -> Vec<Code> {
        let [one, other] = [FileAccess::Descriptors, FileAccess::Portable].map(|walk| {
            let outcome = self.try_scan(&Options {
                walk,
                ..Options::default()
            });
            outcome.map_or_else(
                |error| error.problems().iter().map(ScanFault::to_string).collect(),
                |_| Vec::new(),
            )
        });
        assert_eq!(one, other, "the walks disagree");
        let outcome = self.try_scan(&Options::default());
        outcome.map_or_else(
            |error| error.problems().iter().map(ScanFault::code).collect(),
            |_| Vec::new(),
        )
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since.as_millis() as u64)
}

fn later() -> Timestamp {
    now().after(Duration::from_secs(10))
}

fn saved(scan: &Scan) -> StatCache {
    StatCache::parse(scan.cache(ROOT, &KEY), &KEY).expect("a cache can be read back")
}

fn paths(scan: &Scan) -> Vec<String> {
    scan.rows().iter().map(|row| row.path.to_string()).collect()
}

fn changed(scan: &Scan) -> Vec<String> {
    let mark = |entry: &Option<_>| if entry.is_some() { "+" } else { "-" };
    let changes = scan.changes().iter();
    changes
        .map(|(path, entry)| format!("{}{path}", mark(entry)))
        .collect()
}

/// Applies changes to rows, as a caller does with a base.
fn applied(before: &Scan, after: &Scan) -> Vec<Row> {
    let rows = before.rows().into_iter().map(|row| (row.path, row.entry));
    let mut rows: BTreeMap<_, _> = rows.collect();
    for (path, entry) in after.changes() {
        match entry {
            Some(entry) => rows.insert(path.clone(), entry.clone()),
            None => Some(rows.remove(path).expect("only what was there goes away")),
        };
    }
    rows.into_iter()
        .map(|(path, entry)| Row { path, entry })
        .collect()
}

#[test]
fn scan_of_a_small_site() {
    let site = Site::new(&[
        ("index.html", "<p>hi"),
        ("a/b.css", "x"),
        ("a-b", ""),
        (".hidden", "x"),
        (".git/config", "x"),
        (".well-known/x.txt", "x"),
        ("drafts/1.md", "x"),
        (".pmxignore", "drafts/\n"),
    ]);
    let scan = site.scan();
    assert_eq!(
        paths(&scan),
        [".well-known/x.txt", "a-b", "a/b.css", "index.html"]
    );
    let row = &scan.rows()[3];
    assert_eq!(row.entry.blob, BlobId::of(b"<p>hi"));
    assert_eq!(row.entry.size, 5);
    assert_eq!(row.entry.media.as_str(), "text/html");
    assert_eq!(scan.totals(), Totals { files: 4, bytes: 7 });
    assert_eq!(scan.stats().read, scan.totals());
    assert_eq!(scan.base(), None);
    assert_eq!(fs::read(scan.source(&row.path)).unwrap(), b"<p>hi");
    assert_eq!(paths(&Site::new(&[]).scan()), [""; 0]);
}

#[test]
fn exclude_patterns_leave_files_out() {
    let site = Site::new(&[
        ("a.map", "x"),
        (".nojekyll", ""),
        ("b/a.map", "x"),
        ("c", "x"),
    ]);
    let exclude = vec!["*.map".to_owned(), "!.nojekyll".to_owned()];
    let options = Options {
        exclude,
        ..Options::default()
    };
    assert_eq!(paths(&site.try_scan(&options).unwrap()), [".nojekyll", "c"]);
    let exclude = vec!["[".to_owned()];
    let error = site
        .try_scan(&Options {
            exclude,
            ..Options::default()
        })
        .unwrap_err();
    assert_eq!(error.code(), Code::Usage);
}

#[test]
fn scan_of_deep_and_wide_folders_stays_within_the_descriptors() {
    let site = Site::new(&[]);
    for branch in 0..40 {
        let deep = vec!["d"; 100].join("/");
        site.write(&format!("{branch}/{deep}/end.txt"), "x");
    }
    let threads = NonZeroUsize::new(16);
    let [one, other] = [FileAccess::Descriptors, FileAccess::Portable].map(|walk| {
        site.try_scan(&Options {
            walk,
            threads,
            ..Options::default()
        })
        .unwrap()
    });
    assert_eq!(one.totals().files, 40);
    assert_eq!(one.rows(), other.rows());
}

#[test]
fn scan_of_twenty_thousand_files_in_one_folder() {
    let site = Site::new(&[]);
    fs::create_dir(site.path("flat")).unwrap();
    for number in 0..20_000 {
        fs::write(site.path("flat").join(format!("{number}.txt")), "same").unwrap();
    }
    let before = site.scan();
    assert_eq!(before.totals().files, 20_000);
    site.write("flat/777.txt", "diff");
    let after = site.rescan(&saved(&before));
    assert_eq!(changed(&after), ["+flat/777.txt"]);
    assert_eq!(after.stats().read.files, 1);
}

#[test]
fn unchanged_site_is_not_read() {
    let site = Site::new(&[("index.html", "x"), ("a/b/c.css", "y"), ("a/d", "z")]);
    fs::create_dir(site.path("empty")).unwrap();
    let before = site.scan();
    assert!(!before.is_settled());
    let cache = saved(&before);
    let after = site.rescan(&cache);
    assert_eq!((after.base(), after.changes().len()), (Some(ROOT), 0));
    assert_eq!(after.stats().read, Totals::default());
    assert_eq!(after.stats().reused_files, 3);
    assert!(after.is_settled());
    assert_eq!(after.totals(), before.totals());
    assert_eq!(after.rows(), before.rows());
}

#[test]
fn edits_of_every_kind_are_noticed() {
    type Edit = fn(&Site);
    let edits: [(&str, Edit, &[&str]); 9] = [
        ("touched", |site| site.write("a/one", "1"), &[]),
        (
            "changed, other size",
            |site| site.write("a/one", "11"),
            &["+a/one"],
        ),
        (
            "changed, same size, old mtime",
            |site| {
                let file = fs::File::options()
                    .write(true)
                    .open(site.path("a/one"))
                    .unwrap();
                let mtime = file.metadata().unwrap().modified().unwrap();
                file.write_at(b"2", 0).unwrap();
                file.set_modified(mtime).unwrap();
            },
            &["+a/one"],
        ),
        (
            "replaced by a copy",
            |site| {
                site.write("new", "3");
                fs::rename(site.path("new"), site.path("a/one")).unwrap();
            },
            &["+a/one"],
        ),
        ("added", |site| site.write("a/x/y", "4"), &["+a/x/y"]),
        (
            "removed",
            |site| fs::remove_file(site.path("a/two")).unwrap(),
            &["-a/two"],
        ),
        (
            "renamed",
            |site| {
                fs::rename(site.path("a/two"), site.path("a/Two2")).unwrap();
            },
            &["+a/Two2", "-a/two"],
        ),
        (
            "folder renamed",
            |site| {
                fs::rename(site.path("a"), site.path("z")).unwrap();
            },
            &[
                "-a/b/three",
                "-a/one",
                "-a/two",
                "+z/b/three",
                "+z/one",
                "+z/two",
            ],
        ),
        (
            "folder replaced by a file",
            |site| {
                fs::remove_dir_all(site.path("a/b")).unwrap();
                site.write("a/b", "5");
            },
            &["+a/b", "-a/b/three"],
        ),
    ];
    for (what, edit, expected) in edits {
        let site = Site::new(&[
            ("a/one", "1"),
            ("a/two", "2"),
            ("a/b/three", "3"),
            ("top", "4"),
        ]);
        let before = site.scan();
        edit(&site);
        let after = site.rescan(&saved(&before));
        assert_eq!(changed(&after), expected, "{what}");
        assert_eq!(after.rows(), site.scan().rows(), "{what}");
    }
}

#[test]
fn file_that_becomes_an_excluded_folder_goes_away() {
    let exclude = vec!["x/".to_owned()];
    let options = Options {
        exclude,
        ..Options::default()
    };
    let site = Site::new(&[("x", "1"), ("y", "2")]);
    let before = site.try_scan(&options).unwrap();
    fs::remove_file(site.path("x")).unwrap();
    site.write("x/z", "3");
    let cache = saved(&before);
    let after = scan(site.0.path(), &options, Some(&cache), &(), later()).unwrap();
    assert_eq!(changed(&after), ["-x"]);
    assert_eq!(paths(&after), ["y"]);
}

#[test]
fn untouched_folders_are_not_looked_at() {
    let site = Site::new(&[("a/x", "1"), ("b/c/x", "1"), ("b/d/x", "1"), ("x", "1")]);
    let cache = saved(&site.scan());
    let again = |touched: Option<&[&str]>| {
        let folders = touched.map(|folders| folders.iter().map(|f| (*f).to_owned()).collect());
        let options = Options {
            touched: folders,
            ..Options::default()
        };
        let found = scan(site.0.path(), &options, Some(&cache), &(), later()).unwrap();
        let rows = found.rows().len() as u64;
        assert_eq!(rows, found.totals().files);
        changed(&found)
    };
    for path in ["a/x", "b/c/x", "b/d/x", "x", "b/c/new"] {
        site.write(path, "changed");
    }
    for (touched, expected) in [
        (Some(&["b/c"][..]), &["+b/c/new", "+b/c/x", "+x"][..]),
        (Some(&["a", ""]), &["+a/x", "+x"]),
        (Some(&["b"]), &["+x"]),
        (Some(&[]), &["+x"]),
        (None, &["+a/x", "+b/c/new", "+b/c/x", "+b/d/x", "+x"]),
    ] {
        assert_eq!(again(touched), expected, "{touched:?}");
    }
    fs::remove_dir_all(site.path("b/d")).unwrap();
    assert_eq!(again(Some(&["b"])), ["-b/d/x", "+x"]);
}
