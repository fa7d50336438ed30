//! Subscription events: a stream's change and the wakes that it causes share one transaction, so
//! that no append is kept without its wakes.

use bytes::Bytes;
use pmx_core::sql::{Sql, SqlError};
use pmx_streams::subscription::{
    self, Action, Answer, Call, Effect, FanOutBatch, LeaseRef, Outcome, RequiredTails, Room,
    Subscriptions, TailOffsets,
};
use pmx_streams::{Append, Generation, MediaType, Offset, Refusal, StreamName};

use super::pending::PendingDeliveries;
use super::stream_ids;
use super::transaction::Transaction;
use crate::host::panics::unpanicked;

impl<S: Sql> Transaction<'_, S> {
    /// Does several things that hold together or not at all.
    pub(super) fn together<T>(
        &self,
        things: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        if self.is_followed()? {
            self.sql().atomically(|_| things())
        } else {
            things()
        }
    }

    /// A stream was made, and whatever had its name before is gone.
    pub(super) fn began(&self, name: &StreamName, tail: Offset) -> Result<(), Refusal> {
        self.together(|| {
            self.gone(name)?;
            self.grew(name, tail)
        })
    }

    /// A stream grew.
    pub(super) fn grew(&self, name: &StreamName, tail: Offset) -> Result<(), Refusal> {
        if self.is_followed()? && self.subscriptions()?.on_append(name, tail, self.now())? {
            self.wakes.due.set(true);
        }
        Ok(())
    }

    /// A stream ended.
    pub(super) fn gone(&self, name: &StreamName) -> Result<(), Refusal> {
        if self.is_followed()? {
            self.subscriptions()?.on_removed(name)?;
            self.wakes.due.set(true);
        }
        Ok(())
    }

    /// Answers a call about subscriptions.
    pub(super) fn subscription(&self, call: &Call) -> Result<Answer, subscription::Refusal> {
        let subscriptions = self.subscriptions()?;
        let tails = self.tails(&subscriptions.required_tails(call)?)?;
        self.wakes.followed.set(None);
        self.wakes.due.set(true);
        self.sql()
            .atomically(|_| subscriptions.handle(call, &tails, self.now()))
    }

    /// Notes what came of waking a worker.
    pub(super) fn on_delivery_result(
        &self,
        lease: &LeaseRef,
        outcome: &Outcome,
    ) -> Result<(), SqlError> {
        self.wakes.due.set(true);
        let subscriptions = self.subscriptions()?;
        self.sql()
            .atomically(|_| subscriptions.on_delivery_result(lease, outcome, self.now()))
    }

    /// It is time to look who is to be woken.
    pub(super) fn look(&self) {
        self.wakes.due.set(true);
    }

    /// Wakes who is to be woken. Comes last in a transaction; a failure undoes nothing else.
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
        // A message in a wake stream may wake another worker.
        for _ in 0..ROUNDS_MAX {
            if !self.wakes.due.replace(false) {
                break;
            }
            let subscriptions = self.subscriptions()?;
            // Each webhook that is under way here has a thread.
            let work = || subscriptions.work(self.now(), Room::ENDLESS);
            let work = self.sql().atomically(|_| work())?;
            for effect in work {
                match effect.action {
                    Action::Webhook { .. } => deliveries.carried.push(effect),
                    Action::Copy(mut copying) => {
                        copying.generation = self.generation(&copying.source)?;
                        let (lease, action) = (effect.lease, Action::Copy(copying));
                        deliveries.carried.push(Effect { lease, action });
                    }
                    Action::Append { stream, message } => {
                        self.announce(&effect.lease, &stream, message)?;
                        deliveries.announced.push(stream);
                    }
                }
            }
        }
        deliveries.next = self.subscriptions()?.due(self.now(), Room::ENDLESS)?;
        Ok(())
    }

    /// Takes copies into the stream that gathers them, and notes how far that is.
    pub(super) fn gathered(
        &self,
        lease: &LeaseRef,
        target: &StreamName,
        copies: &FanOutBatch,
    ) -> Result<(), Refusal> {
        self.together(|| {
            let outcome = match self.append(target, &copies.append) {
                Ok(_) => Outcome::Copied(copies.to),
                Err(failure @ Refusal::Storage { .. }) => return Err(failure),
                Err(_) => Outcome::Failed,
            };
            self.grown_unasked(target);
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
            Ok(_) => Outcome::Appended,
            Err(_) => Outcome::Failed,
        };
        let subscriptions = self.subscriptions()?;
        self.sql()
            .atomically(|_| subscriptions.on_delivery_result(lease, &outcome, self.now()))
    }

    /// Which generation of its name a stream is.
    fn generation(&self, name: &StreamName) -> Result<Option<Generation>, SqlError> {
        let key = stream_ids::find(self.sql(), name)?;
        let view = key.and_then(|key| self.engine(key).head(self.now()).ok());
        Ok(view.and_then(|view| Generation::from_hex(&view.generation)))
    }

    /// Where streams end.
    fn tails(&self, needs: &RequiredTails) -> Result<TailOffsets, SqlError> {
        let mut streams = needs.streams.clone();
        if let Some(pattern) = &needs.pattern {
            let names = stream_ids::beginning(self.sql(), pattern.prefix())?;
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

/// Rounds in which wakes may cause wakes in one transaction. What is left then comes with the next.
pub(super) const ROUNDS_MAX: usize = 4;

/// How long to wait after a failure of the database.
const RETRY_TIME: std::time::Duration = std::time::Duration::from_secs(5);
