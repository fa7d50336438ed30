//! Naive comparison of two versions: reads, hashes and compares everything.
//!
//! It checks the added, modified and removed files that `pmx` reports. It also gives the bytes of
//! the usual way to publish, which sends each new file once, compressed separately.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Result;

use crate::corpus::Corpus;
use crate::files::THREADS;
use crate::floor;

type Site = BTreeMap<PathBuf, blake3::Hash>;

/// The differences of two versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Paths that only the new version has.
    pub(crate) added: u64,
    /// Paths that both have, with other bytes.
    pub(crate) modified: u64,
    /// Paths that only the old version has.
    pub(crate) removed: u64,
    /// Paths that both have, with the same bytes.
    pub(crate) unchanged: u64,
    /// Bytes of the contents that only the new version has: each once, compressed separately.
    pub(crate) whole_files_zstd: u64,
}

/// Compares every byte of both versions.
pub(crate) fn compare(old: &Corpus, new: &Corpus) -> Result<Difference> {
    let (old, new_site) = (hashes(old)?, hashes(new)?);
    let mut difference = classify(&old, &new_site);
    let held: BTreeSet<&[u8; 32]> = old.values().map(blake3::Hash::as_bytes).collect();
    let mut wanted: BTreeMap<&[u8; 32], PathBuf> = BTreeMap::new();
    for (path, hash) in &new_site {
        if !held.contains(hash.as_bytes()) {
            wanted.insert(hash.as_bytes(), new.folder().join(path));
        }
    }
    let wanted: Vec<PathBuf> = wanted.into_values().collect();
    let sizes = on_threads(
        &wanted,
        |path| Ok(floor::zstd_len(&fs::read(path)?)? as u64),
    )?;
    difference.whole_files_zstd = sizes.iter().sum();
    Ok(difference)
}

fn hashes(corpus: &Corpus) -> Result<Site> {
    let paths = corpus.files().iter().map(|file| {
        let relative = file.path.strip_prefix(corpus.folder())?;
        Ok(is_published(relative).then_some((file.path.as_path(), relative)))
    });
    let paths: Vec<_> = paths.filter_map(Result::transpose).collect::<Result<_>>()?;
    let pairs = on_threads(&paths, |(path, relative)| {
        Ok((relative.to_path_buf(), blake3::hash(&fs::read(path)?)))
    })?;
    Ok(pairs.into_iter().collect())
}

/// Whether a path is published: names with a leading dot are not, except for `.well-known`.
fn is_published(relative: &Path) -> bool {
    relative.iter().all(|name| {
        let is_dotted = name.as_encoded_bytes().starts_with(b".");
        !is_dotted || name == ".well-known"
    })
}

fn classify(old: &Site, new: &Site) -> Difference {
    let mut difference = Difference::default();
    for (path, hash) in new {
        match old.get(path) {
            None => difference.added += 1,
            Some(before) if before == hash => difference.unchanged += 1,
            Some(_) => difference.modified += 1,
        }
    }
    difference.removed = old.keys().filter(|path| !new.contains_key(*path)).count() as u64;
    difference
}

/// Applies `work` to each item, on all threads.
fn on_threads<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let share = items.len().div_ceil(THREADS).max(1);
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = items
            .chunks(share)
            .map(|chunk| scope.spawn(|| chunk.iter().map(&work).collect::<Result<Vec<R>>>()))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect::<Result<Vec<Vec<R>>>>()
    })?;
    Ok(parts.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_classified() {
        let site = |rows: &[(&str, &str)]| -> Site {
            let rows = rows.iter();
            rows.map(|(path, text)| (path.into(), blake3::hash(text.as_bytes())))
                .collect()
        };
        let old = site(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let new = site(&[("a", "1"), ("b", "2"), ("d", "1"), ("e", "1")]);
        let expected = Difference {
            added: 2,
            modified: 1,
            removed: 1,
            unchanged: 1,
            whole_files_zstd: 0,
        };
        assert_eq!(classify(&old, &new), expected);
    }

    #[test]
    fn names_with_a_dot_are_left_out() {
        for (path, published) in [
            ("a/b.html", true),
            ("a/.nojekyll", false),
            (".git/config", false),
            (".well-known/security.txt", true),
        ] {
            assert_eq!(is_published(Path::new(path)), published, "{path}");
        }
    }

    #[test]
    fn threads_keep_the_order() {
        let items: Vec<usize> = (0..7).collect();
        assert_eq!(
            on_threads(&items, |item| Ok(item * 2)).unwrap(),
            [0, 2, 4, 6, 8, 10, 12]
        );
        assert!(on_threads(&items, |item| Ok(u8::try_from(item * 100)?)).is_err());
    }
}
