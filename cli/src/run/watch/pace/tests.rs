//! BuildDebounce tests: traces of builds and editors, with a clock of their own.

use pmx_core::id::BlobId;
use pmx_sync::manifest::Entry;
use pmx_sync::media::Media;
use pmx_sync::path::SitePath;
use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Elapsed {
    Duration::from_millis(ms)
}

/// A watched folder: its events with their times, and its publishes.
#[derive(Default)]
struct Folder {
    pace: BuildDebounce,
    now: Elapsed,
    published: Vec<u64>,
    scans: u32,
    found: ScanComparison,
}

impl Folder {
    fn of(files: u64) -> Self {
        let found = ScanComparison {
            of: files,
            ..ScanComparison::default()
        };
        Self {
            found,
            ..Self::default()
        }
    }

    /// Lets time pass, as the watch's thread does.
    fn pass(&mut self, time: u64) {
        let until = self.now + ms(time);
        while let Some(due) = self.pace.due().filter(|due| *due <= until) {
            assert!(due >= self.now || self.scans < 10_000, "it never rests");
            self.now = self.now.max(due);
            self.scans += 1;
            let found = self.found;
            if self.pace.judge(&found, self.now) == ScanDecision::Publish {
                self.published.push(self.now.as_millis() as u64);
                self.pace.settled(true, self.now);
                self.found = ScanComparison {
                    of: self.found.of - self.found.missing,
                    ..ScanComparison::default()
                };
            }
        }
        self.now = until;
    }

    fn write(&mut self, path: &str) {
        self.pace.note(&FileEvent::Written(path.into()), self.now);
        self.pace.note(&FileEvent::Closed(path.into()), self.now);
    }

    fn remove(&mut self, files: u64) {
        self.found.missing += files;
        self.pace
            .note(&FileEvent::Moved("p1.html".into()), self.now);
        self.pace
            .note(&FileEvent::Moved("p2.html".into()), self.now);
    }

    fn put_back(&mut self, path: &str) {
        self.found.missing -= 1;
        self.write(path);
    }
}

#[test]
fn saved_asset_is_published_at_once_and_a_page_after_a_moment() {
    let mut folder = Folder::of(40);
    folder.write("style.css");
    folder.pass(3_000);
    folder.write("index.html");
    folder.pass(3_000);
    assert_eq!(folder.published, [25, 3_200]);
}

#[test]
fn build_that_empties_the_folder_is_one_publish() {
    for pause in [1, 30, 100, 400, 900] {
        let mut folder = Folder::of(40);
        folder.remove(40);
        for page in 0..40 {
            folder.put_back(&format!("p{page}.html"));
            if page < 39 {
                folder.pass(pause);
            }
        }
        let end = folder.now.as_millis() as u64;
        folder.pass(60_000);
        assert_eq!(folder.published.len(), 1, "{pause}");
        let late = folder.published[0] - end;
        assert!(late <= 1_000, "{pause}: {late} ms after the build");
    }
}

#[test]
fn build_that_writes_in_place_is_one_publish() {
    for pause in [1, 30, 100, 150] {
        let mut folder = Folder::of(40);
        for page in 0..15 {
            folder.write(&format!("p{page}.html"));
            folder.pass(pause);
        }
        folder.pass(60_000);
        assert_eq!(folder.published.len(), 1, "{pause}");
    }
}

#[test]
fn deletion_is_published_after_a_quiet_in_proportion() {
    for (files, of, within) in [
        (1, 1_000, 600),
        (1, 10, 1_000),
        (5, 10, 2_800),
        (9, 10, 5_000),
    ] {
        let mut folder = Folder::of(of);
        folder.remove(files);
        folder.pass(60_000);
        let [at] = folder.published[..] else {
            panic!("{:?}", folder.published)
        };
        assert!((500..=within).contains(&at), "{files} of {of}: {at}");
    }
}

#[test]
fn noise_delays_a_publish_up_to_a_bound() {
    let mut folder = Folder::of(100);
    folder.remove(1);
    for _ in 0..200 {
        folder.write("a.log");
        folder.write("b.log");
        folder.pass(50);
    }
    assert!(folder.published[0] <= 7_000, "{:?}", folder.published);
    let mut folder = Folder::of(100);
    for _ in 0..200 {
        folder.write("a.log");
        folder.write("b.log");
        folder.pass(50);
    }
    assert!((2..=6).contains(&folder.published.len()));
}

#[test]
fn file_in_the_middle_of_a_write_waits() {
    // A program writes chunks through one open file.
    let mut folder = Folder::of(10);
    for _ in 0..8 {
        folder
            .pace
            .note(&FileEvent::Written("index.html".into()), folder.now);
        folder.pass(400);
    }
    folder
        .pace
        .note(&FileEvent::Closed("index.html".into()), folder.now);
    folder.pass(10_000);
    assert_eq!(folder.published.len(), 1, "{:?}", folder.published);
    // A file that a program holds open delays no publish for long, and no later publish at all.
    let mut folder = Folder::of(10);
    folder
        .pace
        .note(&FileEvent::Written("a.log".into()), folder.now);
    folder.pass(5_000);
    folder.write("style.css");
    folder.pass(5_000);
    assert_eq!(folder.published, [1_000, 5_025]);
}

#[test]
fn file_that_became_empty_waits_for_its_content() {
    let mut folder = Folder::of(10);
    folder.write("index.html");
    folder.found.emptied = 1;
    folder.pass(600);
    assert!(folder.published.is_empty());
    folder.found.emptied = 0;
    folder.write("index.html");
    folder.pass(5_000);
    assert_eq!(folder.published, [1_100]);
    let mut folder = Folder::of(10);
    folder.write("index.html");
    folder.found.emptied = 1;
    folder.pass(5_000);
    assert_eq!(folder.published, [1_500], "it is meant");
}

#[test]
fn unreadable_folder_is_scanned_again_before_it_is_reported() {
    let mut pace = BuildDebounce::default();
    pace.note(&FileEvent::Anything, ms(0));
    let mut now = ms(0);
    let mut scans = 0;
    while pace.again(now) == ScanDecision::Wait {
        scans += 1;
        now = pace.due().unwrap();
    }
    assert!(
        (10..30).contains(&scans) && now == QUIET_MOST + ms(100),
        "{scans} {now:?}"
    );
}

fn change(path: &str, before: Option<u64>, after: Option<u64>) -> Change {
    let entry = |size: u64| Entry {
        blob: BlobId::of(&size.to_le_bytes()),
        size,
        media: Media::unknown(),
    };
    Change {
        path: SitePath::parse(path).unwrap(),
        before: before.map(entry),
        after: after.map(entry),
        rank: 0,
        neighbour: None,
    }
}

#[test]
fn found_counts_what_readers_would_miss() {
    let is = |changes: &[Change]| {
        let found = ScanComparison::of(changes, 10);
        (found.missing, found.emptied, found.passing)
    };
    let (gone, new) = (Some(5), Some(7));
    for (changes, expected) in [
        (vec![change("a.html", gone, None)], (1, 0, 0)),
        // A renamed asset replaces the old one; a page does not.
        (
            vec![
                change("assets/app-1.js", gone, None),
                change("assets/app-2.js", None, new),
            ],
            (0, 0, 0),
        ),
        (
            vec![change("a.html", gone, None), change("b.html", None, new)],
            (1, 0, 0),
        ),
        (
            vec![change("a/x.css", gone, None), change("b/y.css", None, new)],
            (1, 0, 0),
        ),
        (vec![change("a.html", gone, Some(0))], (0, 1, 0)),
        (vec![change("a.html", None, Some(0))], (0, 1, 0)),
        (vec![change("a.html", Some(0), new)], (0, 0, 0)),
        (vec![change("a.html~", None, new)], (0, 0, 1)),
        (vec![change("4913", None, Some(0))], (0, 1, 1)),
        (vec![change("a.html~", gone, new)], (0, 0, 0)),
    ] {
        assert_eq!(is(&changes), expected, "{changes:?}");
    }
}

proptest! {
    /// In every trace, each change is published within the longest bound. The folder is not scanned
    /// more often than it changes, nor more often than every 300 ms.
    #[test]
    fn pace_always_comes_to_a_publish(
        steps in proptest::collection::vec((0u8..4, 0u64..2_000), 1..60),
    ) {
        let mut folder = Folder::of(50);
        for (kind, pause) in &steps {
            match kind {
                0 => folder.write("a.html"),
                1 => folder.pace.note(&FileEvent::Written("b.html".into()), folder.now),
                2 if folder.found.missing < 40 => folder.remove(1),
                _ => folder.pace.note(&FileEvent::Anything, folder.now),
            }
            let last = folder.published.last().copied().unwrap_or_default();
            let now = folder.now.as_millis() as u64;
            prop_assert!(now - last <= 62_000 + 120_000, "{now} {last}");
            folder.pass(*pause);
        }
        folder.pass(10_000);
        prop_assert!(folder.pace.due().is_none());
        let time = folder.now.as_millis() as u64;
        prop_assert!(u64::from(folder.scans) <= steps.len() as u64 * 2 + time / 300);
    }
}
