//! Rule index: finds the rules whose source may match a path, in the order of the file.
//!
//! Sources without a wildcard lie in a map. The others lie under the literal segments before their
//! first wildcard, and there under their last segment if that is literal. So a lookup costs a few
//! searches, and one match for each rule with the same segments at both ends.

use std::collections::BTreeMap;

use super::compared_path::{ComparedPath, without_slash};
use super::pattern::SourcePattern;

/// Segments of a prefix that the index compares: more than most sources have before a wildcard.
const SEGMENTS_MAX: usize = 4;

/// Lists of candidates: the literal sources, and two for each prefix, the empty one included.
const LISTS: usize = 1 + 2 * (SEGMENTS_MAX + 1);

/// Rules by their sources. Numbers are positions in the file's list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RuleIndex {
    literal: BTreeMap<Box<[u8]>, Vec<u32>>,
    by_prefix: BTreeMap<Box<[u8]>, SamePrefix>,
}

/// Rules whose literal segments before the first wildcard are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SamePrefix {
    by_last_segment: BTreeMap<Box<[u8]>, Vec<u32>>,
    others: Vec<u32>,
}

impl RuleIndex {
    pub(super) fn of<'a>(patterns: impl Iterator<Item = &'a SourcePattern>) -> Self {
        let mut index = Self::default();
        for (number, pattern) in (0..).zip(patterns) {
            index.list(pattern).push(number);
        }
        index
    }

    /// The list of the rules with such a source.
    fn list(&mut self, pattern: &SourcePattern) -> &mut Vec<u32> {
        if let Some(path) = pattern.literal() {
            // Both spellings of the path are looked up together.
            return self.literal.entry(without_slash(path).into()).or_default();
        }
        let prefix = prefixes(pattern.prefix()).last().unwrap_or_default();
        let rules = self.by_prefix.entry(prefix.into()).or_default();
        match pattern.last_segment() {
            Some(last) => rules.by_last_segment.entry(last.into()).or_default(),
            None => &mut rules.others,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.by_prefix.is_empty()
    }

    /// The rules that may match, in the order of the file.
    pub(super) fn candidates(&self, path: &ComparedPath<'_>) -> impl Iterator<Item = usize> {
        let whole = path.without_slash();
        let last = last_segment(whole);
        let mut lists = [&[][..]; LISTS];
        lists[0] = self.literal.get(whole).map_or(&[][..], Vec::as_slice);
        for (pair, prefix) in lists[1..].chunks_exact_mut(2).zip(prefixes(whole)) {
            if let Some(rules) = self.by_prefix.get(prefix) {
                let same = rules.by_last_segment.get(last);
                pair[0] = same.map_or(&[][..], Vec::as_slice);
                pair[1] = &rules.others;
            }
        }
        InOrder(lists)
    }
}

/// The first segments of a path: none, one, two and so on, each with its slash in front.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let ends = slashes.map(|(at, _)| at).chain([path.len()]);
    ends.map(|end| &path[..end]).take(SEGMENTS_MAX + 1)
}

fn last_segment(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    &path[slash.map_or(0, |at| at + 1)..]
}

/// Merges sorted lists.
struct InOrder<'a>([&'a [u32]; LISTS]);

impl Iterator for InOrder<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let next = self.0.iter_mut().filter(|list| !list.is_empty());
        let list = next.min_by_key(|list| list[0])?;
        let (number, rest) = list.split_first()?;
        *list = rest;
        Some(*number as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pattern::Slash;
    use super::*;

    fn parsed(sources: &[&str]) -> Vec<SourcePattern> {
        let parse = |source: &&str| SourcePattern::parse(source).unwrap();
        sources.iter().map(parse).collect()
    }

    #[test]
    fn candidates_come_in_the_order_of_the_file() {
        let patterns = parsed(&[
            "/:any", "/a", "/a/*", "/b", "/*", "/a/", "/a/:x", "/:x/y", "/a/b/*", "/a/:x/y",
        ]);
        let index = RuleIndex::of(patterns.iter());
        for (path, expected) in [
            ("/a", vec![0, 1, 2, 4, 5, 6]),
            ("/b", vec![0, 3, 4]),
            ("/a/x", vec![0, 2, 4, 6]),
            ("/a/y", vec![0, 2, 4, 6, 7, 9]),
            ("/a/b", vec![0, 2, 4, 6, 8]),
            ("/a/b/y/", vec![0, 2, 4, 6, 7, 8, 9]),
            ("/", vec![0, 4]),
        ] {
            let path = ComparedPath::parse(path).unwrap();
            assert_eq!(index.candidates(&path).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn candidates_of_other_segments_are_few() {
        let source = |n: usize| match n % 3 {
            0 => format!("/docs/v{n}/*"),
            1 => format!("/docs/:version/old-{n}"),
            _ => format!("/:language/old-{n}/"),
        };
        let patterns: Vec<_> = (0..3000)
            .map(|n| SourcePattern::parse(&source(n)).unwrap())
            .collect();
        let index = RuleIndex::of(patterns.iter());
        for (path, expected) in [("/docs/guide/", vec![]), ("/docs/v3/old-4", vec![3, 4])] {
            let path = ComparedPath::parse(path).unwrap();
            assert_eq!(index.candidates(&path).collect::<Vec<_>>(), expected);
        }
    }

    proptest! {
        /// A rule that matches a path is a candidate.
        #[test]
        fn candidates_include_every_match(
            sources in prop::collection::vec("(/(a|b|:x|:y|a:z|\\*b?)){1,6}/?", 1..12),
            path in "(/(a|b|ab|aa)){0,7}/?",
            counts: bool,
        ) {
            let path = if path.is_empty() { "/" } else { &path };
            let slash = [Slash::Ignored, Slash::Counts][usize::from(counts)];
            let parsed = sources.iter().filter_map(|source| SourcePattern::parse(source).ok());
            let patterns: Vec<_> = parsed.map(|pattern| pattern.with_slash(slash)).collect();
            let index = RuleIndex::of(patterns.iter());
            let path = ComparedPath::parse(path).unwrap();
            let found: Vec<_> = index.candidates(&path).collect();
            prop_assert!(found.is_sorted());
            for (number, pattern) in patterns.iter().enumerate() {
                if pattern.values("", &path).is_some() {
                    prop_assert!(found.contains(&number), "{pattern:?}");
                }
            }
        }
    }
}
