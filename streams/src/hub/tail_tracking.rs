//! Tail tracking: asks streams to report their tails from now on.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::Hub;
use super::directory::{bound, named};
use crate::limits::HUB_FOLLOWS_MAX;
use crate::row::Columns;
use crate::subscription::{Call, RequiredTails};
use crate::{StreamName, StreamTail};

/// Whom to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackRequest {
    /// In which round.
    pub round: u64,
    /// Which streams.
    pub streams: Vec<StreamName>,
}

/// How long after a turn the alarm asks those who were not asked at once.
const GRACE: Duration = Duration::from_secs(5);

/// The longest pause between two tries.
const PAUSE_SECONDS_MAX: u64 = 600;

impl<S: Sql> Hub<'_, S> {
    /// What a call needs of the directory. As long as it is not answered, whatever tells anything
    /// has to be [heard](Self::ingest) with it.
    pub fn required_tails(&self, call: &Call) -> Result<RequiredTails, SqlError> {
        self.subscriptions().required_tails(call)
    }

    /// The streams that have to be asked before a call with such needs is answered. That they are
    /// to be asked is written down; beyond a number the alarm asks them, afterwards.
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
                .run(upsert, &[bound(name), at.as_millis().into()])?;
        }
        streams.truncate(HUB_FOLLOWS_MAX);
        let round = self.round()?;
        Ok(TrackRequest { round, streams })
    }

    /// Those whom the alarm has to ask now.
    pub fn overdue_tracking(&self, now: Timestamp) -> Result<TrackRequest, SqlError> {
        let select = "SELECT name FROM hub_follow WHERE at <= ? ORDER BY at, name LIMIT ?";
        let params = [now.as_millis().into(), (HUB_FOLLOWS_MAX as u64).into()];
        let rows = self.sql.run(select, &params)?;
        let names = rows.into_iter().map(|row| named(&Columns::of(row).text()?));
        let streams = names.collect::<Result<_, _>>()?;
        let round = self.round()?;
        Ok(TrackRequest { round, streams })
    }

    /// A stream was asked, and is so far; or it is not there.
    pub fn tracked(
        &self,
        name: &StreamName,
        tail: Option<&StreamTail>,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let delete = "DELETE FROM hub_follow WHERE name = ?";
        self.sql.run(delete, &[bound(name)])?;
        let known = self.entry(name)?;
        // If it is another generation, its beginning is yet to be told.
        if let (Some(mut entry), Some(tail)) = (known, tail)
            && entry.is_of(tail)
        {
            entry.followed = true;
            entry.tail = entry.tail.max(tail.offset);
            self.keep(&entry)?;
            self.subscriptions().on_append(name, entry.tail, now)?;
        }
        Ok(())
    }

    /// A stream could not be asked: the alarm tries again, ever later.
    pub fn tracking_failed(&self, name: &StreamName, now: Timestamp) -> Result<(), SqlError> {
        let select = "SELECT tries FROM hub_follow WHERE name = ?";
        let Some(row) = self.sql.run(select, &[bound(name)])?.into_iter().next() else {
            return Ok(());
        };
        let tries = Columns::of(row).integer()?;
        let pause = (1 << tries.min(16)).min(PAUSE_SECONDS_MAX);
        let at = now.after(Duration::from_secs(pause)).as_millis();
        let update = "UPDATE hub_follow SET at = ?, tries = ? WHERE name = ?";
        let params = [at.into(), (tries + 1).into(), bound(name)];
        self.sql.run(update, &params).map(drop)
    }

    pub(super) fn follows_due(&self) -> Result<Option<Timestamp>, SqlError> {
        let rows = self.sql.run("SELECT min(at) FROM hub_follow", &[])?;
        let row = rows.into_iter().next().unwrap_or_default();
        let at = Columns::of(row).maybe_integer()?;
        Ok(at.map(Timestamp::from_millis))
    }
}
