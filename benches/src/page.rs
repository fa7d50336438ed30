//! One-page workload: the cost of a sync after one page changed, compared with the same sync
//! without changes. The page is in the largest folder or in a small one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use crate::bench::Bench;
use crate::files::File;
use crate::floor;
use crate::noop::Site;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::table::{Goal, Row, Unit};

/// Most bytes sent beyond the page's own frame.
const BEYOND: f64 = 1000.0;

/// A folder with at most this many pages is small.
const SMALL: usize = 10;

/// Seconds beyond the page's own time.
const BEYOND_TIME: Measure = Measure::Fact("time beyond the page's own");

/// Bytes sent beyond those of the compressed page.
const BEYOND_SENT: Measure = Measure::Fact("sent beyond the page's own");

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let pages = Pages::of(bench.v1.files());
    let crowd = pages.crowded().context("v1 has no pages")?;
    let small = pages.small().context("v1 has no small folder")?;
    let copy = bench.v1.copy()?;
    let moved = |page: &Path| -> Result<PathBuf> {
        Ok(copy.path().join(page.strip_prefix(bench.v1.folder())?))
    };
    let (crowd_page, small_page) = (moved(&crowd.page)?, moved(&small.page)?);
    let site = Site::of(bench, copy.path());
    let setup = || site.as_ref().map_err(|error| anyhow!("{error:#}"));
    let changing = |name, page| {
        Contender::from_setup(name, setup(), move |site, round| change(site, page, round))
    };
    let [noop, in_crowd, in_small] = interleave(
        bench.rounds,
        [
            Contender::from_setup("no change", setup(), |site, _| {
                let sample = site.sync(copy.path())?;
                let wall = sample.wall;
                Ok(sample.with("time beyond the page's own", wall))
            }),
            changing("one page", (copy.path(), &crowd_page)),
            changing("one page of few", (copy.path(), &small_page)),
        ],
    );
    let mut rows = about(&noop, &in_crowd, crowd.entries);
    rows.extend(about(&noop, &in_small, small.entries));
    Ok(rows)
}

/// Edits the page differently in each round, and publishes.
fn change(site: &Site, (folder, page): (&Path, &Path), round: usize) -> Result<Sample> {
    let mut text = fs::read(page)?;
    text.extend_from_slice(format!("<!-- round {round} -->\n").as_bytes());
    fs::write(page, &text)?;
    let (own_time, own_len) = own(&text)?;
    let sample = site.sync(folder)?;
    anyhow::ensure!(
        sample.facts.get("modified") == Some(&1.0),
        "one page changed, and pmx saw {:?}",
        sample.facts.get("modified")
    );
    let sent = *sample.facts.get("sent").context("no bytes.sent")?;
    let wall = sample.wall;
    Ok(sample
        .with("time beyond the page's own", wall - own_time)
        .with("sent beyond the page's own", sent - own_len))
}

/// The page's own cost: the seconds for hashing and compressing it on the client, and for decoding,
/// verifying and compressing it on the server. Also the bytes of its frame.
fn own(text: &[u8]) -> Result<(f64, f64)> {
    let start = Instant::now();
    let hash = blake3::hash(text);
    let frame_len = floor::zstd_len(text)?;
    anyhow::ensure!(blake3::hash(text) == hash, "the page changed in memory");
    floor::zstd_len(text)?;
    Ok((start.elapsed().as_secs_f64(), frame_len as f64))
}

fn about(noop: &Series, one: &Series, entries: usize) -> Vec<Row> {
    let what = format!("one changed page in a folder of {entries}");
    let limit = |text: &str, measure, unit, limit| {
        Row::limit(format!("{what}: {text}"), one, (measure, unit), Some(limit))
    };
    vec![
        Row::compare_in(
            Unit::Seconds,
            format!("{what}, beyond the page's own time"),
            (one, noop),
            BEYOND_TIME,
            Goal::AtMost(1.15),
        ),
        limit("requests", Measure::Fact("requests"), Unit::Count, 1.0),
        limit(
            "sent beyond its own zstd size",
            BEYOND_SENT,
            Unit::Bytes,
            BEYOND,
        ),
        Row::limit(
            format!("{what}: received"),
            one,
            (Measure::Fact("received"), Unit::Bytes),
            None,
        ),
    ]
}

/// A page, and the number of files in its folder.
struct Chosen {
    page: PathBuf,
    entries: usize,
}

/// The files of a site by folder.
struct Pages<'a>(BTreeMap<&'a Path, Vec<&'a File>>);

impl<'a> Pages<'a> {
    fn of(files: &'a [File]) -> Self {
        let mut folders: BTreeMap<&Path, Vec<&File>> = BTreeMap::new();
        for file in files {
            if let Some(folder) = file.path.parent() {
                folders.entry(folder).or_default().push(file);
            }
        }
        Self(folders)
    }

    /// The page of median length in the folder with the most files.
    fn crowded(&self) -> Option<Chosen> {
        let folder = self.0.values().max_by_key(|files| files.len())?;
        middle_page(folder)
    }

    /// The page of median length in the first folder that has a page and few files.
    fn small(&self) -> Option<Chosen> {
        let mut small = self.0.values().filter(|files| files.len() <= SMALL);
        small.find_map(|folder| middle_page(folder))
    }
}

fn middle_page(folder: &[&File]) -> Option<Chosen> {
    let is_page = |file: &&&File| file.path.extension().is_some_and(|ending| ending == "html");
    let mut pages: Vec<&&File> = folder.iter().filter(is_page).collect();
    pages.sort_by_key(|file| file.len);
    Some(Chosen {
        page: pages.get(pages.len() / 2)?.path.clone(),
        entries: folder.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_chosen_by_the_size_of_their_folder() {
        let mut files: Vec<File> = (0..50)
            .map(|len| File {
                path: format!("large/{len}.html").into(),
                len,
            })
            .collect();
        for path in ["small/a.css", "small/b.html"] {
            files.push(File {
                path: path.into(),
                len: 1,
            });
        }
        let pages = Pages::of(&files);
        let (crowd, small) = (pages.crowded().unwrap(), pages.small().unwrap());
        assert_eq!(crowd.page, Path::new("large/25.html"));
        assert_eq!((crowd.entries, small.entries), (50, 2));
        assert_eq!(small.page, Path::new("small/b.html"));
    }
}
