//! Delivery: turns due wakes into effects, and applies the results of these.

use std::time::Duration;

use http::HeaderName;
use http::header::CONTENT_TYPE;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::capacity::WebhookCapacity;
use super::config::Delivery;
use super::effect::{Attempt, Effect, EffectOutcome, LeaseRef, PlatformAction};
use super::engine::Subscriptions;
use super::fan_out::Copying;
use super::ssrf::WebhookUrl;
use super::store::{Link, Record};
use super::view::{Announcement, Notification, callback_url, says_done};
use super::wake::{NEVER, PAST, SubscriptionWake, WakePhase, backoff};
use crate::limits::{WAKE_EFFECTS_MAX, WEBHOOK_AGAIN_TIMEOUT, WEBHOOK_TIMEOUT};
use crate::{Producer, StreamName};

impl<S: Sql> Subscriptions<'_, S> {
    /// Advances what is due, and returns the effects that the platform has to perform after the
    /// commit, a bounded number. Call it in every transaction that changes streams or
    /// subscriptions, after every webhook, and at [`due`](Self::due). Webhooks beyond the capacity
    /// stay queued: their leases do not begin.
    pub fn work(&self, now: Timestamp, capacity: WebhookCapacity) -> Result<Vec<Effect>, SqlError> {
        let mut effects = Vec::new();
        let others = self.store.due(now, WAKE_EFFECTS_MAX)?;
        let left = WAKE_EFFECTS_MAX - others.len();
        for mut record in others {
            self.advance(&mut record, now)?;
            // Webhooks that this queues are sent below, in the order of their time.
            if !matches!(record.delivery, Delivery::Webhook(_)) {
                effects.extend(self.send_if_due(&mut record, now)?);
            }
            self.store.save(&record)?;
        }
        effects.extend(self.send_webhooks(now, capacity, left)?);
        Ok(effects)
    }

    /// Sends at most `limit` due webhooks within the capacity, the longest due first.
    fn send_webhooks(
        &self,
        now: Timestamp,
        mut capacity: WebhookCapacity,
        limit: usize,
    ) -> Result<Vec<Effect>, SqlError> {
        let mut queued = Vec::new();
        for attempt in [Attempt::First, Attempt::Retry] {
            let limit = if capacity.admits(attempt) { limit } else { 0 };
            queued.extend(self.store.queued_webhooks(now, attempt, limit)?);
        }
        queued.sort_by_key(|record| (record.wake.due(), record.number));
        let mut effects = Vec::new();
        for mut record in queued.into_iter().take(limit) {
            let attempt = Attempt::of(&record.wake);
            if capacity.admits(attempt) {
                if let Some(effect) = self.send_if_due(&mut record, now)? {
                    effects.push(effect);
                    capacity = capacity.without_one(attempt);
                }
                self.store.save(&record)?;
            }
        }
        Ok(effects)
    }

    fn send_if_due(&self, record: &mut Record, now: Timestamp) -> Result<Option<Effect>, SqlError> {
        match record.wake.phase {
            WakePhase::Queued { at, keep } if at <= now => self.send(record, keep, now),
            WakePhase::Idle
            | WakePhase::Queued { .. }
            | WakePhase::Sent { .. }
            | WakePhase::Announced
            | WakePhase::Awake { .. } => Ok(None),
        }
    }

    /// When the platform has to call [`work`](Self::work) next, without another event. Webhooks
    /// beyond the capacity become due when one of those in flight must have ended.
    pub fn due(
        &self,
        now: Timestamp,
        capacity: WebhookCapacity,
    ) -> Result<Option<Timestamp>, SqlError> {
        if capacity.admits(Attempt::First) && capacity.admits(Attempt::Retry) {
            return self.store.next_due();
        }
        let later = now.after(WEBHOOK_TIMEOUT);
        let queued = |attempt| -> Result<Option<Timestamp>, SqlError> {
            let due = self.store.next_webhook_due(attempt)?;
            Ok(due.map(|due| {
                if capacity.admits(attempt) {
                    due
                } else {
                    due.max(later)
                }
            }))
        };
        let all = [
            self.store.next_due_of_others()?,
            queued(Attempt::First)?,
            queued(Attempt::Retry)?,
        ];
        Ok(all.into_iter().flatten().min())
    }

    /// Applies the outcome of an effect.
    pub fn on_delivery_result(
        &self,
        lease: &LeaseRef,
        outcome: &EffectOutcome,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let Some(mut record) = self.store.at(lease.subscription)? else {
            return Ok(());
        };
        if record.wake.generation != lease.generation {
            return Ok(());
        }
        match (record.wake.phase.clone(), outcome) {
            // The worker may have sent a report before it answered the webhook.
            (
                WakePhase::Sent { until }
                | WakePhase::Awake {
                    until,
                    holder: None,
                },
                outcome,
            ) if until > now && is_success(outcome) => {
                self.answered(&mut record, outcome, until, now)?;
            }
            (WakePhase::Sent { .. }, EffectOutcome::Copied(to)) => {
                record.wake.failures = 0;
                for path in std::mem::take(&mut record.wake.sent).into_keys() {
                    self.store.acknowledge(record.number, &path, *to)?;
                }
                self.next_wake(&mut record, now)?;
            }
            (WakePhase::Sent { until }, EffectOutcome::Answered { .. }) => {
                // A worker that answers with an error has not begun: the same wake is retried.
                self.retry(&mut record, until, now);
            }
            (WakePhase::Sent { .. }, EffectOutcome::Appended) => {
                record.wake.failures = 0;
                record.wake.phase = WakePhase::Announced;
            }
            (WakePhase::Sent { .. }, EffectOutcome::Failed) => {
                let keep = match record.delivery {
                    Delivery::Webhook(_) => PAST,
                    Delivery::PullWake(_) | Delivery::FanOut(_) => NEVER,
                };
                self.retry(&mut record, keep, now);
            }
            (
                WakePhase::Idle
                | WakePhase::Queued { .. }
                | WakePhase::Announced
                | WakePhase::Awake { .. },
                _,
            ) => {
                return Ok(());
            }
        }
        self.store.save(&record)
    }

    /// Ends an expired lease or delivery.
    pub(super) fn advance(&self, record: &mut Record, now: Timestamp) -> Result<(), SqlError> {
        match record.wake.phase {
            WakePhase::Awake { until, .. } if until <= now => {
                self.next_wake(record, now)?;
            }
            WakePhase::Sent { until } if until <= now => match record.delivery {
                // No answer arrived in time, so this wake ends and the next one waits.
                Delivery::Webhook(_) => {
                    if self.next_wake(record, now)? {
                        self.retry(record, NEVER, now);
                    }
                }
                // A second message of the same wake is harmless, and the producer makes a repeated
                // copy count once.
                Delivery::PullWake(_) | Delivery::FanOut(_) => self.retry(record, NEVER, now),
            },
            WakePhase::Idle
            | WakePhase::Queued { .. }
            | WakePhase::Sent { .. }
            | WakePhase::Announced
            | WakePhase::Awake { .. } => {}
        }
        Ok(())
    }

    fn retry(&self, record: &mut Record, keep: Timestamp, now: Timestamp) {
        record.wake.failures += 1;
        let failures = record.wake.failures;
        let jitter_seed = self.secret.jitter_seed(record.wake_ref(), failures);
        let at = now.after(backoff(failures, jitter_seed));
        record.wake.phase = WakePhase::Queued { at, keep };
    }

    fn answered(
        &self,
        record: &mut Record,
        outcome: &EffectOutcome,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        record.wake.failures = 0;
        let body = match outcome {
            EffectOutcome::Answered { body, .. } => body.as_ref(),
            EffectOutcome::Appended | EffectOutcome::Copied(_) | EffectOutcome::Failed => &[],
        };
        if says_done(body) {
            for (path, tail) in std::mem::take(&mut record.wake.sent) {
                self.store.acknowledge(record.number, &path, tail)?;
            }
            self.next_wake(record, now)?;
        } else {
            record.wake.phase = WakePhase::Awake {
                until,
                holder: None,
            };
        }
        Ok(())
    }

    /// Begins to wake a worker, unless no work is pending.
    fn send(
        &self,
        record: &mut Record,
        keep: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Effect>, SqlError> {
        if keep <= now {
            record.wake.begin(now);
        }
        let links = self.store.links(record.number, 1)?;
        let Some(first) = links.into_iter().find(Link::is_pending) else {
            record.wake.end();
            return Ok(None);
        };
        let action = match record.delivery.clone() {
            Delivery::Webhook(url) => self.webhook(record, url, now)?,
            Delivery::PullWake(stream) => announcement(record, stream, &first.path, now)?,
            Delivery::FanOut(target) => match self.copying(record, target, now)? {
                Some(copying) => PlatformAction::Copy(Box::new(copying)),
                None => return Ok(None),
            },
        };
        let lease = LeaseRef {
            subscription: record.number,
            generation: record.wake.generation,
        };
        Ok(Some(Effect { lease, action }))
    }

    /// The next batch to copy. A batch is repeated unchanged until it is known to have arrived.
    fn copying(
        &self,
        record: &mut Record,
        target: StreamName,
        now: Timestamp,
    ) -> Result<Option<Copying>, SqlError> {
        if record.wake.sent.is_empty() {
            let link = self
                .store
                .pending_link(record.number, record.wake.generation)?;
            record
                .wake
                .sent
                .extend(link.map(|link| (link.path, link.tail)));
        }
        let Some((source, until)) = record.wake.sent.first_key_value() else {
            return Ok(None);
        };
        let Some(link) = self.store.link(record.number, source)? else {
            return Ok(None);
        };
        let copying = Copying {
            source: source.clone(),
            generation: None,
            from: link.acked,
            until: *until,
            target,
            producer: Producer {
                id: format!("fan-out-{}", record.number),
                epoch: record.wake.generation,
                seq: 0,
            },
        };
        record.wake.phase = WakePhase::Sent {
            until: now.after(COPY_TIMEOUT),
        };
        Ok(Some(copying))
    }

    fn webhook(
        &self,
        record: &mut Record,
        url: WebhookUrl,
        now: Timestamp,
    ) -> Result<PlatformAction, SqlError> {
        let streams = self.stream_views(record)?;
        let pending = streams.iter().filter(|stream| stream.has_pending);
        let sent = pending.map(|stream| (stream.path.clone(), stream.tail_offset));
        record.wake.sent = sent.collect();
        record.wake.phase = WakePhase::Sent {
            until: now.after(record.lease),
        };
        let body = text(&Notification {
            subscription_id: &record.id,
            wake_id: self.secret.wake_id(record.wake_ref()),
            generation: record.wake.generation,
            streams,
            callback_url: callback_url(&record.base_url, &record.id),
            callback_token: self.secret.token(record.wake_ref(), now),
        })?;
        let signature = self.secret.sign(&body, now);
        let attempt = Attempt::of(&record.wake);
        Ok(PlatformAction::Webhook {
            url,
            attempt,
            headers: vec![
                (CONTENT_TYPE, "application/json".to_owned()),
                (SIGNATURE, signature),
            ],
            body: body.into(),
            timeout: record.lease.min(attempt.timeout()),
        })
    }
}

/// How long a copy may take before it is repeated, which is harmless.
const COPY_TIMEOUT: Duration = Duration::from_secs(5);

impl Attempt {
    const fn of(wake: &SubscriptionWake) -> Self {
        match wake.failures {
            0 => Self::First,
            _ => Self::Retry,
        }
    }

    /// Time limit of the exchange: a host that hangs must not hold up the others at each retry.
    const fn timeout(self) -> Duration {
        match self {
            Self::First => WEBHOOK_TIMEOUT,
            Self::Retry => WEBHOOK_AGAIN_TIMEOUT,
        }
    }
}

const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

fn announcement(
    record: &mut Record,
    stream: StreamName,
    path: &StreamName,
    now: Timestamp,
) -> Result<PlatformAction, SqlError> {
    record.wake.phase = WakePhase::Sent {
        until: now.after(WEBHOOK_TIMEOUT),
    };
    let message = text(&Announcement {
        kind: "wake",
        subscription_id: &record.id,
        stream: path,
        generation: record.wake.generation,
        ts: now,
    })?;
    let message = message.into();
    Ok(PlatformAction::Append { stream, message })
}

fn text(value: &impl serde::Serialize) -> Result<Vec<u8>, SqlError> {
    serde_json::to_vec(value).map_err(|error| SqlError(error.to_string()))
}

fn is_success(outcome: &EffectOutcome) -> bool {
    match outcome {
        EffectOutcome::Answered { status, .. } => (200..300).contains(status),
        EffectOutcome::Appended | EffectOutcome::Copied(_) | EffectOutcome::Failed => false,
    }
}
