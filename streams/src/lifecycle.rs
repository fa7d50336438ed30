//! Lifecycle events: a stream reports its creation, its end and its tail to the [`Hub`].
//!
//! The hub is another object, so a stream cannot report within the transaction in which something
//! happens. The transaction records the event; the stream reports it before it answers the client,
//! and deletes the record once the hub acknowledges it. After a crash in between, the alarm reports
//! it again. The hub applies events in order and ignores those that it has already applied.
//!
//! A new stream reports every append until the hub acknowledges that no subscription follows it.
//! From then on, its appends cost the same as without a hub.
//!
//! [`Hub`]: super::hub::Hub

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::call::{Expiry, MediaType};
use super::engine::{Engine, Reporting};
use super::generation::Generation;
use super::offset::Offset;
use super::record::StreamRecord;
use super::reply::StreamProperties;
use super::row::Columns;
use crate::limits::STREAM_LIFECYCLE_EVENTS_MAX;

/// Report of a stream to the hub: the events and the tail that the hub does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubUpdate {
    /// Events in order.
    #[serde(rename = "news")]
    pub events: Vec<LifecycleEvent>,
    /// The stream's tail: if the stream exists, and if `events` holds all events.
    #[serde(rename = "place")]
    pub tail: Option<StreamTail>,
}

/// Creation or end of one generation of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleEvent {
    /// The generation that began or ended.
    #[serde(rename = "life")]
    pub generation: Generation,
    /// When it happened.
    pub at: Timestamp,
    /// Whether the generation began or ended.
    #[serde(rename = "what")]
    pub change: LifecycleChange,
}

/// Change of a stream's lifecycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifecycleChange {
    /// The stream was created.
    #[serde(rename = "Made")]
    Created(StreamMetadata),
    /// No client can read the stream any more.
    #[serde(rename = "Gone")]
    Ended,
}

/// Metadata that a stream keeps for its lifetime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMetadata {
    /// The media type, as its creator wrote it.
    pub media_type: MediaType,
    /// When the stream ends.
    pub expiry: Expiry,
}

/// Tail of one generation of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTail {
    /// The generation that `offset` belongs to.
    #[serde(rename = "life")]
    pub generation: Generation,
    /// The offset after the last message.
    #[serde(rename = "tail")]
    pub offset: Offset,
}

/// The hub's acknowledgement of a [`HubUpdate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubAck {
    /// Number of the hub's last round of follow requests. A stream ignores acknowledgements of
    /// earlier rounds than the last one that it knows of.
    pub round: u64,
    /// Whether a subscription follows the stream, which then reports every append.
    pub followed: bool,
}

impl From<&StreamProperties> for StreamMetadata {
    fn from(view: &StreamProperties) -> Self {
        Self {
            media_type: view.media_type.clone(),
            expiry: view.expiry,
        }
    }
}

impl StreamRecord {
    /// Whether the hub follows the stream and does not know its tail.
    pub(super) const fn is_report_due(&self) -> bool {
        self.followed && self.reported < self.tail
    }

    fn stream_tail(&self) -> Option<StreamTail> {
        (!self.deleted).then_some(StreamTail {
            generation: self.generation,
            offset: self.offset(self.tail),
        })
    }
}

/// Kind of the job that records when to report again.
pub(super) const REPORT: &str = "tell";

/// How long after a transaction the alarm reports: longer than an immediate report takes.
pub(super) const GRACE: Duration = Duration::from_secs(5);

impl<S: Sql> Engine<'_, S> {
    /// The update that the hub has not acknowledged yet, if any.
    pub fn hub_update(&self) -> Result<Option<HubUpdate>, SqlError> {
        let select = "SELECT body FROM stream_news WHERE s = ? ORDER BY number LIMIT ?";
        let most = STREAM_LIFECYCLE_EVENTS_MAX as u64;
        let rows = self.run(select, [most.into()])?;
        let events: Vec<LifecycleEvent> = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        let stream = self.load()?;
        let is_report_due = stream.as_ref().is_some_and(StreamRecord::is_report_due);
        if events.is_empty() && !is_report_due {
            return Ok(None);
        }
        let is_all = events.len() < STREAM_LIFECYCLE_EVENTS_MAX;
        let tail = stream.filter(|_| is_all).and_then(|it| it.stream_tail());
        Ok(Some(HubUpdate { events, tail }))
    }

    /// Applies the hub's acknowledgement of an update.
    pub fn ack_hub_update(&self, update: &HubUpdate, ack: &HubAck) -> Result<(), SqlError> {
        let delete = "DELETE FROM stream_news WHERE s = ? AND number = \
             (SELECT min(number) FROM stream_news WHERE s = ? AND body = ?)";
        for event in &update.events {
            let key = Value::Integer(self.key);
            self.run(delete, [key, written(event)?.into()])?;
        }
        self.dequeue(REPORT, "")?;
        let Some(mut stream) = self.load()? else {
            return Ok(());
        };
        let tail = update.tail;
        if let Some(tail) = tail.filter(|it| it.generation == stream.generation) {
            stream.reported = stream.reported.max(tail.offset.position());
        }
        stream.apply_ack(ack);
        self.save_reported(&stream)
    }

    /// Removes and returns all events, for a host whose registry is in the same database.
    pub fn take_lifecycle_events(&self) -> Result<Vec<LifecycleEvent>, SqlError> {
        let select = "SELECT body FROM stream_news WHERE s = ? ORDER BY number";
        let events = self.run(select, [])?.into_iter().map(read);
        let events: Vec<_> = events.collect::<Result<_, _>>()?;
        if !events.is_empty() {
            self.run("DELETE FROM stream_news WHERE s = ?", [])?;
        }
        Ok(events)
    }

    /// Schedules another report after the hub could not be reached, with exponential backoff.
    pub fn nack_hub_update(&self, now: Timestamp) -> Result<(), SqlError> {
        self.retry_later(REPORT, "", now)
    }

    /// Follows the stream from now on, and returns its tail.
    pub fn follow(&self, round: u64, now: Timestamp) -> Result<Option<StreamTail>, SqlError> {
        let Some(mut stream) = self.load()?.filter(|stream| !stream.is_over(now)) else {
            return Ok(None);
        };
        stream.apply_ack(&HubAck {
            round,
            followed: true,
        });
        // The hub asks again until it has the answer.
        stream.reported = stream.tail;
        self.save_reported(&stream)?;
        Ok(stream.stream_tail())
    }

    /// Records that the stream was created.
    pub(super) fn record_created(
        &self,
        stream: &mut StreamRecord,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        stream.followed = self.reporting == Reporting::Hub;
        let metadata = StreamMetadata::from(&stream.view());
        self.record_event(stream, LifecycleChange::Created(metadata), now)
    }

    /// Records that no client can read the stream any more.
    pub(super) fn record_ended(
        &self,
        stream: &StreamRecord,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        self.record_event(stream, LifecycleChange::Ended, now)
    }

    /// When the alarm has to report, unless a job records that already.
    pub(super) fn reports_at(
        &self,
        stream: Option<&StreamRecord>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, SqlError> {
        if self.reporting == Reporting::Off {
            return Ok(None);
        }
        let is_report_due = stream.is_some_and(StreamRecord::is_report_due);
        let is_due = is_report_due || self.has_lifecycle_events()?;
        let is_scheduled = is_due && self.tries(REPORT, "")?.is_some();
        Ok((is_due && !is_scheduled).then(|| now.after(GRACE)))
    }

    /// Whether events wait to be reported.
    pub fn has_lifecycle_events(&self) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM stream_news WHERE s = ? LIMIT 1";
        Ok(!self.run(select, [])?.is_empty())
    }

    fn record_event(
        &self,
        stream: &StreamRecord,
        change: LifecycleChange,
        at: Timestamp,
    ) -> Result<(), SqlError> {
        if self.reporting == Reporting::Off {
            return Ok(());
        }
        let generation = stream.generation;
        let insert = "INSERT INTO stream_news (s, number, body) SELECT ?1, \
             coalesce(max(number), 0) + 1, ?2 FROM stream_news WHERE s = ?1";
        let event = LifecycleEvent {
            generation,
            at,
            change,
        };
        let body = written(&event)?;
        self.run(insert, [body.into()]).map(drop)
    }

    fn save_reported(&self, stream: &StreamRecord) -> Result<(), SqlError> {
        let update = "UPDATE stream SET followed = ?2, round = ?3, told = ?4 WHERE s = ?1";
        let params = [
            u64::from(stream.followed).into(),
            stream.round.into(),
            stream.reported.into(),
        ];
        self.run(update, params)?;
        self.cache_row(stream);
        Ok(())
    }
}

impl StreamRecord {
    /// Applies an acknowledgement, unless it arrives after one of a later round.
    fn apply_ack(&mut self, ack: &HubAck) {
        if ack.round >= self.round {
            self.round = ack.round;
            self.followed = ack.followed;
        }
    }
}

fn written(event: &LifecycleEvent) -> Result<String, SqlError> {
    serde_json::to_string(event).map_err(|error| SqlError(error.to_string()))
}

fn read(row: SqlRow) -> Result<LifecycleEvent, SqlError> {
    let text = Columns::of(row).text()?;
    serde_json::from_str(&text)
        .map_err(|error| SqlError(format!("a lifecycle event of a stream: {error}")))
}
