//! Byte-bounded cache for immutable values: index nodes and small bodies by their extent.
//!
//! Two generations approximate least-recently-used (the idea of the "second chance" in CLOCK):
//! what is used moves to the young one; when the young one is full it becomes the old one, and
//! what the old one still held is dropped.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A bounded cache of clonable values.
pub struct BoundedCache<K, V> {
    generations: Mutex<Generations<K, V>>,
    bytes_max: usize,
}

struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_bytes: usize,
    /// Bytes of the old generation when it became that; some moved on since.
    #[cfg(test)]
    old_bytes: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> BoundedCache<K, V> {
    /// A cache that holds at most about `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        let generations = Generations {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            #[cfg(test)]
            old_bytes: 0,
        };
        Self {
            generations: Mutex::new(generations),
            bytes_max,
        }
    }

    /// The value of a key, if it is still here.
    pub fn find(&self, key: &K) -> Option<V> {
        let mut generations = self.lock();
        if let Some((value, _)) = generations.young.get(key) {
            return Some(value.clone());
        }
        let (value, bytes) = generations.old.remove(key)?;
        self.insert_into(&mut generations, key.clone(), value.clone(), bytes);
        Some(value)
    }

    /// Keeps a value that takes `bytes` bytes. One larger than an eighth of the cache is not kept.
    pub fn insert(&self, key: K, value: V, bytes: usize) {
        if bytes <= self.bytes_max / 8 {
            self.insert_into(&mut self.lock(), key, value, bytes);
        }
    }

    fn insert_into(&self, generations: &mut Generations<K, V>, key: K, value: V, bytes: usize) {
        if generations.young_bytes + bytes > self.bytes_max / 2 {
            generations.old = std::mem::take(&mut generations.young);
            #[cfg(test)]
            {
                generations.old_bytes = generations.young_bytes;
            }
            generations.young_bytes = 0;
        }
        generations.young_bytes += bytes;
        if let Some((_, before)) = generations.young.insert(key, (value, bytes)) {
            generations.young_bytes -= before;
        }
    }

    /// Drops the value of a key.
    pub fn remove(&self, key: &K) {
        let mut generations = self.lock();
        if let Some((_, bytes)) = generations.young.remove(key) {
            generations.young_bytes -= bytes;
        }
        generations.old.remove(key);
    }

    /// Bytes that all values were charged with.
    #[cfg(test)]
    pub fn charged(&self) -> usize {
        let generations = self.lock();
        generations.young_bytes + generations.old_bytes
    }

    /// A panic while the lock was held can't leave half a change behind that matters to a cache.
    fn lock(&self) -> MutexGuard<'_, Generations<K, V>> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
