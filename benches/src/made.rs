//! Generated sites: as large and as repetitive as real ones, with expensive edits. The same seed
//! gives the same site on every machine.
//!
//! A page has a navigation that all pages share, its own text, and a footer with the site's
//! version. The text consists of words, of which some are common and most are rare, as in any
//! language. So it compresses like text: alone, to about a quarter.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

/// Default seed.
pub(crate) const SEED: u64 = 20_261_122;

/// Number of different words.
const WORDS: u64 = 8192;

/// Number of words in a paragraph.
const PARAGRAPH: Range<u64> = 25..90;

/// Number of pages in a folder.
const FOLDER: u64 = 100;

/// Edit between two versions of a generated site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// No edit.
    None,
    /// One byte of one page.
    Byte,
    /// The version in every footer.
    Footer,
    /// One more entry in every page's navigation.
    Navigation,
    /// A point release: the version and a stylesheet's hash in nearly all pages, a paragraph in
    /// some.
    Release,
}

/// A site that can be written in several versions.
pub(crate) struct Made {
    seed: u64,
    pages: u64,
    /// Number of paragraphs of a page.
    paragraphs: Range<u64>,
    words: Vec<String>,
}

impl Made {
    /// 20,000 pages of some KB each.
    pub(crate) fn pages(seed: u64) -> Self {
        Self::new(seed, 20_000, 6..18)
    }

    /// 3,000 pages of 10 to 40 KB each, like those of manuals.
    pub(crate) fn manual(seed: u64) -> Self {
        Self::new(seed, 3_000, 18..90)
    }

    fn new(seed: u64, pages: u64, paragraphs: Range<u64>) -> Self {
        let mut random = Random(seed);
        Self {
            seed,
            pages,
            paragraphs,
            words: (0..WORDS).map(|_| random.word()).collect(),
        }
    }

    /// The number of pages.
    pub(crate) const fn count(&self) -> u64 {
        self.pages
    }

    /// Writes a version of the site into a folder.
    pub(crate) fn write(&self, folder: &Path, edit: Edit) -> Result<()> {
        for number in 0..self.pages {
            // Each page has a unique name. git searches similar files among those with the same
            // name, and pages of manuals hardly share any.
            let file = folder.join(format!("part-{:03}/page-{number:05}.html", number / FOLDER));
            let parent = file.parent().context("a page lies in a folder")?;
            fs::create_dir_all(parent)?;
            fs::write(&file, self.page(number, edit))
                .with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }

    fn page(&self, number: u64, edit: Edit) -> String {
        let mut random = Random(self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        // A release leaves one page in forty unchanged, and gives one in thirty a new paragraph.
        let (is_left, is_reworked) = (random.below(40) == 0, random.below(30) == 0);
        let is_released = edit == Edit::Release && !is_left;
        let (version, style) = if is_released {
            ("4.2.2", "b07e336a")
        } else {
            ("4.2.1", "5f1d9c04")
        };
        let title = self.text(&mut random, 5);
        let mut page = String::new();
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <title>{title} - Manual {version}</title>\n\
             <link rel=\"stylesheet\" href=\"/assets/theme-{style}.css\">\n</head>\n<body>\n"
        );
        self.navigation(&mut page, edit);
        let _ = writeln!(page, "<main>\n<h1>{title}</h1>");
        let paragraphs = random.within(&self.paragraphs);
        for at in 0..paragraphs {
            // The random numbers of a page must not depend on the edit.
            let length = random.within(&PARAGRAPH);
            let text = self.text(&mut random, length);
            let is_new = is_released && is_reworked && at == paragraphs / 2;
            let text = if is_new { self.other(number) } else { text };
            let _ = writeln!(page, "<p id=\"p{at}\">{text}</p>");
        }
        let version = if edit == Edit::Footer {
            "4.2.2"
        } else {
            version
        };
        let is_edited = edit == Edit::Byte && number == self.pages / 2;
        let built = if is_edited { "built" } else { "Built" };
        let _ = write!(
            page,
            "</main>\n<footer>{built} by the manual's makers, version {version}.</footer>\n\
             </body>\n</html>\n"
        );
        page
    }

    fn navigation(&self, page: &mut String, edit: Edit) {
        let mut random = Random(self.seed);
        page.push_str("<nav>\n<ul>\n");
        for at in 0..40 {
            let title = self.text(&mut random, 3);
            let _ = writeln!(
                page,
                "<li><a href=\"/part-{at:03}/page-{:05}.html\">{title}</a></li>",
                at * FOLDER
            );
            if at == 20 && edit == Edit::Navigation {
                page.push_str("<li><a href=\"/whats-new.html\">What is new</a></li>\n");
            }
        }
        page.push_str("</ul>\n</nav>\n");
    }

    /// A paragraph that is new to the page.
    fn other(&self, number: u64) -> String {
        let mut random = Random(!self.seed ^ number);
        let length = random.within(&PARAGRAPH);
        self.text(&mut random, length)
    }

    fn text(&self, random: &mut Random, words: u64) -> String {
        let mut text = String::new();
        for at in 0..words {
            if at > 0 {
                text.push(' ');
            }
            text.push_str(&self.words[random.rank() as usize]);
        }
        text
    }
}

/// Incompressible bytes, by `SplitMix64` (Steele, Lea and Flood, 2014).
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    words.flatten().take(len).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is small beside 2^64.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn within(&mut self, range: &Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// The rank of a word: a uniform share, cubed, so that low ranks are common.
    fn rank(&mut self) -> u64 {
        let share = self.below(1 << 20);
        let cubed = u128::from(share) * u128::from(share) * u128::from(share);
        ((cubed * u128::from(WORDS)) >> 60) as u64
    }

    fn word(&mut self) -> String {
        let syllables = 1 + self.below(4);
        let mut word = String::new();
        for _ in 0..syllables {
            word.push(char::from(b"bcdfghklmnprstvw"[self.below(16) as usize]));
            word.push(char::from(b"aeiou"[self.below(5) as usize]));
            if self.below(3) == 0 {
                word.push(char::from(b"lmnrst"[self.below(6) as usize]));
            }
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(paragraphs: Range<u64>) -> Made {
        Made::new(SEED, 400, paragraphs)
    }

    /// The number of differing pages, and the additional bytes.
    fn difference(made: &Made, edit: Edit) -> (u64, usize) {
        let numbers = 0..made.count();
        numbers.fold((0, 0), |(pages, bytes), number| {
            let (old, new) = (made.page(number, Edit::None), made.page(number, edit));
            let longer = new.len().saturating_sub(old.len());
            (pages + u64::from(old != new), bytes + longer)
        })
    }

    #[test]
    fn edits_are_as_large_as_they_say() {
        let made = small(6..18);
        assert_eq!(difference(&made, Edit::None), (0, 0));
        assert_eq!(difference(&made, Edit::Byte), (1, 0));
        assert_eq!(difference(&made, Edit::Footer), (400, 0));
        let entry = "<li><a href=\"/whats-new.html\">What is new</a></li>\n".len();
        assert_eq!(difference(&made, Edit::Navigation), (400, 400 * entry));
        let (released, _) = difference(&made, Edit::Release);
        assert!((380..=396).contains(&released), "{released} of 400");
    }

    #[test]
    fn one_byte_is_one_byte() {
        let made = small(6..18);
        let [old, new] = [Edit::None, Edit::Byte].map(|edit| made.page(200, edit));
        let differing = old.bytes().zip(new.bytes()).filter(|(old, new)| old != new);
        assert_eq!(differing.count(), 1);
    }

    #[test]
    fn pages_have_the_sizes_of_their_kind() {
        for (made, sizes) in [
            (small(6..18), 4_000..14_000),
            (small(18..90), 9_000..45_000),
        ] {
            for number in 0..made.count() {
                let len = made.page(number, Edit::None).len();
                assert!(sizes.contains(&len), "page {number} has {len} bytes");
            }
        }
    }

    #[test]
    fn a_seed_says_everything() {
        let [one, same] = [Made::new(1, 10, 2..5), Made::new(1, 10, 2..5)];
        let other = Made::new(2, 10, 2..5);
        assert_eq!(one.page(7, Edit::Release), same.page(7, Edit::Release));
        assert_ne!(one.page(7, Edit::None), other.page(7, Edit::None));
        let folder = tempfile::tempdir().unwrap();
        one.write(folder.path(), Edit::None).unwrap();
        let written = fs::read_to_string(folder.path().join("part-000/page-00007.html"));
        assert_eq!(written.unwrap(), one.page(7, Edit::None));
    }
}
