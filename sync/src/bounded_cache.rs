//! Byte-bounded cache for immutable values: index nodes, and small bodies by their extent.

use std::hash::Hash;

use quick_cache::sync::{Cache as Weighted, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

/// A bounded cache of clonable values.
pub struct BoundedCache<K, V>(Weighted<K, Charged<V>, ByCharge>);

#[derive(Clone)]
struct Charged<V> {
    value: V,
    bytes: usize,
}

#[derive(Clone)]
struct ByCharge;

impl<K, V> Weighter<K, Charged<V>> for ByCharge {
    fn weight(&self, _key: &K, charged: &Charged<V>) -> u64 {
        // The cache would never drop a value without weight.
        charged.bytes.max(1) as u64
    }
}

/// Typical charge of a value, from which the cache estimates the number of keys to track.
const USUAL_BYTES: usize = 1_024;

impl<K: Eq + Hash + Clone, V: Clone> BoundedCache<K, V> {
    /// Makes a cache of at most `bytes_max` bytes.
    #[expect(
        clippy::disallowed_types,
        reason = "seeded hashes, as in a HashMap: clients choose keys, and no order shows"
    )]
    pub fn new(bytes_max: usize) -> Self {
        // One shard: the bound applies to the whole cache, and the lock lasts only for a lookup.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(bytes_max / USUAL_BYTES)
            .weight_capacity(bytes_max as u64)
            .shards(1)
            .build()
            .expect("both capacities are set");
        Self(Weighted::with_options(
            options,
            ByCharge,
            std::hash::RandomState::default(),
            DefaultLifecycle::default(),
        ))
    }

    /// The value of a key, if the cache still has it.
    pub fn find(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|charged| charged.value)
    }

    /// Stores a value of `bytes` bytes. The cache drops a value above an eighth of its size.
    pub fn insert(&self, key: K, value: V, bytes: usize) {
        if bytes as u64 <= self.0.capacity() / 8 {
            self.0.insert(key, Charged { value, bytes });
        }
    }

    /// Stores a value that may take most of the cache: it costs far more to make than to keep.
    pub(crate) fn insert_large(&self, key: K, value: V, bytes: usize) {
        if bytes as u64 <= self.0.capacity() / 10 * 9 {
            self.0.insert(key, Charged { value, bytes });
        }
    }

    /// Drops all values.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }

    /// Drops the value of a key.
    pub fn remove(&self, key: &K) {
        self.0.remove(key);
    }

    /// Bytes charged for all values.
    #[cfg(test)]
    pub(crate) fn charged(&self) -> usize {
        self.0.weight() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_keeps_used_values_within_its_bound() {
        let cache: BoundedCache<u32, u32> = BoundedCache::new(1000);
        for key in 0..1000 {
            cache.insert(key, key, 10);
            assert_eq!(
                cache.find(&0),
                Some(0),
                "the key that is used all the time was dropped"
            );
        }
        let kept = (0..1000).filter(|key| cache.find(key).is_some()).count();
        assert!(kept <= 100, "{kept} values of 10 bytes in 1,000 bytes");
        cache.insert(5000, 5000, 500);
        assert_eq!(
            cache.find(&5000),
            None,
            "a value of half the cache pushes everything out"
        );
    }
}
