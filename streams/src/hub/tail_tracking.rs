//! Tail tracking: requests to streams to report their tails from now on.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::Hub;
use super::directory::{name_param, stored_name};
use crate::job::backoff;
use crate::limits::HUB_FOLLOWS_MAX;
use crate::row::Columns;
use crate::subscription::{RequiredTails, SubscriptionRequest};
use crate::{StreamName, StreamTail};

/// A round of follow requests to streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackRequest {
    /// The number of the round.
    pub round: u64,
    /// The streams to ask.
    pub streams: Vec<StreamName>,
}

/// How long after a transaction the alarm repeats a follow request.
const GRACE: Duration = Duration::from_secs(5);

/// Longest delay between two tries.
const BACKOFF_MAX: Duration = Duration::from_mins(10);

impl<S: Sql> Hub<'_, S> {
    /// The tails that a request needs. Until the request is answered, the platform passes them to
    /// each [`ingest`](Self::ingest).
    pub fn required_tails(&self, request: &SubscriptionRequest) -> Result<RequiredTails, SqlError> {
        self.subscriptions().required_tails(request)
    }

    /// The streams that the platform has to ask before it answers a request with these required
    /// tails. The hub records each of them; beyond a limit, the alarm asks them afterwards.
    pub fn streams_to_track(
        &self,
        needs: &RequiredTails,
        now: Timestamp,
    ) -> Result<TrackRequest, SqlError> {
        let entries = self.entries(needs)?.into_iter();
        let streams = entries.filter(|it| !it.followed).map(|it| it.name);
        let mut streams: Vec<_> = streams.collect();
        if streams.is_empty() {
            return Ok(TrackRequest::default());
        }
        self.sql.run("UPDATE hub_meta SET round = round + 1", &[])?;
        let upsert = "INSERT OR REPLACE INTO hub_follow (name, at, tries) VALUES (?, ?, 0)";
        for (number, name) in streams.iter().enumerate() {
            let is_asked_now = number < HUB_FOLLOWS_MAX;
            let at = if is_asked_now { now.after(GRACE) } else { now };
            self.sql
                .run(upsert, &[name_param(name), at.as_millis().into()])?;
        }
        streams.truncate(HUB_FOLLOWS_MAX);
        let round = self.round()?;
        Ok(TrackRequest { round, streams })
    }

    /// The streams that the alarm has to ask now.
    pub fn overdue_tracking(&self, now: Timestamp) -> Result<TrackRequest, SqlError> {
        let select = "SELECT name FROM hub_follow WHERE at <= ? ORDER BY at, name LIMIT ?";
        let params = [now.as_millis().into(), (HUB_FOLLOWS_MAX as u64).into()];
        let rows = self.sql.run(select, &params)?;
        let names = rows
            .into_iter()
            .map(|row| stored_name(&Columns::of(row).text()?));
        let streams = names.collect::<Result<_, _>>()?;
        let round = self.round()?;
        Ok(TrackRequest { round, streams })
    }

    /// Records the answer of a stream: its tail, or that it does not exist.
    pub fn tracked(
        &self,
        name: &StreamName,
        tail: Option<&StreamTail>,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let delete = "DELETE FROM hub_follow WHERE name = ?";
        self.sql.run(delete, &[name_param(name)])?;
        let known = self.entry(name)?;
        // Another generation has not reported its creation yet.
        if let (Some(mut entry), Some(tail)) = (known, tail)
            && entry.accepts(tail)
        {
            entry.followed = true;
            entry.tail = entry.tail.max(tail.offset);
            self.save(&entry)?;
            self.subscriptions().on_append(name, entry.tail, now)?;
        }
        Ok(())
    }

    /// Schedules another try with backoff, after a stream did not answer.
    pub fn tracking_failed(&self, name: &StreamName, now: Timestamp) -> Result<(), SqlError> {
        let select = "SELECT tries FROM hub_follow WHERE name = ?";
        let Some(row) = self
            .sql
            .run(select, &[name_param(name)])?
            .into_iter()
            .next()
        else {
            return Ok(());
        };
        let tries = Columns::of(row).integer()?;
        let at = now.after(backoff(tries, BACKOFF_MAX)).as_millis();
        let update = "UPDATE hub_follow SET at = ?, tries = ? WHERE name = ?";
        let params = [at.into(), (tries + 1).into(), name_param(name)];
        self.sql.run(update, &params).map(drop)
    }

    pub(super) fn tracking_due(&self) -> Result<Option<Timestamp>, SqlError> {
        let rows = self.sql.run("SELECT min(at) FROM hub_follow", &[])?;
        let row = rows.into_iter().next().unwrap_or_default();
        let at = Columns::of(row).optional_integer()?;
        Ok(at.map(Timestamp::from_millis))
    }
}
