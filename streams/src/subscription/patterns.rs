//! Pattern cache: the patterns of all subscriptions, parsed once and used by every append.
//!
//! The ledger draws another version whenever a subscription begins or ends, in the same
//! transaction. So a cache that outlives transactions knows whether it is still right, also after
//! one was undone.

use std::sync::{Arc, Mutex, PoisonError};

use super::pattern::Pattern;
use crate::StreamName;

/// The patterns of a server's subscriptions. Clones share what they hold.
#[derive(Debug, Clone, Default)]
pub struct PatternCache(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    patterns: Option<(u64, Arc<[Followed]>)>,
    loads: u64,
}

/// A subscription with a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Followed {
    /// The subscription's number.
    pub(super) number: u64,
    /// What the names of its streams look like.
    pub(super) pattern: Pattern,
    /// The stream that it writes to, if there is one.
    pub(super) own: Option<String>,
}

impl Followed {
    /// Whether the subscription follows a stream. What announces its wakes must not cause the next
    /// one.
    pub(super) fn matches(&self, stream: &StreamName) -> bool {
        self.own.as_deref() != Some(stream.as_str()) && self.pattern.matches(stream)
    }
}

impl PatternCache {
    /// The patterns of a version, loaded if another version is kept.
    pub(super) fn get<E>(
        &self,
        version: u64,
        load: impl FnOnce() -> Result<Vec<Followed>, E>,
    ) -> Result<Arc<[Followed]>, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, patterns)) = &kept.patterns
            && *known == version
        {
            return Ok(Arc::clone(patterns));
        }
        let patterns: Arc<[Followed]> = load()?.into();
        kept.loads += 1;
        kept.patterns = Some((version, Arc::clone(&patterns)));
        Ok(patterns)
    }

    /// How often all patterns were parsed.
    pub fn loads(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).loads
    }
}
