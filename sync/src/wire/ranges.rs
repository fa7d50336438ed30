//! Sets of row ranks, as runs: how a server names what it lacks without repeating any id.

use serde::{Deserialize, Serialize};

/// Ranks as `[first, count]` runs, in order, without overlaps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a rank that follows every rank in the set.
    pub fn push(&mut self, rank: u64) {
        match self.0.last_mut() {
            Some((first, count)) if *first + *count == rank => *count += 1,
            _ => self.0.push((rank, 1)),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ranks there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The ranks, bounded by `end`, which a peer's numbers may pass.
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
            prop_assert_eq!(ranges.iter(1000).collect::<Vec<_>>(), ranks.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_peers_numbers_are_bounded() {
        let ranges: Ranges = serde_json::from_str("[[5,18446744073709551615],[9,1]]").unwrap();
        assert_eq!(ranges.iter(8).collect::<Vec<_>>(), [5, 6, 7]);
    }
}
