//! Ingestion of updates that streams report to the hub.

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::Hub;
use super::directory::DirectoryEntry;
use crate::registry;
use crate::subscription::RequiredTails;
use crate::{HubAck, HubUpdate, LifecycleChange, LifecycleEvent, Offset, StreamName};

impl<S: Sql> Hub<'_, S> {
    /// Ingests an update of a stream, and returns whether the stream has to report further appends.
    /// An update that the hub has already applied changes nothing. `pending` has the required tails
    /// of requests that are not answered yet.
    pub fn ingest(
        &self,
        name: &StreamName,
        update: &HubUpdate,
        pending: &[RequiredTails],
        now: Timestamp,
    ) -> Result<HubAck, SqlError> {
        let mut entry = self.entry(name)?;
        let new_events = new_events(&update.events, entry.as_ref());
        let has_events = !new_events.is_empty();
        for event in new_events {
            entry = Some(self.apply(name, event, entry.as_ref())?);
        }
        let followed = self.is_followed(name, pending)?;
        if let Some(mut entry) = entry {
            let reported = update.tail.filter(|tail| entry.accepts(tail));
            let tail = reported.map_or(entry.tail, |tail| tail.offset.max(entry.tail));
            if reported.is_some() && (has_events || tail > entry.tail) {
                self.subscriptions().on_append(name, tail, now)?;
            }
            if has_events || tail > entry.tail || followed != entry.followed {
                entry.tail = tail;
                entry.followed = followed;
                self.save(&entry)?;
            }
        }
        if has_events {
            self.forget_gone(now)?;
        }
        let round = self.round()?;
        Ok(HubAck { round, followed })
    }

    fn apply(
        &self,
        name: &StreamName,
        event: &LifecycleEvent,
        before: Option<&DirectoryEntry>,
    ) -> Result<DirectoryEntry, SqlError> {
        let is_alive = before.is_some_and(|entry| entry.gone.is_none());
        let entry = match &event.change {
            LifecycleChange::Created(_) => {
                if is_alive {
                    // The stream lost the event of the earlier generation's end.
                    self.register(name, &LifecycleChange::Ended, event.at)?;
                }
                self.register(name, &event.change, event.at)?;
                DirectoryEntry {
                    name: name.clone(),
                    generation: event.generation,
                    tail: Offset::ZERO,
                    followed: true,
                    gone: None,
                }
            }
            LifecycleChange::Ended => {
                if is_alive {
                    self.register(name, &event.change, event.at)?;
                }
                DirectoryEntry {
                    name: name.clone(),
                    generation: event.generation,
                    tail: Offset::ZERO,
                    followed: false,
                    gone: Some(event.at),
                }
            }
        };
        self.subscriptions().on_removed(name)?;
        // The caller saves the entry only if it changes again.
        self.save(&entry)?;
        Ok(entry)
    }

    fn register(
        &self,
        name: &StreamName,
        change: &LifecycleChange,
        at: Timestamp,
    ) -> Result<(), SqlError> {
        self.queue_index_change(name, change, at)?;
        match registry::message(name, change, at) {
            Some(message) => self.registry_outbox().put(&message),
            None => Ok(()),
        }
    }

    /// Whether a subscription, or one that is about to be created, follows a stream.
    pub(super) fn is_followed(
        &self,
        name: &StreamName,
        pending: &[RequiredTails],
    ) -> Result<bool, SqlError> {
        Ok(pending.iter().any(|needs| needs.names(name)) || self.subscriptions().follows(name)?)
    }
}

/// The events that the hub has not applied yet. Streams report all their events in order, so the
/// hub has applied every event before the last one that it knows.
fn new_events<'a>(
    events: &'a [LifecycleEvent],
    known: Option<&DirectoryEntry>,
) -> &'a [LifecycleEvent] {
    let is_known = |event: &LifecycleEvent| {
        known.is_some_and(|entry| {
            let is_applied = match event.change {
                LifecycleChange::Created(_) => true,
                LifecycleChange::Ended => entry.gone.is_some(),
            };
            entry.generation == event.generation && is_applied
        })
    };
    let applied = events.iter().rposition(is_known).map_or(0, |last| last + 1);
    events.get(applied..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expiry, Generation, MediaType, StreamMetadata};

    fn entry(generation: u8, gone: bool) -> DirectoryEntry {
        DirectoryEntry {
            name: StreamName::parse("a").unwrap(),
            generation: Generation::from_bytes([generation; 16]),
            tail: Offset::ZERO,
            followed: false,
            gone: gone.then_some(Timestamp::from_millis(1)),
        }
    }

    fn events(story: &str) -> Vec<LifecycleEvent> {
        let metadata = StreamMetadata {
            media_type: MediaType::new("text/plain"),
            expiry: Expiry::Never,
        };
        let one = |word: &str| LifecycleEvent {
            generation: Generation::from_bytes([word.as_bytes()[0]; 16]),
            at: Timestamp::from_millis(1),
            change: if word.ends_with('+') {
                LifecycleChange::Created(metadata.clone())
            } else {
                LifecycleChange::Ended
            },
        };
        story.split_whitespace().map(one).collect()
    }

    #[test]
    fn new_events_are_those_after_the_last_known_one() {
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
            let entry = known.map(|(generation, gone)| entry(generation, gone));
            let events = events(story);
            assert_eq!(
                new_events(&events, entry.as_ref()).len(),
                new,
                "{story} {known:?}"
            );
        }
    }
}
