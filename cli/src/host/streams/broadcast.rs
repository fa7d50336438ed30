//! Broadcast of stream changes: notifies waiting readers and shares what one of them reads.
//!
//! A topic is there as long as a client waits for its stream. It counts the changes; a reader notes
//! the count, reads, and waits for a higher one, so that nothing comes between unseen. What was
//! read at a count for one reader is there for all who stand at the same place: a thousand readers
//! cost one read, and one chunk of bytes. No one is sent anything: each reader takes when its
//! client has taken, so one that does not holds up no one and keeps at most one chunk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pmx_streams::http::Cursor;
use pmx_streams::http::sse::{self, Event};
use pmx_streams::{Page, Read, StreamName};
use pmx_sync::live::EventBatch;
use tokio::sync::watch;

/// All streams that a client waits for.
#[derive(Default)]
pub(crate) struct Topics(Mutex<HashMap<StreamName, Arc<Topic>>>);

/// A stream that a client waits for.
struct Topic {
    changes: watch::Sender<u64>,
    /// The last page that was read for those who wait.
    last: tokio::sync::Mutex<Option<Arc<Shared>>>,
}

/// A page that many readers get.
pub(crate) struct Shared {
    read: Read,
    at: u64,
    pub(crate) page: Page,
    event: OnceLock<(Cursor, Event)>,
    /// What the page is for sockets.
    pub(crate) batch: Option<EventBatch>,
}

impl Shared {
    /// A page for one reader.
    pub(crate) fn alone(read: Read, page: Page) -> Self {
        Self {
            read,
            at: 0,
            page,
            event: OnceLock::new(),
            batch: None,
        }
    }

    /// The page as a chunk of events, made for the first who asks.
    pub(crate) fn event(&self, cursor: Cursor) -> &(Cursor, Event) {
        self.event
            .get_or_init(|| (cursor, sse::event(&self.page, cursor)))
    }
}

impl Topics {
    /// Lets readers know that a stream changed.
    pub(crate) fn notify(&self, name: &StreamName) {
        if let Some(topic) = self.open().get(name) {
            topic.changes.send_modify(|count| *count += 1);
        }
    }

    /// Begins to wait for a stream.
    pub(crate) fn subscribe(self: &Arc<Self>, name: &StreamName) -> Subscription {
        let topic = Arc::clone(self.open().entry(name.clone()).or_insert_with(|| {
            Arc::new(Topic {
                changes: watch::Sender::new(0),
                last: tokio::sync::Mutex::default(),
            })
        }));
        Subscription {
            changes: topic.changes.subscribe(),
            topic,
            name: name.clone(),
            topics: Arc::clone(self),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<StreamName, Arc<Topic>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits.
pub(crate) struct Subscription {
    changes: watch::Receiver<u64>,
    topic: Arc<Topic>,
    name: StreamName,
    topics: Arc<Topics>,
}

impl Subscription {
    /// Notes the count of changes: only later ones are waited for.
    pub(crate) fn mark(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Waits for a change that was not noted.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as this does.
        let _ = self.changes.changed().await;
    }

    /// Reads for all who are at the same place: those who come while `reading` is under way wait
    /// for it and share what it gives.
    pub(crate) async fn shared<E>(
        &self,
        read: Read,
        reading: impl Future<Output = Result<Shared, E>>,
    ) -> Result<Arc<Shared>, E> {
        let mut last = self.topic.last.lock().await;
        let at = *self.topic.changes.borrow();
        if let Some(last) = &*last
            && last.at == at
            && last.read == read
        {
            return Ok(Arc::clone(last));
        }
        // What changes while it is read may be in it or not: it counts as read before.
        let shared = Arc::new(Shared {
            at,
            ..reading.await?
        });
        *last = Some(Arc::clone(&shared));
        Ok(shared)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut open = self.topics.open();
        // The table's and this one's own.
        if Arc::strong_count(&self.topic) == 2 {
            open.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_neither_missed_nor_seen_twice() {
        let topics = Arc::new(Topics::default());
        let name = StreamName::parse("a").unwrap();
        topics.notify(&name);
        let mut one = topics.subscribe(&name);
        let mut two = topics.subscribe(&name);
        topics.notify(&name);
        one.changed().await;
        topics.notify(&name);
        two.mark();
        one.changed().await;
        let late = tokio::time::timeout(std::time::Duration::from_millis(20), two.changed());
        assert!(late.await.is_err(), "what was noted is not waited for");
        drop(one);
        assert_eq!(topics.open().len(), 1);
        drop(two);
        assert_eq!(topics.open().len(), 0);
    }
}
