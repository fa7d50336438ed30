//! Stored patterns: the patterns of all subscriptions, and the fan-outs for cycle detection.

use pmx_core::sql::{Sql, SqlError, SqlRow};

use super::SubscriptionStore;
use super::record::{pattern, stream_name};
use crate::StreamName;
use crate::row::Columns;
use crate::subscription::pattern::Pattern;
use crate::subscription::pattern_cache::CachedPattern;

/// What cycle detection needs of a fan-out.
pub(in crate::subscription) struct FanOut {
    pub(in crate::subscription) number: u64,
    pub(in crate::subscription) pattern: Option<Pattern>,
    pub(in crate::subscription) target: StreamName,
}

impl<S: Sql> SubscriptionStore<'_, S> {
    /// The subscriptions that have a pattern.
    pub(in crate::subscription) fn patterns(&self) -> Result<Vec<CachedPattern>, SqlError> {
        let select = "SELECT number, pattern, CASE kind WHEN 'webhook' THEN NULL ELSE target END
             FROM subscription WHERE pattern IS NOT NULL";
        let read = |row: SqlRow| {
            let mut row = Columns::of(row);
            Ok(CachedPattern {
                number: row.integer()?,
                pattern: pattern(&row.text()?)?,
                own_stream: row.optional_text()?,
            })
        };
        self.0.run(select, &[])?.into_iter().map(read).collect()
    }

    /// All fan-outs.
    pub(in crate::subscription) fn fan_outs(&self) -> Result<Vec<FanOut>, SqlError> {
        let select = "SELECT number, pattern, target FROM subscription WHERE kind = 'fan-out'";
        let read = |row: SqlRow| {
            let mut row = Columns::of(row);
            Ok(FanOut {
                number: row.integer()?,
                pattern: row.optional_text()?.as_deref().map(pattern).transpose()?,
                target: stream_name(&row.text()?)?,
            })
        };
        self.0.run(select, &[])?.into_iter().map(read).collect()
    }
}
