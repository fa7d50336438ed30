//! Scans of real folders, good and bad. All times are real: a scan that is told that it is ten
//! seconds later finds settled files, one that is told the truth finds files just written.
#![cfg(unix)] // links, FIFOs and odd names are made the way of Unix
#![allow(clippy::disallowed_methods)] // tests write what scans read, and know the time

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::code::Code;
use crate::id::BlobId;

const ROOT: Root = Root::from_bytes([7; 32]);

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
    Cache::parse(scan.cache(ROOT)).expect("a cache can be read back")
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
    assert_eq!(row.entry.media.as_str(), "text/html; charset=utf-8");
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
        prop_assert_eq!(one.cache(ROOT).len(), other.cache(ROOT).len());
    }

    #[test]
    fn changes_lead_from_the_old_site_to_the_new(first in tree(), second in tree(), keep: bool) {
        let site = Site::new(&[]);
        build(&site, &first);
        let before = site.scan();
        if !keep {
            for entry in fs::read_dir(site.0.path()).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
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
        prop_assert_eq!(again.cache(ROOT).len(), after.cache(ROOT).len());
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
fn a_damaged_cache_is_no_cache() {
    let site = Site::new(&[("a/b", "1"), ("a/c.html", "2"), ("d", "3")]);
    let good = site.scan().cache(ROOT);
    for len in 0..good.len() {
        assert!(Cache::parse(good[..len].to_vec()).is_none(), "cut at {len}");
    }
    for at in 0..good.len() {
        for bit in [1, 0x10, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            assert!(Cache::parse(bad).is_none(), "byte {at}");
        }
    }
    assert!(Cache::parse([good, vec![0]].concat()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A cache whose sum is right and whose content is not: nothing it says leads out of bounds.
    #[test]
    fn a_forged_cache_is_harmless(at: prop::sample::Index, value: u8, wide: bool) {
        let site = Site::new(&[("a/b", "1"), ("a/c.html", "2"), ("d", "3")]);
        let mut bytes = site.scan().cache(ROOT);
        let at = 40 + at.index(bytes.len() - 44);
        bytes[at] = value;
        if wide {
            bytes[at + 1..at + 4].fill(value);
        }
        let sum = blake3::hash(&bytes[40..]);
        bytes[8..40].copy_from_slice(sum.as_bytes());
        if let Some(cache) = Cache::parse(bytes) {
            let found = site.rescan(&cache);
            found.rows();
            found.cache(ROOT);
        }
    }
}

#[test]
fn links_inside_are_followed() {
    let site = Site::new(&[("real/a.html", "1"), ("real/b/c", "2"), ("x/y", "3")]);
    symlink("real/a.html", site.path("link.css")).unwrap();
    symlink("../real", site.path("x/folder")).unwrap();
    symlink("folder", site.path("x/twice")).unwrap();
    symlink(site.path("x/y"), site.path("absolute")).unwrap();
    let found = site.scan();
    assert_eq!(
        paths(&found),
        [
            "absolute",
            "link.css",
            "real/a.html",
            "real/b/c",
            "x/folder/a.html",
            "x/folder/b/c",
            "x/twice/a.html",
            "x/twice/b/c",
            "x/y",
        ]
    );
    let portable = Options {
        walk: Walk::Portable,
        ..Options::default()
    };
    assert_eq!(site.try_scan(&portable).unwrap().rows(), found.rows());
    let link = found
        .rows()
        .into_iter()
        .find(|row| row.path.as_str() == "link.css")
        .unwrap();
    assert_eq!(link.entry.blob, BlobId::of(b"1"));
    assert_eq!(link.entry.media.as_str(), "text/css; charset=utf-8");
    let cache = saved(&found);
    assert!(site.rescan(&cache).is_settled());
    fs::remove_file(site.path("link.css")).unwrap();
    symlink("real/b/c", site.path("link.css")).unwrap();
    assert_eq!(changed(&site.rescan(&cache)), ["+link.css"]);
    // A file behind a link that became a folder.
    fs::remove_file(site.path("link.css")).unwrap();
    symlink("real/b", site.path("link.css")).unwrap();
    let after = site.rescan(&cache);
    assert_eq!(changed(&after), ["-link.css", "+link.css/c"]);
    assert_eq!(after.rows(), site.scan().rows());
}

#[test]
fn the_folder_itself_may_be_a_link() {
    let site = Site::new(&[("real/a", "1")]);
    symlink("real", site.path("dist")).unwrap();
    let found = scan(&site.path("dist"), &Options::default(), None, &(), later()).unwrap();
    assert_eq!(paths(&found), ["a"]);
}

#[test]
fn bad_links_are_refused() {
    let outside = Site::new(&[("secret", "1")]);
    let bad: [(&str, PathBuf); 8] = [
        ("out", outside.path("secret")),
        ("out-folder", outside.0.path().to_owned()),
        ("up", "..".into()),
        ("dangling", "nothing".into()),
        ("self", "self".into()),
        ("top", ".".into()),
        ("a/above", "../a".into()),
        ("proc", "/proc/self/environ".into()),
    ];
    for (name, target) in bad {
        let site = Site::new(&[("a/b", "1")]);
        symlink(&target, site.path(name)).unwrap();
        assert_eq!(site.codes(), [Code::SymlinkEscape], "{name}");
    }
    let site = Site::new(&[("a/x", "1"), ("b/y", "1")]);
    symlink("../b", site.path("a/to-b")).unwrap();
    symlink("../a", site.path("b/to-a")).unwrap();
    assert_eq!(site.codes(), [Code::SymlinkEscape; 2]);
}

fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn special_files_are_refused_and_never_block() {
    let site = Site::new(&[("a", "1")]);
    make_fifo(&site.path("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    assert_eq!(site.codes(), [Code::NotRegular; 2]);
    symlink("fifo", site.path("link")).unwrap();
    assert_eq!(site.codes(), [Code::NotRegular; 3]);
    // One that takes the place of a file after the listing.
    let ground = ground::descriptors::Descriptors::new(site.0.path()).unwrap();
    let top = ground.top().unwrap();
    for name in [c"fifo", c"socket"] {
        let problem = read::Reader::probe("x", || ground.open(&top, name)).unwrap_err();
        assert_eq!(problem.code(), Code::NotRegular, "{name:?}");
    }
}

#[test]
fn names_that_are_no_paths_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    for name in [
        &b"a\x1b[2J"[..],
        b"a\\b",
        b"a\x7f",
        b"bad\xff",
        b"new\nline",
    ] {
        let site = Site::new(&[("a/b", "1")]);
        let name = std::ffi::OsStr::from_bytes(name);
        fs::write(site.path("a").join(name), "x").unwrap();
        assert_eq!(site.codes(), [Code::PathInvalid], "file {name:?}");
        let site = Site::new(&[("a/b", "1")]);
        fs::create_dir(site.path("a").join(name)).unwrap();
        assert_eq!(site.codes(), [Code::PathInvalid], "folder {name:?}");
        let text = site.try_scan(&Options::default()).unwrap_err().to_string();
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
    }
    let site = Site::new(&[(&vec!["d"; 130].join("/"), "x")]);
    assert_eq!(site.codes(), [Code::PathInvalid]);
    let site = Site::new(&[(&vec!["long".repeat(50); 6].join("/"), "x")]);
    assert_eq!(site.codes(), [Code::PathInvalid]);
}

#[test]
fn collisions_are_refused_unless_meant() {
    let tables: [(&[&str], usize); 9] = [
        (&["A", "a"], 1),
        (&["x/é", "x/e\u{301}"], 1),
        (&["ß", "ss"], 1),
        (&["A/x", "a/X"], 1),
        (&["A/b/x", "a/B/x", "a/y"], 1),
        (&["A/x", "a"], 1),
        (&["A/x", "a/y"], 0),
        (&["A", "a", "B", "b"], 2),
        (&["x/A", "y/a"], 0),
    ];
    for (names, expected) in tables {
        let files: Vec<_> = names.iter().map(|name| (*name, "1")).collect();
        let site = Site::new(&files);
        assert_eq!(
            site.codes(),
            vec![Code::PathCollision; expected],
            "{names:?}"
        );
        let allow = Options {
            collisions: Collisions::Allow,
            ..Options::default()
        };
        assert_eq!(
            site.try_scan(&allow).unwrap().totals().files,
            names.len() as u64
        );
    }
}

#[test]
fn a_collision_that_comes_later_is_noticed() {
    let site = Site::new(&[("A/deep/x", "1"), ("a/y", "1")]);
    let cache = saved(&site.scan());
    site.write("a/deep/X", "2");
    let outcome = scan(
        site.0.path(),
        &Options::default(),
        Some(&cache),
        &(),
        later(),
    );
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), Code::PathCollision);
    let text = error.to_string();
    assert!(
        text.contains("A/deep/x") && text.contains("a/deep/X"),
        "{text}"
    );
}

#[test]
fn odd_names_are_published_with_a_warning() {
    let site = Site::new(&[("aux.txt", "1"), ("a/b.", "1"), ("c", "1")]);
    let found = site.scan();
    let warned: Vec<_> = found
        .stats()
        .warnings
        .iter()
        .map(|w| w.path.as_str())
        .collect();
    assert_eq!(warned, ["a/b.", "aux.txt"]);
    assert_eq!(found.totals().files, 3);
    assert!(site.rescan(&saved(&found)).stats().warnings.is_empty());
}

#[test]
fn a_folder_that_is_missing_or_none() {
    let site = Site::new(&[("file", "1")]);
    for path in [site.path("nothing"), site.path("file"), site.path("file/x")] {
        for walk in [Walk::Descriptors, Walk::Portable] {
            let options = Options {
                walk,
                ..Options::default()
            };
            let error = scan(&path, &options, None, &(), later()).unwrap_err();
            assert_eq!(error.code(), Code::SourceMissing, "{path:?}");
        }
    }
}

#[test]
fn a_file_above_the_limit() {
    let site = Site::new(&[("a", "1")]);
    let file = fs::File::create(site.path("sparse")).unwrap();
    file.set_len(crate::limits::BLOB_BYTES_MAX + 1).unwrap();
    assert_eq!(site.codes(), [Code::TooLarge]);
}

#[test]
#[allow(clippy::print_stderr)]
fn what_the_system_refuses_is_unreadable() {
    use std::os::unix::fs::PermissionsExt;
    let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    assert_eq!(
        Problem::from_io("a", "open", denied()).code(),
        Code::Unreadable
    );
    let site = Site::new(&[("a", "1"), ("b/c", "1")]);
    for name in ["a", "b"] {
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    if fs::File::open(site.path("a")).is_ok() {
        eprintln!("skipped in part: permissions do not bind this user");
        return;
    }
    assert_eq!(site.codes(), [Code::Unreadable; 2]);
}

#[test]
fn problems_are_listed_in_path_order_up_to_twenty() {
    let site = Site::new(&[]);
    for number in 10..40 {
        symlink("nothing", site.path(&format!("link{number}"))).unwrap();
    }
    let error = site.try_scan(&Options::default()).unwrap_err();
    assert_eq!((error.problems().len(), error.unlisted()), (20, 10));
    let text = error.to_string();
    assert!(text.starts_with("\"link10\" is a symbolic link"), "{text}");
    assert!(
        text.contains("link29") && !text.contains("link30"),
        "{text}"
    );
    assert!(text.ends_with("and 10 more"), "{text}");
}

/// A file whose first and last byte count up in turn, the first before the last: at any moment the
/// first is the last or one ahead. Whatever else is hashed is a mixture.
#[test]
fn a_file_that_changes_never_gives_a_mixture() {
    for (size, count) in [(256 * 1024, 64u8), (3 * 1024 * 1024, 8)] {
        let state = |first: u8, last: u8| {
            let mut bytes = vec![0u8; size];
            bytes[0] = first;
            bytes[size - 1] = last;
            bytes
        };
        let legitimate: Vec<BlobId> = (0..count)
            .flat_map(|at| [state(at, at), state((at + 1) % count, at)])
            .map(|bytes| BlobId::of(&bytes))
            .collect();
        let site = Site::new(&[]);
        fs::write(site.path("file"), state(0, 0)).unwrap();
        let file = fs::File::options()
            .write(true)
            .open(site.path("file"))
            .unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut at = 0;
                while !done.load(Ordering::Relaxed) {
                    at = (at + 1) % count;
                    file.write_at(&[at], 0).unwrap();
                    file.write_at(&[at], size as u64 - 1).unwrap();
                    std::thread::yield_now();
                }
            });
            for _ in 0..15 {
                let options = Options {
                    threads: NonZeroUsize::new(1),
                    ..Options::default()
                };
                match scan(site.0.path(), &options, None, &(), now()) {
                    Ok(found) => {
                        let blob = found.rows()[0].entry.blob;
                        assert!(legitimate.contains(&blob), "a mixture was hashed");
                    }
                    Err(error) => assert_eq!(error.code(), Code::ChangedDuringRead),
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_file_that_never_holds_still_is_named() {
    let site = Site::new(&[("log", "")]);
    let path = site.path("log");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(32 * 1024 * 1024).unwrap();
    let opened = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut more = 0;
            while !done.load(Ordering::Relaxed) {
                more += 1;
                file.set_len(32 * 1024 * 1024 + more).unwrap();
            }
        });
        let reader = read::Reader::new(i64::MAX);
        let outcome = reader.hash("log\x1b", || {
            opened.fetch_add(1, Ordering::Relaxed);
            fs::File::open(&path)
        });
        done.store(true, Ordering::Relaxed);
        outcome
    });
    let problem = outcome.unwrap_err();
    assert_eq!(problem.code(), Code::ChangedDuringRead);
    assert_eq!(
        problem.to_string(),
        "\"log\\u{1b}\" changed while it was read"
    );
    assert_eq!(opened.into_inner(), 3);
}

#[test]
fn big_files_are_hashed_whole() {
    let site = Site::new(&[]);
    let mut expected = Vec::new();
    for (name, size) in [
        ("a", 1024 * 1024 - 1),
        ("b", 1024 * 1024),
        ("c", 1024 * 1024 + 1),
        ("d", 8 * 1024 * 1024 + 1),
        ("e", 20 * 1024 * 1024 + 77),
    ] {
        let content: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        fs::write(site.path(name), &content).unwrap();
        expected.push(BlobId::of(&content));
    }
    for timestamp in [now(), later()] {
        let found = scan(site.0.path(), &Options::default(), None, &(), timestamp).unwrap();
        let blobs: Vec<_> = found.rows().iter().map(|row| row.entry.blob).collect();
        assert_eq!(blobs, expected);
    }
}

#[test]
fn progress_adds_up() {
    #[derive(Default)]
    struct Sum([AtomicU64; 4]);
    impl Progress for Sum {
        fn found(&self, files: u64, bytes: u64) {
            self.0[0].fetch_add(files, Ordering::Relaxed);
            self.0[1].fetch_add(bytes, Ordering::Relaxed);
        }
        fn hashed(&self, files: u64, bytes: u64) {
            self.0[2].fetch_add(files, Ordering::Relaxed);
            self.0[3].fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let site = Site::new(&[("a/b", "12"), ("a/c", "345"), ("d", "6")]);
    let cache = saved(&site.scan());
    site.write("d", "78");
    let sum = Sum::default();
    scan(
        site.0.path(),
        &Options::default(),
        Some(&cache),
        &sum,
        later(),
    )
    .unwrap();
    assert_eq!(sum.0.map(AtomicU64::into_inner), [3, 7, 1, 2]);
}

fn pathmx(files: &[(&str, &str)]) -> Site {
    let site = Site::new(&[]);
    for (path, content) in files {
        site.write(&format!(".pathmx/{path}"), content);
    }
    site
}

fn scan_pathmx(site: &Site, cache: Option<&Cache>) -> Result<Scan, ScanError> {
    scan(
        &site.path(".pathmx"),
        &Options::default(),
        cache,
        &(),
        later(),
    )
}

#[test]
fn one_root_of_a_build_is_served_at_the_top() {
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
fn several_roots_of_a_build_are_served_below_their_slugs() {
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
    // A manifest that now names more than there is.
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
    let tables: [&[(&str, &str)]; 10] = [
        &[("docs/a", "1")],
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
