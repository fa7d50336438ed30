//! Rank sets: runs of row ranks, by which a server names missing rows without ids.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Ranks as `[first, count]` runs, in order, without overlaps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>")]
pub struct Ranges(Vec<(u64, u64)>);

/// A run that is empty, or starts before the end of the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the run [{0},{1}] is empty, too long, or not behind the one before it")]
pub struct DisorderedRun(u64, u64);

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = DisorderedRun;

    fn try_from(runs: Vec<(u64, u64)>) -> Result<Self, DisorderedRun> {
        let mut free = 0;
        for &(first, count) in &runs {
            let end = first.checked_add(count);
            let end = end.filter(|_| count > 0 && first >= free);
            free = end.ok_or(DisorderedRun(first, count))?;
        }
        Ok(Self(runs))
    }
}

impl Ranges {
    /// Adds a rank that follows every rank in the set.
    pub fn push(&mut self, rank: u64) {
        match self.0.last_mut() {
            Some((first, count)) if *first + *count == rank => *count += 1,
            _ => self.0.push((rank, 1)),
        }
    }

    /// The runs: first rank and count of each, in order.
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Whether the set has one of the `count` ranks from `first` on.
    pub fn touch(&self, first: u64, count: u64) -> bool {
        let behind = self.0.partition_point(|(run, len)| run + len <= first);
        let run = self.0.get(behind);
        run.is_some_and(|(run, _)| *run < first.saturating_add(count))
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of ranks.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The ranks below `end`, because a peer's runs may exceed it.
    pub fn iter(&self, end: u64) -> impl Iterator<Item = u64> {
        self.0
            .iter()
            .flat_map(move |&(first, count)| first.min(end)..first.saturating_add(count).min(end))
    }
}

impl FromIterator<u64> for Ranges {
    fn from_iter<I: IntoIterator<Item = u64>>(ranks: I) -> Self {
        let mut ranges = Self::default();
        ranks.into_iter().for_each(|rank| ranges.push(rank));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranks_come_back(ranks in prop::collection::btree_set(0u64..500, 0..200)) {
            let ranges: Ranges = ranks.iter().copied().collect();
            prop_assert_eq!(ranges.len(), ranks.len() as u64);
            let back: Vec<u64> = ranges.iter(1000).collect();
            for (first, count) in [(0, 1), (7, 30), (250, 3), (499, 1), (600, 9)] {
                let touched = ranks.range(first..first + count).next().is_some();
                prop_assert_eq!(ranges.touch(first, count), touched);
            }
            prop_assert_eq!(back, ranks.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn peers_numbers_are_bounded() {
        let ranges: Ranges = serde_json::from_str("[[1,2],[5,1844674407370955161]]").unwrap();
        assert_eq!(ranges.iter(8).collect::<Vec<_>>(), [1, 2, 5, 6, 7]);
    }

    #[test]
    fn runs_are_in_order_and_no_rank_is_in_two() {
        for (json, good) in [
            ("[]", true),
            ("[[0,1],[1,3],[7,1]]", true),
            ("[[0,0]]", false),
            ("[[5,3],[7,1]]", false),
            ("[[5,3],[5,3]]", false),
            ("[[5,3],[1,1]]", false),
            ("[[5,18446744073709551615]]", false),
        ] {
            let parsed = serde_json::from_str::<Ranges>(json);
            assert_eq!(parsed.is_ok(), good, "{json}: {parsed:?}");
        }
    }
}
