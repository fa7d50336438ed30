//! Generated folders: both walks agree, and changes lead from any site to any other.

use super::*;

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

/// Writes the files, except those in conflict with an earlier one.
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
    fn walks_of_both_kinds_and_any_threads_agree(files in tree(), threads in 1usize..9) {
        let site = Site::new(&[]);
        let model = build(&site, &files);
        let threads = NonZeroUsize::new(threads);
        let [one, other] = [FileAccess::Descriptors, FileAccess::Portable].map(|walk| {
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
        // A further scan finds no changes.
        let again = site.rescan(&saved(&after));
        prop_assert!(again.changes().is_empty() && again.is_settled());
        prop_assert_eq!(again.rows(), after.rows());
        prop_assert_eq!(again.cache(ROOT, &KEY).len(), after.cache(ROOT, &KEY).len());
    }
}
