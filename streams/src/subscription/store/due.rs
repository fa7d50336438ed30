//! Due subscriptions: those whose timer has expired, and the webhooks that wait to be sent.

use pmx_core::sql::{Sql, SqlError, Value};
use pmx_core::time::Timestamp;

use super::{COLUMNS, Record, SubscriptionStore};
use crate::row::Columns;
use crate::subscription::effect::Attempt;

/// A webhook that is queued, whether or not it is due.
const QUEUED_WEBHOOK: &str = "kind = 'webhook' AND phase = 'queued'";

impl<S: Sql> SubscriptionStore<'_, S> {
    /// The first due subscriptions, without queued webhooks.
    pub(in crate::subscription) fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Record>, SqlError> {
        let select = format!(
            "SELECT {COLUMNS} FROM subscription WHERE due <= ? AND NOT ({QUEUED_WEBHOOK})
             ORDER BY due, number LIMIT ?"
        );
        self.records(&select, &[now.as_millis().into(), (limit as u64).into()])
    }

    /// The first queued webhooks that are due.
    pub(in crate::subscription) fn queued_webhooks(
        &self,
        now: Timestamp,
        attempt: Attempt,
        limit: usize,
    ) -> Result<Vec<Record>, SqlError> {
        let select = format!(
            "SELECT {COLUMNS} FROM subscription WHERE due <= ? AND {QUEUED_WEBHOOK}
             AND (failures > 0) = ? ORDER BY due, number LIMIT ?"
        );
        let is_retry = u64::from(attempt == Attempt::Retry);
        let params = [
            now.as_millis().into(),
            is_retry.into(),
            (limit as u64).into(),
        ];
        self.records(&select, &params)
    }

    /// When the next subscription is due.
    pub(in crate::subscription) fn next_due(&self) -> Result<Option<Timestamp>, SqlError> {
        self.first_due("TRUE", &[])
    }

    /// When the next subscription without a queued webhook is due.
    pub(in crate::subscription) fn next_due_of_others(
        &self,
    ) -> Result<Option<Timestamp>, SqlError> {
        self.first_due(&format!("NOT ({QUEUED_WEBHOOK})"), &[])
    }

    /// When the next queued webhook is due.
    pub(in crate::subscription) fn next_webhook_due(
        &self,
        attempt: Attempt,
    ) -> Result<Option<Timestamp>, SqlError> {
        let is_retry = u64::from(attempt == Attempt::Retry);
        let condition = format!("{QUEUED_WEBHOOK} AND (failures > 0) = ?");
        self.first_due(&condition, &[is_retry.into()])
    }

    fn first_due(&self, condition: &str, params: &[Value]) -> Result<Option<Timestamp>, SqlError> {
        let select = format!(
            "SELECT due FROM subscription WHERE due IS NOT NULL AND {condition} \
             ORDER BY due LIMIT 1"
        );
        let row = self.0.run(&select, params)?.into_iter().next();
        let due = row.map(|row| Columns::of(row).integer()).transpose()?;
        Ok(due.map(Timestamp::from_millis))
    }
}
