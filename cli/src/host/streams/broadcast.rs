//! Broadcast of stream changes: notifies waiting readers and shares what one of them reads.
//!
//! A topic exists while a reader waits for its stream, and counts the changes. A reader marks the
//! count, reads, and waits for a higher count. So it misses no change. All readers at one offset
//! share the page that one of them reads at a count. So a thousand readers cost one read, and one
//! chunk of bytes. Readers pull: each takes the next chunk once its client has taken the last. So a
//! slow client delays no other reader, and holds at most one chunk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pmx_streams::http::LiveCursor;
use pmx_streams::http::sse::{self, SseChunk};
use pmx_streams::{Page, Read, StreamName};
use pmx_sync::live::EventBatch;
use tokio::sync::watch;

/// The topics of all streams that readers wait for.
#[derive(Default)]
pub(crate) struct Topics(Mutex<HashMap<StreamName, Arc<Topic>>>);

/// A stream that readers wait for.
struct Topic {
    changes: watch::Sender<u64>,
    /// The last page that a waiting reader read.
    last: tokio::sync::Mutex<Option<Arc<Shared>>>,
}

/// A page that many readers share.
pub(crate) struct Shared {
    read: Read,
    at: u64,
    pub(crate) page: Page,
    event: OnceLock<(LiveCursor, SseChunk)>,
    /// The page as a batch for WebSockets.
    pub(crate) batch: Option<EventBatch>,
}

impl Shared {
    /// Wraps a page that a reader read.
    pub(crate) fn new(read: Read, page: Page) -> Self {
        Self {
            read,
            at: 0,
            page,
            event: OnceLock::new(),
            batch: None,
        }
    }

    /// The page as a chunk of events, encoded for the first reader.
    pub(crate) fn event(&self, cursor: LiveCursor) -> &(LiveCursor, SseChunk) {
        self.event
            .get_or_init(|| (cursor, sse::event(&self.page, cursor)))
    }
}

impl Topics {
    /// Notifies the readers of a stream that it changed.
    pub(crate) fn notify(&self, name: &StreamName) {
        if let Some(topic) = self.open().get(name) {
            topic.changes.send_modify(|count| *count += 1);
        }
    }

    /// Begins to wait for a stream.
    pub(crate) fn subscribe(self: &Arc<Self>, name: &StreamName) -> TopicReader {
        let topic = Arc::clone(self.open().entry(name.clone()).or_insert_with(|| {
            Arc::new(Topic {
                changes: watch::Sender::new(0),
                last: tokio::sync::Mutex::default(),
            })
        }));
        TopicReader {
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

/// The wait of one reader.
pub(crate) struct TopicReader {
    changes: watch::Receiver<u64>,
    topic: Arc<Topic>,
    name: StreamName,
    topics: Arc<Topics>,
}

impl TopicReader {
    /// Marks the current count: the reader waits for later changes only.
    pub(crate) fn mark(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Waits for a change after the marked count.
    pub(crate) async fn changed(&mut self) {
        // The topic has the sender, and this holds the topic.
        let _ = self.changes.changed().await;
    }

    /// Reads a page for all readers at one offset: readers that call this during `reading` wait for
    /// it and share its page.
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
        // The page may lack a change during the read, so it counts as read before that change.
        let shared = Arc::new(Shared {
            at,
            ..reading.await?
        });
        *last = Some(Arc::clone(&shared));
        Ok(shared)
    }
}

impl Drop for TopicReader {
    fn drop(&mut self) {
        let mut open = self.topics.open();
        // One reference is the table's, the other is this reader's.
        if Arc::strong_count(&self.topic) == 2 {
            open.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn changed_reports_each_change_once() {
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
        let mut again = Box::pin(two.changed());
        let polled = again.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "a marked change is not reported");
        drop(again);
        drop(one);
        assert_eq!(topics.open().len(), 1);
        drop(two);
        assert_eq!(topics.open().len(), 0);
    }
}
