//! Worker calls: claim, acknowledge and release of work.

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::config::Delivery;
use super::engine::{Subscriptions, not_pull_wake};
use super::pattern::Pattern;
use super::request::{Ack, WorkerReport};
use super::response::{SubscriptionRefusal, SubscriptionResponse};
use super::secret::BadToken;
use super::store::{Record, millis};
use super::view::{Claimed, StreamView};
use super::wake::WakePhase;
use crate::limits::WAKE_STREAMS_MAX;
use crate::{Offset, StreamName};

impl<S: Sql> Subscriptions<'_, S> {
    /// Refuses a worker whose token does not name all streams of a subscription.
    pub(super) fn covers(
        &self,
        record: &Record,
        within: Option<&Pattern>,
    ) -> Result<(), SubscriptionRefusal> {
        let Some(within) = within else {
            return Ok(());
        };
        let links = self.all_links(record)?;
        let other = links.into_iter().find(|link| !within.matches(&link.path));
        other.map_or(Ok(()), |link| Err(SubscriptionRefusal::Scope(link.path)))
    }

    /// Leases the pending work to the first worker that claims it.
    pub(super) fn claim(
        &self,
        mut record: Record,
        worker: &str,
        now: Timestamp,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        match record.delivery {
            Delivery::PullWake(_) => {}
            Delivery::Webhook(_) | Delivery::FanOut(_) => return Err(not_pull_wake()),
        }
        if record.wake.due().is_some_and(|due| due <= now) {
            self.advance(&mut record, now)?;
        }
        if let Some(holder) = record.wake.holder() {
            return Err(SubscriptionRefusal::Taken {
                holder: holder.to_owned(),
                generation: record.wake.generation,
            });
        }
        if !self.store.has_pending(record.number)? {
            return Err(SubscriptionRefusal::Idle);
        }
        if record.wake.phase == WakePhase::Idle {
            // The worker claims before the announcement, which then is not needed.
            record.wake.begin(now);
        }
        record.wake.phase = WakePhase::Awake {
            until: now.after(record.lease),
            holder: Some(worker.to_owned()),
        };
        self.store.save(&record)?;
        Ok(SubscriptionResponse::Claimed(Claimed {
            wake_id: self.secret.wake_id(record.wake_ref()),
            generation: record.wake.generation,
            token: self.secret.token(record.wake_ref(), now),
            streams: self.stream_views(&record)?,
            lease_ttl_ms: millis(record.lease),
        }))
    }

    /// Applies a worker's report, and extends its lease or ends its wake.
    pub(super) fn report(
        &self,
        mut record: Record,
        report: &WorkerReport,
        now: Timestamp,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        self.check(&record, report, now)?;
        let acks = self.read_acks(&record, &report.acks)?;
        for (path, offset) in &acks {
            self.store.acknowledge(record.number, path, *offset)?;
        }
        record.wake.failures = 0;
        let next_wake = report.done && self.next_wake(&mut record, now)?;
        if !report.done {
            record.wake.phase = WakePhase::Awake {
                until: now.after(record.lease),
                holder: record.wake.holder().map(str::to_owned),
            };
        }
        self.store.save(&record)?;
        Ok(SubscriptionResponse::Acked { next_wake })
    }

    /// Ends a worker's wake without acknowledging anything.
    pub(super) fn release(
        &self,
        mut record: Record,
        report: &WorkerReport,
        now: Timestamp,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        self.check(&record, report, now)?;
        self.next_wake(&mut record, now)?;
        self.store.save(&record)?;
        Ok(SubscriptionResponse::Done)
    }

    /// Ends a wake, and begins the next one if work is pending. Returns whether it did.
    pub(super) fn next_wake(&self, record: &mut Record, now: Timestamp) -> Result<bool, SqlError> {
        record.wake.end();
        let pending = self.store.has_pending(record.number)?;
        if pending {
            record.wake.begin(now);
        }
        Ok(pending)
    }

    /// The views of the streams for a worker, those with pending work first.
    pub(super) fn stream_views(&self, record: &Record) -> Result<Vec<StreamView>, SqlError> {
        let links = self.store.links(record.number, WAKE_STREAMS_MAX)?;
        let view = links.into_iter().map(|link| StreamView {
            has_pending: link.is_pending(),
            path: link.path,
            link_type: link.kind.as_str(),
            acked_offset: link.acked,
            tail_offset: link.tail,
        });
        Ok(view.collect())
    }

    /// Refuses a report that is not of the current wake. A lease counts as ended at its time, even
    /// before [`advance`](Self::advance) ends the wake.
    fn check(
        &self,
        record: &Record,
        report: &WorkerReport,
        now: Timestamp,
    ) -> Result<(), SubscriptionRefusal> {
        let token = self.secret.read_token(&report.token, now);
        let named = token.map_err(|bad| match bad {
            BadToken::Invalid => SubscriptionRefusal::Token,
            BadToken::Expired => SubscriptionRefusal::TokenExpired,
        })?;
        if named.subscription != record.number {
            return Err(SubscriptionRefusal::Token);
        }
        let wake_id = self.secret.wake_id(record.wake_ref());
        let is_current = named == record.wake_ref()
            && report.generation == Some(record.wake.generation)
            && report.wake_id.as_ref() == Some(&wake_id)
            && record.wake.is_current()
            && !record.wake.is_over(now);
        is_current.then_some(()).ok_or(SubscriptionRefusal::Fenced)
    }

    /// Validates all acknowledgements of a report before any of them is applied.
    fn read_acks(
        &self,
        record: &Record,
        acks: &[Ack],
    ) -> Result<Vec<(StreamName, Offset)>, SubscriptionRefusal> {
        let mut read: Vec<(StreamName, Offset)> = Vec::new();
        for ack in acks {
            let path = StreamName::parse(ack.stream.trim_matches('/')).ok();
            let link = match path {
                Some(path) => self.store.link(record.number, &path)?,
                None => None,
            };
            let link = link.ok_or(SubscriptionRefusal::Offset(
                "the subscription has no such stream",
            ))?;
            let offset = Offset::parse(&ack.offset)
                .map_err(|_| SubscriptionRefusal::Offset("this is no offset of a stream"))?;
            let earlier = read.iter().rev().find(|(path, _)| *path == link.path);
            let done = earlier.map_or(link.acked, |(_, offset)| *offset);
            if offset < done {
                return Err(SubscriptionRefusal::Offset(
                    "more than that is done already",
                ));
            }
            if offset > link.tail {
                return Err(SubscriptionRefusal::Offset(
                    "the stream ends before this offset",
                ));
            }
            read.push((link.path, offset));
        }
        Ok(read)
    }
}
