//! Worker calls: claim, acknowledge and release of work.

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::call::{Ack, Answer, Refusal, Report};
use super::config::Delivery;
use super::engine::{Subscriptions, not_pull_wake};
use super::ledger::{Record, millis};
use super::pattern::Pattern;
use super::secret::BadToken;
use super::view::{Claimed, StreamView};
use super::wake::Phase;
use crate::limits::WAKE_STREAMS_MAX;
use crate::{Offset, StreamName};

impl<S: Sql> Subscriptions<'_, S> {
    /// Whether a worker's token names all streams of a subscription.
    pub(super) fn covers(&self, record: &Record, within: Option<&Pattern>) -> Result<(), Refusal> {
        let Some(within) = within else {
            return Ok(());
        };
        let links = self.all_links(record)?;
        let other = links.into_iter().find(|link| !within.matches(&link.path));
        other.map_or(Ok(()), |link| Err(Refusal::Scope(link.path)))
    }

    /// Gives the work there is to the worker that asks first.
    pub(super) fn claim(
        &self,
        mut record: Record,
        worker: &str,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        match record.delivery {
            Delivery::PullWake(_) => {}
            Delivery::Webhook(_) | Delivery::FanOut(_) => return Err(not_pull_wake()),
        }
        if record.wake.due().is_some_and(|due| due <= now) {
            self.advance(&mut record, now)?;
        }
        if let Some(holder) = record.wake.holder() {
            return Err(Refusal::Taken {
                holder: holder.to_owned(),
                generation: record.wake.generation,
            });
        }
        if !self.ledger.has_pending(record.number)? {
            return Err(Refusal::Idle);
        }
        if record.wake.phase == Phase::Idle {
            // The worker was faster than the notice; no other worker need be notified.
            record.wake.begin(now);
        }
        record.wake.phase = Phase::Awake {
            until: now.after(record.lease),
            holder: Some(worker.to_owned()),
        };
        self.ledger.keep(&record)?;
        Ok(Answer::Claimed(Claimed {
            wake_id: self.secret.wake_id(record.wake_ref()),
            generation: record.wake.generation,
            token: self.secret.token(record.wake_ref(), now),
            streams: self.stream_views(&record)?,
            lease_ttl_ms: millis(record.lease),
        }))
    }

    /// Takes a worker's word for what is done, and lets it go on or ends its wake.
    pub(super) fn report(
        &self,
        mut record: Record,
        report: &Report,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        self.check(&record, report, now)?;
        let acks = self.read_acks(&record, &report.acks)?;
        for (path, offset) in &acks {
            self.ledger.acknowledge(record.number, path, *offset)?;
        }
        record.wake.failures = 0;
        let next_wake = report.done && self.next_wake(&mut record, now)?;
        if !report.done {
            record.wake.phase = Phase::Awake {
                until: now.after(record.lease),
                holder: record.wake.holder().map(str::to_owned),
            };
        }
        self.ledger.keep(&record)?;
        Ok(Answer::Acked { next_wake })
    }

    /// Takes work back that is not done.
    pub(super) fn release(
        &self,
        mut record: Record,
        report: &Report,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        self.check(&record, report, now)?;
        self.next_wake(&mut record, now)?;
        self.ledger.keep(&record)?;
        Ok(Answer::Done)
    }

    /// Ends a wake, and begins the next one if anything is left to do.
    pub(super) fn next_wake(&self, record: &mut Record, now: Timestamp) -> Result<bool, SqlError> {
        record.wake.end();
        let pending = self.ledger.has_pending(record.number)?;
        if pending {
            record.wake.begin(now);
        }
        Ok(pending)
    }

    /// The streams as a worker sees them, those with work first.
    pub(super) fn stream_views(&self, record: &Record) -> Result<Vec<StreamView>, SqlError> {
        let links = self.ledger.links(record.number, WAKE_STREAMS_MAX)?;
        let view = links.into_iter().map(|link| StreamView {
            has_pending: link.is_pending(),
            path: link.path,
            link_type: link.kind.as_str(),
            acked_offset: link.acked,
            tail_offset: link.tail,
        });
        Ok(view.collect())
    }

    /// Whether the report is of the wake there is. A lease that ended counts as ended although
    /// no one came by to end it.
    fn check(&self, record: &Record, report: &Report, now: Timestamp) -> Result<(), Refusal> {
        let token = self.secret.read_token(&report.token, now);
        let named = token.map_err(|bad| match bad {
            BadToken::Invalid => Refusal::Token,
            BadToken::Expired => Refusal::TokenExpired,
        })?;
        if named.subscription != record.number {
            return Err(Refusal::Token);
        }
        let wake_id = self.secret.wake_id(record.wake_ref());
        let is_current = named == record.wake_ref()
            && report.generation == Some(record.wake.generation)
            && report.wake_id.as_ref() == Some(&wake_id)
            && record.wake.is_current()
            && !record.wake.is_over(now);
        is_current.then_some(()).ok_or(Refusal::Fenced)
    }

    /// Reads what is acknowledged: all of it counts, or none.
    fn read_acks(
        &self,
        record: &Record,
        acks: &[Ack],
    ) -> Result<Vec<(StreamName, Offset)>, Refusal> {
        let mut read: Vec<(StreamName, Offset)> = Vec::new();
        for ack in acks {
            let path = StreamName::parse(ack.stream.trim_matches('/')).ok();
            let link = match path {
                Some(path) => self.ledger.link(record.number, &path)?,
                None => None,
            };
            let link = link.ok_or(Refusal::Offset("the subscription has no such stream"))?;
            let offset = Offset::parse(&ack.offset)
                .map_err(|_| Refusal::Offset("this is no offset of a stream"))?;
            let earlier = read.iter().rev().find(|(path, _)| *path == link.path);
            let done = earlier.map_or(link.acked, |(_, offset)| *offset);
            if offset < done {
                return Err(Refusal::Offset("more than that is done already"));
            }
            if offset > link.tail {
                return Err(Refusal::Offset("the stream ends before this offset"));
            }
            read.push((link.path, offset));
        }
        Ok(read)
    }
}
