//! Rule index: finds the rules whose source may match a path, in the order of the file.
//!
//! Sources without a wildcard lie in a map, the others under their first segment if that is
//! literal. So a lookup costs a search in two maps, and one match for each rule of that segment.

use std::collections::BTreeMap;

use super::compared_path::{ComparedPath, without_slash};
use super::pattern::SourcePattern;

/// Rules by their sources. Numbers are positions in the file's list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RuleIndex {
    literal: BTreeMap<Box<[u8]>, Vec<u32>>,
    by_segment: BTreeMap<Box<[u8]>, Vec<u32>>,
    others: Vec<u32>,
}

impl RuleIndex {
    pub(super) fn of<'a>(patterns: impl Iterator<Item = &'a SourcePattern>) -> Self {
        let mut index = Self::default();
        for (number, pattern) in (0..).zip(patterns) {
            if let Some(path) = pattern.literal() {
                // Both spellings of the path are looked up together.
                let path = without_slash(path);
                index.literal.entry(path.into()).or_default().push(number);
            } else if let Some(segment) = pattern.first_segment() {
                let rules = index.by_segment.entry(segment.into()).or_default();
                rules.push(number);
            } else {
                index.others.push(number);
            }
        }
        index
    }

    pub(super) fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.by_segment.is_empty() && self.others.is_empty()
    }

    /// The rules that may match, in the order of the file.
    pub(super) fn candidates(&self, path: &ComparedPath<'_>) -> impl Iterator<Item = usize> {
        let whole = path.without_slash();
        let segment = first_segment(path.bytes());
        let slices = [
            self.literal.get(whole).map_or(&[][..], Vec::as_slice),
            self.by_segment.get(segment).map_or(&[][..], Vec::as_slice),
            &self.others[..],
        ];
        InOrder(slices)
    }
}

fn first_segment(path: &[u8]) -> &[u8] {
    let rest = path.get(1..).unwrap_or_default();
    let end = rest.iter().position(|&byte| byte == b'/');
    &rest[..end.unwrap_or(rest.len())]
}

/// Merges three sorted lists.
struct InOrder<'a>([&'a [u32]; 3]);

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
    use super::*;

    #[test]
    fn candidates_come_in_the_order_of_the_file() {
        let sources = ["/:any", "/a", "/a/*", "/b", "/*", "/a/", "/a/:x"];
        let patterns: Vec<_> = sources
            .iter()
            .map(|source| SourcePattern::parse(source).unwrap())
            .collect();
        let index = RuleIndex::of(patterns.iter());
        for (path, expected) in [
            ("/a", vec![0, 1, 2, 4, 5, 6]),
            ("/b", vec![0, 3, 4]),
            ("/a/x", vec![0, 2, 4, 6]),
            ("/", vec![0, 4]),
        ] {
            let path = ComparedPath::parse(path).unwrap();
            assert_eq!(index.candidates(&path).collect::<Vec<_>>(), expected);
        }
    }
}
