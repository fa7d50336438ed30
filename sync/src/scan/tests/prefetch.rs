//! Prefetch: it may save a read, and never makes a scan wrong.

use std::thread::sleep;

use pmx_core::limits::PART_BYTES;

use super::*;

/// Lists a folder and prefetches all of it.
fn read_ahead(site: &Site, walk: FileAccess) -> (Prefetch, Vec<Option<BlobId>>) {
    let options = Options {
        walk,
        ..Options::default()
    };
    let ahead = list(site.0.path(), &options, &(), now()).unwrap();
    let (mut sources, mut bytes) = (ahead.sources(), b"before".to_vec());
    let read = (0..ahead.files().count())
        .map(|at| {
            let start = bytes.len();
            let blob = ahead.read(at, &mut sources, &mut bytes);
            assert_eq!(blob.unwrap_or(BlobId::of(b"")), BlobId::of(&bytes[start..]));
            blob
        })
        .collect();
    assert!(bytes.starts_with(b"before"));
    (ahead, read)
}

fn scan_after(site: &Site, ahead: &Prefetch) -> Scan {
    scan_prefetched(site.0.path(), &Options::default(), ahead, &(), now()).unwrap()
}

/// Lets files settle, so that they do not count as being written.
fn settle() {
    sleep(Duration::from_nanos(WRITING_NANOSECONDS as u64 * 3 / 2));
}

#[test]
fn scan_prefetched_does_not_read_prefetched_files_again() {
    let site = Site::new(&[("a.html", "one"), ("b/c.css", "two"), ("b/empty", "")]);
    symlink("../a.html", site.path("b/link.html")).unwrap();
    settle();
    for walk in [FileAccess::Descriptors, FileAccess::Portable] {
        let (ahead, read) = read_ahead(&site, walk);
        let listed: Vec<_> = ahead
            .files()
            .map(|file| (file.path.as_str(), file.size))
            .collect();
        let expected = [
            ("a.html", 3),
            ("b/c.css", 3),
            ("b/empty", 0),
            ("b/link.html", 3),
        ];
        assert_eq!(listed, expected);
        assert!(read.iter().all(Option::is_some));
        let scanned = scan_after(&site, &ahead);
        assert_eq!(scanned.stats().read, Totals::default());
        assert_eq!(scanned.rows(), site.scan().rows());
        assert_eq!(changed(&site.rescan(&saved(&scanned))), [""; 0]);
    }
}

#[test]
fn scan_prefetched_notices_every_later_change() {
    type Act = fn(&Site);
    let acts: [(&str, u64, Act); 6] = [
        ("other bytes", 1, |site| site.write("a.html", "ONE")),
        ("more bytes", 1, |site| site.write("a.html", "one and more")),
        ("the same bytes", 1, |site| site.write("a.html", "one")),
        ("a new file", 1, |site| site.write("b/new", "new")),
        ("gone", 0, |site| {
            fs::remove_file(site.path("a.html")).unwrap();
        }),
        ("another in its place", 1, |site| {
            site.write("other", "ONE");
            fs::rename(site.path("other"), site.path("a.html")).unwrap();
        }),
    ];
    for (what, read, act) in acts {
        let site = Site::new(&[("a.html", "one"), ("b/c.css", "two")]);
        settle();
        let (ahead, _) = read_ahead(&site, FileAccess::Descriptors);
        act(&site);
        let scanned = scan_after(&site, &ahead);
        assert_eq!(scanned.rows(), site.scan().rows(), "{what}");
        assert_eq!(scanned.stats().read.files, read, "{what}");
    }
}

#[test]
fn prefetch_leaves_changing_files_to_the_scan() {
    let site = Site::new(&[("long", "one"), ("old", "old"), ("short", "two")]);
    let large = fs::File::create(site.path("large")).unwrap();
    large.set_len(PART_BYTES + 1).unwrap();
    settle();
    let ahead = list(site.0.path(), &Options::default(), &(), now()).unwrap();
    site.write("long", "one and more");
    site.write("short", "t");
    site.write("new", "new");
    let (mut sources, mut bytes) = (ahead.sources(), Vec::new());
    let read: Vec<_> = (0..5)
        .map(|at| ahead.read(at, &mut sources, &mut bytes))
        .collect();
    assert_eq!(read, [None, None, Some(BlobId::of(b"old")), None, None]);
    assert_eq!(bytes, b"old");
    let scanned = scan_after(&site, &ahead);
    assert_eq!(scanned.rows(), site.scan().rows());
    assert_eq!(scanned.stats().read.files, 4);

    site.write("fresh", "x");
    let (_, read) = read_ahead(&site, FileAccess::Descriptors);
    assert_eq!(
        read[0], None,
        "a file just written may be in the middle of it"
    );
}

#[test]
fn list_refuses_what_a_scan_refuses() {
    let site = Site::new(&[("a", "1"), ("A", "2"), ("nul\u{7f}", "3")]);
    symlink("/etc", site.path("away")).unwrap();
    let listed = list(site.0.path(), &Options::default(), &(), later()).unwrap_err();
    let scanned = site.try_scan(&Options::default()).unwrap_err();
    let said = |error: &ScanError| -> Vec<String> {
        error.problems().iter().map(ToString::to_string).collect()
    };
    assert!(said(&listed).len() > 1, "{listed}");
    assert_eq!(said(&listed), said(&scanned));
}
