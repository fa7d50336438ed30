//! Scans of real folders, good and bad. All times are real: a scan whose clock is ten
//! seconds ahead finds settled files, one with the right clock finds files just written.
#![cfg(unix)] // links, FIFOs and odd names are made the way of Unix
#![allow(clippy::disallowed_methods)] // tests write what scans read, and know the time

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmx_core::code::Code;
use pmx_core::id::BlobId;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod ahead;
mod oddities;
mod own;
mod pathmx;
mod reading;

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

    fn rescan(&self, cache: &Cache) -> Scan {
        scan(
            self.0.path(),
            &Options::default(),
            Some(cache),
            &(),
            later(),
        )
        .unwrap()
    }

    /// The codes of all problems, by both walks, which agree.
    fn codes(&self) -> Vec<Code> {
        let [one, other] = [Walk::Descriptors, Walk::Portable].map(|walk| {
            let outcome = self.try_scan(&Options {
                walk,
                ..Options::default()
            });
            outcome.map_or_else(
                |error| error.problems().iter().map(Problem::to_string).collect(),
                |_| Vec::new(),
            )
        });
        assert_eq!(one, other, "the walks disagree");
        let outcome = self.try_scan(&Options::default());
        outcome.map_or_else(
            |error| error.problems().iter().map(Problem::code).collect(),
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

fn saved(scan: &Scan) -> Cache {
    Cache::parse(scan.cache(ROOT, &KEY), &KEY).expect("a cache can be read back")
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

/// Applies changes to rows: what a caller does with a base.
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
fn a_small_site() {
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
fn excluded_on_the_command_line() {
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

fn segment() -> impl Strategy<Value = String> {
    let names = [
        "a",
        "b",
        "c.html",
        "é",
        "日本",
        "x y",
        "a-b",
        "😀",
        "z\u{202e}",
    ];
    prop::sample::select(names.to_vec()).prop_map(str::to_owned)
}

fn tree() -> impl Strategy<Value = Vec<(Vec<String>, String)>> {
    let path = prop::collection::vec(segment(), 1..12);
    prop::collection::vec((path, "[ab]{0,3}"), 0..40)
}

/// Writes what can be written; what is in the way of something earlier is left out.
fn build(site: &Site, files: &[(Vec<String>, String)]) -> BTreeMap<String, BlobId> {
    let mut model = BTreeMap::new();
    for (segments, content) in files {
        let path = segments.join("/");
        let at = site.path(&path);
        let parent = at.parent().unwrap();
        if fs::create_dir_all(parent).is_ok() && !at.is_dir() {
            fs::write(at, content).unwrap();
            model.insert(path, BlobId::of(content.as_bytes()));
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn both_walks_and_any_threads_find_the_files(files in tree(), threads in 1usize..9) {
        let site = Site::new(&[]);
        let model = build(&site, &files);
        let threads = NonZeroUsize::new(threads);
        let [one, other] = [Walk::Descriptors, Walk::Portable].map(|walk| {
            site.try_scan(&Options { walk, threads, ..Options::default() }).unwrap()
        });
        let found: Vec<_> = one.rows().iter()
            .map(|row| (row.path.to_string(), row.entry.blob)).collect();
        prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(one.rows(), other.rows());
        prop_assert_eq!(one.cache(ROOT, &KEY).len(), other.cache(ROOT, &KEY).len());
    }

    #[test]
    fn changes_lead_from_the_old_site_to_the_new(first in tree(), second in tree(), keep: bool) {
        let site = Site::new(&[]);
        build(&site, &first);
        let before = site.scan();
        if !keep {
            for entry in fs::read_dir(site.0.path()).unwrap() {
                let path = entry.unwrap().path();
                let removed = if path.is_dir() {
                    fs::remove_dir_all(path)
                } else {
                    fs::remove_file(path)
                };
                removed.unwrap();
            }
        }
        build(&site, &second);
        let cache = saved(&before);
        let after = site.rescan(&cache);
        prop_assert_eq!(after.base(), Some(ROOT));
        prop_assert_eq!(applied(&before, &after), site.scan().rows());
        prop_assert_eq!(after.rows(), site.scan().rows());
        prop_assert_eq!(after.totals(), site.scan().totals());
        // And from there on nothing changes.
        let again = site.rescan(&saved(&after));
        prop_assert!(again.changes().is_empty() && again.is_settled());
        prop_assert_eq!(again.rows(), after.rows());
        prop_assert_eq!(again.cache(ROOT, &KEY).len(), after.cache(ROOT, &KEY).len());
    }
}

#[test]
fn deep_and_wide_folders_within_the_descriptors() {
    let site = Site::new(&[]);
    for branch in 0..40 {
        let deep = vec!["d"; 100].join("/");
        site.write(&format!("{branch}/{deep}/end.txt"), "x");
    }
    let threads = NonZeroUsize::new(16);
    let [one, other] = [Walk::Descriptors, Walk::Portable].map(|walk| {
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
fn twenty_thousand_files_in_one_folder() {
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
fn an_unchanged_site_is_not_read() {
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
fn a_file_that_becomes_an_excluded_folder_goes_away() {
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
fn a_write_right_after_the_scan_is_noticed() {
    // Without the rule for racily clean files this fails where a tick is longer than the scan; the
    // stat is made equal here, as such a file system would have it.
    let site = Site::new(&[("a", "1")]);
    let before = scan(site.0.path(), &Options::default(), None, &(), now()).unwrap();
    site.write("a", "2");
    let mut scan_of_stale = saved(&before);
    let after = scan(
        site.0.path(),
        &Options::default(),
        Some(&scan_of_stale),
        &(),
        now(),
    )
    .unwrap();
    assert_eq!(changed(&after), ["+a"]);
    // The record now has the stat of the file as it is, and still it is read again: it is racy.
    scan_of_stale = saved(&after);
    let again = scan(
        site.0.path(),
        &Options::default(),
        Some(&scan_of_stale),
        &(),
        now(),
    )
    .unwrap();
    assert_eq!(again.stats().read.files, 1);
    assert!(again.changes().is_empty() && !again.is_settled());
    // Once a scan has seen it from a distance, it is clean.
    let settled = site.rescan(&saved(&site.rescan(&saved(&again))));
    assert!(settled.is_settled());
}

#[test]
fn a_cache_of_another_folder_or_of_other_options_is_not_used() {
    let site = Site::new(&[("a", "1")]);
    let cache = saved(&site.scan());
    let other = Site::new(&[("a", "1")]);
    assert_eq!(other.rescan(&cache).base(), None);
    let exclude = vec!["b".to_owned()];
    let options = Options {
        exclude,
        ..Options::default()
    };
    let found = scan(site.0.path(), &options, Some(&cache), &(), later()).unwrap();
    assert_eq!(found.base(), None);
    site.write(".pmxignore", "c");
    assert_eq!(site.rescan(&cache).base(), None);
}

#[test]
fn folders_in_which_nothing_happened_are_not_looked_at() {
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

#[test]
fn a_damaged_cache_is_no_cache() {
    let site = Site::new(&[("a/b", "1"), ("a/c.html", "2"), ("d", "3")]);
    let good = site.scan().cache(ROOT, &KEY);
    for len in 0..good.len() {
        assert!(
            Cache::parse(good[..len].to_vec(), &KEY).is_none(),
            "cut at {len}"
        );
    }
    for at in 0..good.len() {
        for bit in [1, 0x10, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            assert!(Cache::parse(bad, &KEY).is_none(), "byte {at}");
        }
    }
    assert!(Cache::parse([good, vec![0]].concat(), &KEY).is_none());
}

/// A cache in which two files changed places, with the root and the sums of its author's choice.
fn crafted(cache: &[u8], seal: impl Fn(&[u8]) -> [u8; 32]) -> Vec<u8> {
    let mut bytes = cache.to_vec();
    let ids = ["1", "2"].map(|content| BlobId::of(content.as_bytes()));
    let place = |id: &BlobId| {
        let mut places = bytes.windows(32);
        places.position(|place| place == id.as_bytes()).unwrap()
    };
    let [one, two] = [place(&ids[0]), place(&ids[1])];
    bytes[one..one + 32].copy_from_slice(ids[1].as_bytes());
    bytes[two..two + 32].copy_from_slice(ids[0].as_bytes());
    bytes[72..104].fill(9);
    let sum = seal(&bytes);
    bytes[8..40].copy_from_slice(&sum);
    bytes
}

#[test]
fn a_cache_that_another_key_wrote_is_no_cache() {
    let site = Site::new(&[("a.txt", "1"), ("b.txt", "2")]);
    let found = site.scan();
    let good = found.cache(ROOT, &KEY);
    assert!(Cache::parse(good.clone(), &KEY).is_some());
    assert!(Cache::parse(good.clone(), &[9; 32]).is_none());
    let keyed = |bytes: &[u8]| *blake3::keyed_hash(&[9; 32], bytes).as_bytes();
    let plain = |bytes: &[u8]| *blake3::hash(&bytes[40..]).as_bytes();
    let old = |_: &[u8]| <[u8; 32]>::try_from(&good[8..40]).unwrap();
    for bytes in [
        crafted(&good, keyed),
        crafted(&good, plain),
        crafted(&good, old),
    ] {
        assert!(Cache::parse(bytes, &KEY).is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A cache whose MAC is right and whose content is not: nothing it says leads out of bounds.
    #[test]
    fn a_forged_cache_is_harmless(at: prop::sample::Index, value: u8, wide: bool) {
        let site = Site::new(&[("a/b", "1"), ("a/c.html", "2"), ("d", "3")]);
        let mut bytes = site.scan().cache(ROOT, &KEY);
        let at = 40 + at.index(bytes.len() - 44);
        bytes[at] = value;
        if wide {
            bytes[at + 1..at + 4].fill(value);
        }
        let mut hasher = blake3::Hasher::new_keyed(&KEY);
        hasher.update(&bytes[..8]).update(&bytes[40..]);
        bytes[8..40].copy_from_slice(hasher.finalize().as_bytes());
        if let Some(cache) = Cache::parse(bytes, &KEY) {
            let found = site.rescan(&cache);
            found.rows();
            found.cache(ROOT, &KEY);
        }
    }
}
