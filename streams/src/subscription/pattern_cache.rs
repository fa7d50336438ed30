//! Pattern cache: the patterns of all subscriptions, parsed once and used by every append.
//!
//! The store draws another version in the transaction that creates or deletes a subscription. So a
//! cache that outlives transactions knows whether it is current, also after a rollback.

use std::sync::{Arc, Mutex, PoisonError};

use super::pattern::Pattern;
use crate::StreamName;

/// The patterns of a server's subscriptions. Clones share their contents.
#[derive(Debug, Clone, Default)]
pub struct PatternCache(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    patterns: Option<(u64, Arc<[CachedPattern]>)>,
    loads: u64,
}

/// The pattern of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachedPattern {
    /// The subscription's number.
    pub(super) number: u64,
    pub(super) pattern: Pattern,
    /// The stream that the subscription writes to, if there is one.
    pub(super) own_stream: Option<String>,
}

impl CachedPattern {
    /// Whether the subscription follows a stream. It never follows its own stream, because each
    /// message would cause the next.
    pub(super) fn matches(&self, stream: &StreamName) -> bool {
        self.own_stream.as_deref() != Some(stream.as_str()) && self.pattern.matches(stream)
    }
}

impl PatternCache {
    /// The patterns of a version. They are loaded if the cache has another version.
    pub(super) fn get<E>(
        &self,
        version: u64,
        load: impl FnOnce() -> Result<Vec<CachedPattern>, E>,
    ) -> Result<Arc<[CachedPattern]>, E> {
        let mut contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, patterns)) = &contents.patterns
            && *known == version
        {
            return Ok(Arc::clone(patterns));
        }
        let patterns: Arc<[CachedPattern]> = load()?.into();
        contents.loads += 1;
        contents.patterns = Some((version, Arc::clone(&patterns)));
        Ok(patterns)
    }

    /// How often all patterns were loaded.
    pub fn loads(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).loads
    }
}
