//! Fan-out cycle detection.
//!
//! A fan-out may follow the target of another one, but a chain must not lead back to its start:
//! messages would multiply for ever. Only a new subscription, or one that gets more streams, can
//! close a cycle, and the engine refuses it.

use std::collections::BTreeSet;

use pmx_core::sql::{Sql, SqlError};

use super::engine::Subscriptions;
use super::response::SubscriptionRefusal;
use super::store::FanOut;
use crate::StreamName;

impl<S: Sql> Subscriptions<'_, S> {
    /// Refuses a fan-out to `target` that would close a cycle. `follows` is true for the streams
    /// that it would copy from. A cycle exists if other fan-outs copy messages from `target` into
    /// one of these.
    pub(super) fn check_acyclic(
        &self,
        target: &StreamName,
        follows: impl Fn(&StreamName) -> bool,
    ) -> Result<(), SubscriptionRefusal> {
        let all = self.store.fan_outs()?;
        let mut reached = BTreeSet::from([target]);
        let mut fresh = vec![target];
        while let Some(stream) = fresh.pop() {
            for next in &all {
                let is_new = !reached.contains(&next.target);
                if is_new && *stream != next.target && self.copies(next, stream)? {
                    if follows(&next.target) {
                        return Err(SubscriptionRefusal::Cycle(target.clone()));
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
        Ok(self.store.link(fan_out.number, stream)?.is_some())
    }
}
