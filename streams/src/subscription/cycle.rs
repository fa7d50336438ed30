//! Fan-out cycle detection.
//!
//! What a fan-out writes may be followed by another, and so on, but never lead back: messages would
//! grow without an end. Only who is made or gets more streams can close a circle, and is refused.

use std::collections::BTreeSet;

use pmx_core::sql::{Sql, SqlError};

use super::call::Refusal;
use super::engine::Subscriptions;
use super::ledger::FanOut;
use crate::StreamName;

impl<S: Sql> Subscriptions<'_, S> {
    /// Whether what comes into `target` would be copied to where `follows` says that it is followed
    /// from there to `target`.
    pub(super) fn check_acyclic(
        &self,
        target: &StreamName,
        follows: impl Fn(&StreamName) -> bool,
    ) -> Result<(), Refusal> {
        let all = self.ledger.fan_outs()?;
        let mut reached = BTreeSet::from([target]);
        let mut fresh = vec![target];
        while let Some(stream) = fresh.pop() {
            for next in &all {
                let is_new = !reached.contains(&next.target);
                if is_new && *stream != next.target && self.copies(next, stream)? {
                    if follows(&next.target) {
                        return Err(Refusal::Cycle(target.clone()));
                    }
                    reached.insert(&next.target);
                    fresh.push(&next.target);
                }
            }
        }
        Ok(())
    }

    fn copies(&self, fan_out: &FanOut, stream: &StreamName) -> Result<bool, SqlError> {
        let pattern = fan_out.pattern.as_ref();
        if pattern.is_some_and(|pattern| pattern.matches(stream)) {
            return Ok(true);
        }
        Ok(self.ledger.link(fan_out.number, stream)?.is_some())
    }
}
