//! What a stream tells the server's [`Hub`](super::hub::Hub): that it was made, that it ended, and,
//! as long as somebody follows it, how far it is.
//!
//! The hub lies elsewhere, so nothing of this can be told in the turn in which it happens. It is
//! written down in that turn, told before whoever asked is answered, and crossed out once it is
//! heard. If anything dies in between, the alarm tells it again. The hub hears everything in its
//! order and knows what it heard, so that twice is as good as once.
//!
//! A new stream counts as followed until the hub says that nobody follows it, and from then on its
//! appends write and ask nothing more than they would without a hub.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::call::{Expiry, MediaType};
use super::engine::{Engine, Telling};
use super::generation::Generation;
use super::offset::Offset;
use super::record::Stream;
use super::reply::View;
use super::row::Columns;
use crate::limits::STREAM_NEWS_MAX;

/// What the hub has not heard yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tidings {
    /// What happened, in its order.
    pub news: Vec<News>,
    /// How far the stream is, if there is one, and if `news` is all that happened.
    pub place: Option<Place>,
}

/// A life of a name began or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Which.
    pub life: Generation,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happened,
}

/// What happened to a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happened {
    /// It was made.
    Made(Facts),
    /// Nobody can read it any more.
    Gone,
}

/// What does not change of a stream as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its media type, as its creator wrote it.
    pub media_type: MediaType,
    /// When it ends.
    pub expiry: Expiry,
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which life of its name it is.
    pub life: Generation,
    /// Its tail.
    pub tail: Offset,
}

/// What the hub says to what it heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heeding {
    /// Counts the rounds in which the hub began to follow streams: what was said before the last
    /// one that a stream knows of counts no more.
    pub round: u64,
    /// Whether anybody wants to hear more.
    pub followed: bool,
}

impl From<&View> for Facts {
    fn from(view: &View) -> Self {
        Self {
            media_type: view.media_type.clone(),
            expiry: view.expiry,
        }
    }
}

impl Stream {
    /// Whether somebody waits to hear how far it is.
    pub(super) const fn is_awaited(&self) -> bool {
        self.followed && self.told < self.tail
    }

    fn place(&self) -> Option<Place> {
        (!self.deleted).then_some(Place {
            life: self.generation,
            tail: self.offset(self.tail),
        })
    }
}

/// Says when to try again to tell.
pub(super) const TELL: &str = "tell";

/// How long after a turn the alarm tells what was not told at once: longer than that takes.
pub(super) const GRACE: Duration = Duration::from_secs(5);

impl<S: Sql> Engine<'_, S> {
    /// What the hub has not heard yet, if anything.
    pub fn tidings(&self) -> Result<Option<Tidings>, SqlError> {
        let select = "SELECT body FROM stream_news WHERE s = ? ORDER BY number LIMIT ?";
        let most = STREAM_NEWS_MAX as u64;
        let rows = self.run(select, [most.into()])?;
        let news: Vec<News> = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        let stream = self.load()?;
        let is_awaited = stream.as_ref().is_some_and(Stream::is_awaited);
        if news.is_empty() && !is_awaited {
            return Ok(None);
        }
        let is_all = news.len() < STREAM_NEWS_MAX;
        let place = stream.filter(|_| is_all).and_then(|stream| stream.place());
        Ok(Some(Tidings { news, place }))
    }

    /// The hub heard it.
    pub fn heard(&self, tidings: &Tidings, heeding: &Heeding) -> Result<(), SqlError> {
        let delete = "DELETE FROM stream_news WHERE s = ? AND number = \
             (SELECT min(number) FROM stream_news WHERE s = ? AND body = ?)";
        for news in &tidings.news {
            let key = Value::Integer(self.key);
            self.run(delete, [key, written(news)?.into()])?;
        }
        self.cross_out(TELL, "")?;
        let Some(mut stream) = self.load()? else {
            return Ok(());
        };
        if let Some(place) = tidings.place.filter(|it| it.life == stream.generation) {
            stream.told = stream.told.max(place.tail.position());
        }
        stream.heed(heeding);
        self.keep_told(&stream)
    }

    /// What happened, for whoever takes the turns of the stream: it is not written down any more.
    pub fn take_news(&self) -> Result<Vec<News>, SqlError> {
        let select = "SELECT body FROM stream_news WHERE s = ? ORDER BY number";
        let news = self.run(select, [])?.into_iter().map(read);
        let news: Vec<_> = news.collect::<Result<_, _>>()?;
        if !news.is_empty() {
            self.run("DELETE FROM stream_news WHERE s = ?", [])?;
        }
        Ok(news)
    }

    /// The hub could not be told. It is tried again, ever later.
    pub fn unheard(&self, now: Timestamp) -> Result<(), SqlError> {
        self.try_later(TELL, "", now)
    }

    /// Somebody follows the stream from now on. Says how far it is.
    pub fn follow(&self, round: u64, now: Timestamp) -> Result<Option<Place>, SqlError> {
        let Some(mut stream) = self.load()?.filter(|stream| !stream.is_over(now)) else {
            return Ok(None);
        };
        stream.heed(&Heeding {
            round,
            followed: true,
        });
        // The hub asks again until it has the answer.
        stream.told = stream.tail;
        self.keep_told(&stream)?;
        Ok(stream.place())
    }

    /// Writes down that the stream began.
    pub(super) fn report_made(&self, stream: &mut Stream, now: Timestamp) -> Result<(), SqlError> {
        stream.followed = self.telling == Telling::Hub;
        let facts = Facts::from(&stream.view());
        self.report(stream, Happened::Made(facts), now)
    }

    /// Writes down that nobody can read the stream any more.
    pub(super) fn report_gone(&self, stream: &Stream, now: Timestamp) -> Result<(), SqlError> {
        self.report(stream, Happened::Gone, now)
    }

    /// When the alarm should tell what was not told, unless a time is noted.
    pub(super) fn tells_at(
        &self,
        stream: Option<&Stream>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, SqlError> {
        if self.telling == Telling::Nobody {
            return Ok(None);
        }
        let is_awaited = stream.is_some_and(Stream::is_awaited);
        let is_untold = is_awaited || self.has_news()?;
        let is_noted = is_untold && self.tries(TELL, "")?.is_some();
        Ok((is_untold && !is_noted).then(|| now.after(GRACE)))
    }

    /// Whether anything that happened was not told.
    pub fn has_news(&self) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM stream_news WHERE s = ? LIMIT 1";
        Ok(!self.run(select, [])?.is_empty())
    }

    fn report(&self, stream: &Stream, what: Happened, at: Timestamp) -> Result<(), SqlError> {
        if self.telling == Telling::Nobody {
            return Ok(());
        }
        let life = stream.generation;
        let insert = "INSERT INTO stream_news (s, number, body) SELECT ?1, \
             coalesce(max(number), 0) + 1, ?2 FROM stream_news WHERE s = ?1";
        let body = written(&News { life, at, what })?;
        self.run(insert, [body.into()]).map(drop)
    }

    fn keep_told(&self, stream: &Stream) -> Result<(), SqlError> {
        let update = "UPDATE stream SET followed = ?2, round = ?3, told = ?4 WHERE s = ?1";
        let params = [
            u64::from(stream.followed).into(),
            stream.round.into(),
            stream.told.into(),
        ];
        self.run(update, params)?;
        self.remember(stream);
        Ok(())
    }
}

impl Stream {
    /// What was said first may come last.
    fn heed(&mut self, heeding: &Heeding) {
        if heeding.round >= self.round {
            self.round = heeding.round;
            self.followed = heeding.followed;
        }
    }
}

fn written(news: &News) -> Result<String, SqlError> {
    serde_json::to_string(news).map_err(|error| SqlError(error.to_string()))
}

fn read(row: SqlRow) -> Result<News, SqlError> {
    let text = Columns::of(row).text()?;
    serde_json::from_str(&text).map_err(|error| SqlError(format!("a stream's news: {error}")))
}
