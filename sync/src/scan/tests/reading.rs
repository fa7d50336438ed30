//! Files that change while they are read, and large ones.

use super::*;

/// A file whose first and last byte count up in turn, the first before the last. At any moment the
/// first equals the last or is one ahead. Any other hash is of a mixture.
#[test]
fn file_that_changes_never_gives_a_mixture() {
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
fn file_that_never_holds_still_is_named() {
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
        let reader = read::FileHasher::new(i64::MAX);
        let open = || {
            opened.fetch_add(1, Ordering::Relaxed);
            fs::File::open(&path)
        };
        let outcome = reader.hash("log\x1b", open, &|_| ());
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
        ("a", 512 * 1024 - 1),
        ("b", 512 * 1024),
        ("c", 512 * 1024 + 1),
        ("c2", 2 * 1024 * 1024),
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

#[test]
fn progress_moves_within_a_long_file() {
    #[derive(Default)]
    struct Steps(std::sync::Mutex<Vec<(u64, u64)>>);
    impl Progress for Steps {
        fn found(&self, _files: u64, _bytes: u64) {}
        fn hashed(&self, files: u64, bytes: u64) {
            self.0.lock().unwrap().push((files, bytes));
        }
    }
    let size = 20 * 1024 * 1024 + 77;
    let site = Site::new(&[("a", "1")]);
    fs::write(site.path("long"), vec![7; size]).unwrap();
    // A file that may be in the middle of a write is read twice, and counted once.
    for timestamp in [now(), later()] {
        let steps = Steps::default();
        scan(site.0.path(), &Options::default(), None, &steps, timestamp).unwrap();
        let steps = steps.0.into_inner().unwrap();
        let sum = |of: fn(&(u64, u64)) -> u64| steps.iter().map(of).sum::<u64>();
        assert_eq!(sum(|step| step.0), 2);
        assert_eq!(sum(|step| step.1), size as u64 + 1);
        let largest = steps.iter().map(|step| step.1).max();
        assert!(largest.unwrap() <= 4 * 1024 * 1024, "{steps:?}");
    }
}
