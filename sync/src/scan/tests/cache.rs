//! Stat cache: racily clean files, caches of other scans, damaged and forged caches.

use super::*;

/// Scans so soon that the files' times prove nothing.
fn rescan_now(site: &Site, cache: &StatCache) -> Scan {
    scan(site.0.path(), &Options::default(), Some(cache), &(), now()).unwrap()
}

#[test]
fn racily_clean_file_is_read_again() {
    // Without the rule for racily clean files this fails where a tick is longer than the scan. The
    // test makes the stat equal, as such a file system would.
    let site = Site::new(&[("a", "1")]);
    let before = scan(site.0.path(), &Options::default(), None, &(), now()).unwrap();
    site.write("a", "2");
    let after = rescan_now(&site, &saved(&before));
    assert_eq!(changed(&after), ["+a"]);
    // The record now has the file's current stat. The scan still reads the file, because it is
    // racy.
    let again = rescan_now(&site, &saved(&after));
    assert_eq!(again.stats().read.files, 1);
    assert!(again.changes().is_empty() && !again.is_settled());
    // After a scan that is late enough, the file is clean.
    let settled = site.rescan(&saved(&site.rescan(&saved(&again))));
    assert!(settled.is_settled());
}

#[test]
fn stat_cache_of_another_folder_or_other_options_is_ignored() {
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
fn stat_cache_that_is_damaged_is_ignored() {
    let site = Site::new(&[("a/b", "1"), ("a/c.html", "2"), ("d", "3")]);
    let good = site.scan().cache(ROOT, &KEY);
    for len in 0..good.len() {
        assert!(
            StatCache::parse(good[..len].to_vec(), &KEY).is_none(),
            "cut at {len}"
        );
    }
    for at in 0..good.len() {
        for bit in [1, 0x10, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            assert!(StatCache::parse(bad, &KEY).is_none(), "byte {at}");
        }
    }
    assert!(StatCache::parse([good, vec![0]].concat(), &KEY).is_none());
}

/// A cache with two files swapped, with the root and the sums of its author's choice.
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
fn stat_cache_of_another_key_is_ignored() {
    let site = Site::new(&[("a.txt", "1"), ("b.txt", "2")]);
    let found = site.scan();
    let good = found.cache(ROOT, &KEY);
    assert!(StatCache::parse(good.clone(), &KEY).is_some());
    assert!(StatCache::parse(good.clone(), &[9; 32]).is_none());
    let keyed = |bytes: &[u8]| *blake3::keyed_hash(&[9; 32], bytes).as_bytes();
    let plain = |bytes: &[u8]| *blake3::hash(&bytes[40..]).as_bytes();
    let old = |_: &[u8]| <[u8; 32]>::try_from(&good[8..40]).unwrap();
    for bytes in [
        crafted(&good, keyed),
        crafted(&good, plain),
        crafted(&good, old),
    ] {
        assert!(StatCache::parse(bytes, &KEY).is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A cache with a right MAC and wrong content: none of its fields leads out of bounds.
    #[test]
    fn stat_cache_that_is_forged_is_harmless(at: prop::sample::Index, value: u8, wide: bool) {
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
        if let Some(cache) = StatCache::parse(bytes, &KEY) {
            let found = site.rescan(&cache);
            found.rows();
            found.cache(ROOT, &KEY);
        }
    }
}
