//! Node boundaries (content-defined chunking): each key alone decides whether a node ends.
//!
//! A key's level is the number of trailing zero groups of six bits in its keyed BLAKE3. So one key
//! in 64 has at least level 1, one in 4,096 level 2, and so on. A node of level n ends after a key
//! whose level is above n. Edits of other keys never move such a boundary, so the shape is a
//! function of the set of paths. Compare the layers of the atproto Merkle search tree. The split
//! rule of Noms' prolly trees hashes contents instead, so there a changed value can move a
//! boundary.

use pmx_core::hash::BOUNDARY_KEY;

use crate::limits::LEVELS_MAX;
use crate::path::SitePath;

/// Bits of hash that decide one level: 2^6 = 64 rows in a node on average.
const BITS_PER_LEVEL: u32 = 6;

/// Whether a node of `level` ends after `key` by the key's own hash.
pub(crate) fn ends(key: &SitePath, level: u8) -> bool {
    level_of(key) > level
}

fn level_of(key: &SitePath) -> u8 {
    let hash = blake3::keyed_hash(BOUNDARY_KEY, key.as_bytes());
    let low = hash
        .as_bytes()
        .first_chunk::<8>()
        .map_or(1, |bytes| u64::from_le_bytes(*bytes));
    let level = low.trailing_zeros() / BITS_PER_LEVEL;
    u8::try_from(level).unwrap_or(LEVELS_MAX).min(LEVELS_MAX)
}
