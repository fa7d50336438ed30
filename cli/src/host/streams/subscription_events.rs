//! Subscription events: a stream's change and its wakes share one transaction. So no append commits
//! without its wakes.

use bytes::Bytes;
use pmx_core::sql::{Sql, SqlError};
use pmx_streams::subscription::{
    self, Effect, EffectOutcome, FanOutBatch, LeaseRef, PlatformAction, RequiredTails,
    SubscriptionRequest, SubscriptionResponse, Subscriptions, TailOffsets, WebhookCapacity,
};
use pmx_streams::{Append, Generation, MediaType, Offset, Refusal, StreamName};

use super::pending::PendingDeliveries;
use super::stream_ids;
use super::transaction::Transaction;
use crate::host::panics::unpanicked;

impl<S: Sql> Transaction<'_, S> {
    /// Runs several statements atomically, if there are subscriptions to update with them.
    pub(super) fn atomically_if_followed<T>(
        &self,
        body: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        if self.is_followed()? {
            self.sql().atomically(|_| body())
        } else {
            body()
        }
    }

    /// Records that a stream was created, and that an earlier one of its name has ended.
    pub(super) fn on_created(&self, name: &StreamName, tail: Offset) -> Result<(), Refusal> {
        self.atomically_if_followed(|| {
            self.on_removed(name)?;
            self.on_append(name, tail)
        })
    }

    /// Records that a stream grew.
    pub(super) fn on_append(&self, name: &StreamName, tail: Offset) -> Result<(), Refusal> {
        if self.is_followed()? && self.subscriptions()?.on_append(name, tail, self.now())? {
            self.wakes.due.set(true);
        }
        Ok(())
    }

    /// Records that a stream ended.
    pub(super) fn on_removed(&self, name: &StreamName) -> Result<(), Refusal> {
        if self.is_followed()? {
            self.subscriptions()?.on_removed(name)?;
            self.wakes.due.set(true);
        }
        Ok(())
    }

    /// Handles a request to the subscriptions.
    pub(super) fn subscription(
        &self,
        call: &SubscriptionRequest,
    ) -> Result<SubscriptionResponse, subscription::SubscriptionRefusal> {
        let subscriptions = self.subscriptions()?;
        let tails = self.tails(&subscriptions.required_tails(call)?)?;
        self.wakes.followed.set(None);
        self.wakes.due.set(true);
        self.sql()
            .atomically(|_| subscriptions.handle(call, &tails, self.now()))
    }

    /// Applies the outcome of a delivery.
    pub(super) fn on_delivery_result(
        &self,
        lease: &LeaseRef,
        outcome: &EffectOutcome,
    ) -> Result<(), SqlError> {
        self.wakes.due.set(true);
        let subscriptions = self.subscriptions()?;
        self.sql()
            .atomically(|_| subscriptions.on_delivery_result(lease, outcome, self.now()))
    }

    /// Makes [`wake`](Self::wake) look for due deliveries.
    pub(super) fn mark_due(&self) {
        self.wakes.due.set(true);
    }

    /// Begins the due deliveries, last in a transaction. A failure rolls back nothing else.
    pub(super) fn wake(&self) -> Option<PendingDeliveries> {
        if !self.wakes.due.get() {
            return None;
        }
        let mut deliveries = PendingDeliveries::default();
        if let Err(error) = unpanicked(|| self.wake_all(&mut deliveries)) {
            deliveries.fault = Some(error);
            deliveries.next = Some(self.now().after(RETRY_TIME));
        }
        Some(deliveries)
    }

    fn wake_all(&self, deliveries: &mut PendingDeliveries) -> Result<(), SqlError> {
        // A message in a wake stream may make another delivery due.
        for _ in 0..ROUNDS_MAX {
            if !self.wakes.due.replace(false) {
                break;
            }
            let subscriptions = self.subscriptions()?;
            // The dispatcher limits the webhooks in flight itself.
            let work = || subscriptions.work(self.now(), WebhookCapacity::UNLIMITED);
            let work = self.sql().atomically(|_| work())?;
            for effect in work {
                match effect.action {
                    PlatformAction::Webhook { .. } => deliveries.effects.push(effect),
                    PlatformAction::Copy(mut copying) => {
                        copying.generation = self.generation(&copying.source)?;
                        let (lease, action) = (effect.lease, PlatformAction::Copy(copying));
                        deliveries.effects.push(Effect { lease, action });
                    }
                    PlatformAction::Append { stream, message } => {
                        self.announce(&effect.lease, &stream, message)?;
                        deliveries.announced.push(stream);
                    }
                }
            }
        }
        deliveries.next = self
            .subscriptions()?
            .due(self.now(), WebhookCapacity::UNLIMITED)?;
        Ok(())
    }

    /// Appends a fan-out batch to its target, and applies the outcome.
    pub(super) fn append_copies(
        &self,
        lease: &LeaseRef,
        target: &StreamName,
        copies: &FanOutBatch,
    ) -> Result<(), Refusal> {
        self.atomically_if_followed(|| {
            let outcome = match self.append(target, &copies.append) {
                Ok(_) => EffectOutcome::Copied(copies.to),
                Err(failure @ Refusal::Storage { .. }) => return Err(failure),
                Err(_) => EffectOutcome::Failed,
            };
            self.notify_readers(target);
            Ok(self.on_delivery_result(lease, &outcome)?)
        })
    }

    fn announce(
        &self,
        lease: &LeaseRef,
        stream: &StreamName,
        message: Bytes,
    ) -> Result<(), SqlError> {
        let append = Append {
            media_type: Some(MediaType::new("application/json")),
            body: message,
            seq: None,
            producer: None,
            close: false,
        };
        let outcome = match self.append(stream, &append) {
            Ok(_) => EffectOutcome::Appended,
            Err(_) => EffectOutcome::Failed,
        };
        let subscriptions = self.subscriptions()?;
        self.sql()
            .atomically(|_| subscriptions.on_delivery_result(lease, &outcome, self.now()))
    }

    /// The generation of a stream, if it exists.
    fn generation(&self, name: &StreamName) -> Result<Option<Generation>, SqlError> {
        let key = stream_ids::find(self.sql(), name)?;
        let view = key.and_then(|key| self.engine(key).head(self.now()).ok());
        Ok(view.and_then(|view| Generation::from_hex(&view.generation)))
    }

    /// The tails of streams.
    fn tails(&self, needs: &RequiredTails) -> Result<TailOffsets, SqlError> {
        let mut streams = needs.streams.clone();
        if let Some(pattern) = &needs.pattern {
            let names = stream_ids::with_prefix(self.sql(), pattern.prefix())?;
            streams.extend(names.into_iter().filter(|name| pattern.matches(name)));
        }
        let mut tails = TailOffsets::new();
        for name in streams {
            if let Some(key) = stream_ids::find(self.sql(), &name)?
                && let Ok(view) = self.engine(key).head(self.now())
            {
                tails.insert(name, view.next);
            }
        }
        Ok(tails)
    }

    fn subscriptions(&self) -> Result<Subscriptions<'_, S>, SqlError> {
        Ok(Subscriptions::open(self.sql())?.with_cache(&self.patterns))
    }

    fn is_followed(&self) -> Result<bool, SqlError> {
        if let Some(followed) = self.wakes.followed.get() {
            return Ok(followed);
        }
        let followed = !self.subscriptions()?.is_empty()?;
        self.wakes.followed.set(Some(followed));
        Ok(followed)
    }
}

/// Rounds in which wakes may cause wakes in one transaction. The next transaction does the rest.
pub(super) const ROUNDS_MAX: usize = 4;

/// Delay after a failure of the database.
const RETRY_TIME: std::time::Duration = std::time::Duration::from_secs(5);
