//! What streams tell the hub.

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::Hub;
use super::directory::Entry;
use crate::registry;
use crate::subscription::Needs;
use crate::{Happened, Heeding, News, Offset, StreamName, Tidings};

impl<S: Sql> Hub<'_, S> {
    /// Hears what a stream tells, and says whether it should go on. What was heard before changes
    /// nothing. `pending`: what those need who are about to subscribe.
    pub fn hear(
        &self,
        name: &StreamName,
        tidings: &Tidings,
        pending: &[Needs],
        now: Timestamp,
    ) -> Result<Heeding, SqlError> {
        let mut entry = self.entry(name)?;
        let unheard = unheard(&tidings.news, entry.as_ref());
        let is_news = !unheard.is_empty();
        for news in unheard {
            entry = Some(self.happened(name, news, entry.as_ref())?);
        }
        let followed = self.is_followed(name, pending)?;
        if let Some(mut entry) = entry {
            let place = tidings.place.filter(|place| entry.is_of(place));
            let tail = place.map_or(entry.tail, |place| place.tail.max(entry.tail));
            if place.is_some() && (is_news || tail > entry.tail) {
                self.subscriptions().touched(name, tail, now)?;
            }
            if is_news || tail > entry.tail || followed != entry.followed {
                entry.tail = tail;
                entry.followed = followed;
                self.keep(&entry)?;
            }
        }
        if is_news {
            self.forget_gone(now)?;
        }
        let round = self.round()?;
        Ok(Heeding { round, followed })
    }

    fn happened(
        &self,
        name: &StreamName,
        news: &News,
        before: Option<&Entry>,
    ) -> Result<Entry, SqlError> {
        let is_alive = before.is_some_and(|entry| entry.gone.is_none());
        let entry = match &news.what {
            Happened::Made(_) => {
                if is_alive {
                    // Its end was told to nobody, and can't be told any more.
                    self.register(name, &Happened::Gone, news.at)?;
                }
                self.register(name, &news.what, news.at)?;
                Entry {
                    name: name.clone(),
                    life: news.life,
                    tail: Offset::ZERO,
                    followed: true,
                    gone: None,
                }
            }
            Happened::Gone => {
                if is_alive {
                    self.register(name, &news.what, news.at)?;
                }
                Entry {
                    name: name.clone(),
                    life: news.life,
                    tail: Offset::ZERO,
                    followed: false,
                    gone: Some(news.at),
                }
            }
        };
        self.subscriptions().forgotten(name)?;
        // It may not change any more, and must not be lost.
        self.keep(&entry)?;
        Ok(entry)
    }

    fn register(&self, name: &StreamName, what: &Happened, at: Timestamp) -> Result<(), SqlError> {
        self.note(name, what, at)?;
        match registry::message(name, what, at) {
            Some(message) => self.posts().put(&message),
            None => Ok(()),
        }
    }

    /// Whether anybody wants to hear of a stream.
    pub(super) fn is_followed(
        &self,
        name: &StreamName,
        pending: &[Needs],
    ) -> Result<bool, SqlError> {
        Ok(pending.iter().any(|needs| needs.names(name)) || self.subscriptions().follows(name)?)
    }
}

/// The part of the news that is new. Streams tell all there is in its order, so whatever stands
/// before the last that was heard was heard as well.
fn unheard<'a>(news: &'a [News], known: Option<&Entry>) -> &'a [News] {
    let is_known = |news: &News| {
        known.is_some_and(|entry| {
            let is_over = match news.what {
                Happened::Made(_) => true,
                Happened::Gone => entry.gone.is_some(),
            };
            entry.life == news.life && is_over
        })
    };
    let heard = news.iter().rposition(is_known).map_or(0, |last| last + 1);
    news.get(heard..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expiry, Facts, Generation, MediaType};

    fn entry(life: u8, gone: bool) -> Entry {
        Entry {
            name: StreamName::parse("a").unwrap(),
            life: Generation::from_bytes([life; 16]),
            tail: Offset::ZERO,
            followed: false,
            gone: gone.then_some(Timestamp::from_millis(1)),
        }
    }

    fn news(story: &str) -> Vec<News> {
        let facts = Facts {
            media_type: MediaType::new("text/plain"),
            expiry: Expiry::Never,
        };
        let one = |word: &str| News {
            life: Generation::from_bytes([word.as_bytes()[0]; 16]),
            at: Timestamp::from_millis(1),
            what: if word.ends_with('+') {
                Happened::Made(facts.clone())
            } else {
                Happened::Gone
            },
        };
        story.split_whitespace().map(one).collect()
    }

    #[test]
    fn only_what_follows_what_is_known_is_new() {
        for (story, known, new) in [
            ("a+", None, 1),
            ("a+ a- b+", None, 3),
            ("a+", Some((b'a', false)), 0),
            ("a+", Some((b'a', true)), 0),
            ("a-", Some((b'a', false)), 1),
            ("a-", Some((b'a', true)), 0),
            ("a+ a- b+", Some((b'a', false)), 2),
            ("a+ a- b+", Some((b'a', true)), 1),
            ("a+ a- b+", Some((b'b', false)), 0),
            ("a- b+ b-", Some((b'b', false)), 1),
            ("b+", Some((b'a', true)), 1),
            ("b+", Some((b'a', false)), 1),
            ("", Some((b'a', false)), 0),
        ] {
            let entry = known.map(|(life, gone)| entry(life, gone));
            let news = news(story);
            assert_eq!(
                unheard(&news, entry.as_ref()).len(),
                new,
                "{story} {known:?}"
            );
        }
    }
}
