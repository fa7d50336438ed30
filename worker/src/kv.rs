//! Pointer store in KV: read near the reader, eventually consistent.
//!
//! KV may return an older pointer than before, from another cache. So the isolate keeps each
//! pointer that it has seen, and uses the newer of the two. Only a space writes its pointer
//! (`space_do`), one write after the other. So the pointer that KV stores never goes back either.

use std::collections::BTreeSet;
use std::time::Duration;

use pmx_core::backend::BackendError;
use pmx_core::channel::Channel;
use pmx_core::name::SpaceName;
use pmx_core::time::Timestamp;
use pmx_sync::bounded_cache::BoundedCache;
use pmx_sync::pointer::Pointer;
use pmx_sync::serve::{Lag, NamesPage, Pointers};
use worker::{Delay, KvStore};

use crate::http::now;
use crate::js_error::backend;
use crate::op_counts::{self, OpKind};
use crate::recent_pointers::ReadTimes;

/// The namespace that holds the pointers of all channels, and those that this isolate has seen.
pub(crate) struct Kv {
    store: KvStore,
    seen: BoundedCache<Channel, Pointer>,
    /// Channels that KV lacked, and when. An invented name costs one lookup in [`ABSENT_TIME`].
    absent: BoundedCache<Channel, Timestamp>,
    recent: ReadTimes,
    /// For tests: this lag alone delays the pointers of KV.
    lag: Option<Lag>,
}

impl Kv {
    /// An isolate uses a pointer for a `moment` after the read.
    pub(crate) fn new(store: KvStore, lag: Option<Lag>, moment: Duration) -> Self {
        Self {
            store,
            seen: BoundedCache::new(SEEN_BYTES),
            absent: BoundedCache::new(ABSENT_BYTES),
            recent: ReadTimes::new(moment),
            lag,
        }
    }

    /// Records a pointer. Returns it, or a newer one that the isolate has seen before.
    pub(crate) fn remember(&self, channel: &Channel, pointer: Pointer) -> Pointer {
        let newest = self.newest(channel, pointer);
        let bytes = size_of::<Pointer>() + newest.earlier.capacity() * EARLIER_BYTES;
        self.seen.insert(channel.clone(), newest.clone(), bytes);
        newest
    }

    /// Lists names of spaces by the keys of their pointers.
    pub(crate) async fn names(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<NamesPage, BackendError> {
        let doing = || "listing pointers".to_owned();
        let mut list = self
            .store
            .list()
            .prefix(PREFIX.to_owned())
            .limit(most as u64);
        if let Some(after) = after {
            list = list.cursor(after.to_owned());
        }
        op_counts::note(OpKind::KvList);
        let page = list.execute().await.map_err(backend(doing()))?;
        let labels = page
            .keys
            .iter()
            .filter_map(|key| key.name.strip_prefix(PREFIX));
        let spaces = labels.filter_map(|label| Some(Channel::of_label(label)?.space));
        let names: BTreeSet<SpaceName> = spaces.collect();
        Ok(NamesPage {
            names: names.into_iter().collect(),
            next: page.cursor.filter(|_| !page.list_complete),
        })
    }

    fn newest(&self, channel: &Channel, pointer: Pointer) -> Pointer {
        match self.seen.find(channel) {
            Some(seen) => newer(seen, pointer),
            None => pointer,
        }
    }
}

impl Pointers for Kv {
    async fn read(&self, channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        let doing = || format!("reading the pointer of {channel}");
        if self.recent.counts(channel, now())
            && let Some(seen) = self.seen.find(channel)
        {
            return Ok(Some(seen));
        }
        let absent = self.absent.find(channel);
        if absent.is_some_and(|at| now() < at.after(ABSENT_TIME)) {
            return Ok(self.seen.find(channel));
        }
        op_counts::note(OpKind::KvRead);
        let read = self.store.get(&key(channel)).cache_ttl(CACHE_SECONDS);
        let Some(text) = read.text().await.map_err(backend(doing()))? else {
            let bytes = channel.space.as_str().len() + 160;
            self.absent.insert(channel.clone(), now(), bytes);
            return Ok(self.seen.find(channel));
        };
        let pointer = serde_json::from_str(&text);
        let pointer = pointer.map_err(|error| BackendError::new(doing(), error))?;
        if let Some(lag) = &self.lag {
            return Ok(Some(lag.lagged(channel, &pointer, now())));
        }
        self.recent.note(channel, now());
        Ok(Some(self.remember(channel, pointer)))
    }

    /// Whether KV may return an old pointer, or none. A location caches its reads, also of absent
    /// keys. This Worker asks for `CACHE_SECONDS`; where the platform is late, it takes a minute or
    /// more.
    fn may_lag(&self) -> bool {
        true
    }

    async fn pause(&self) {
        Delay::from(PAUSE).await;
    }

    fn note(&self, channel: &Channel, pointer: &Pointer) {
        self.remember(channel, pointer.clone());
    }

    async fn write(&self, channel: &Channel, pointer: &Pointer) -> Result<(), BackendError> {
        let doing = || format!("writing the pointer of {channel}");
        let newest = self.newest(channel, pointer.clone());
        let text = serde_json::to_string(&newest);
        let text = text.map_err(|error| BackendError::new(doing(), error))?;
        op_counts::note(OpKind::KvWrite);
        let put = self
            .store
            .put(&key(channel), text)
            .map_err(backend(doing()))?;
        put.execute().await.map_err(backend(doing()))?;
        // Not before the write: a Durable Object's requests wait until its ledger is on disk, but
        // its memory does not.
        self.remember(channel, newest);
        Ok(())
    }
}

/// Bytes of pointers in memory: some hundred spaces.
const SEEN_BYTES: usize = 512 * 1024;

/// Bytes of names that KV lacked: some hundred names.
const ABSENT_BYTES: usize = 128 * 1024;

/// KV itself shows a new key up to `CACHE_SECONDS` late.
const ABSENT_TIME: Duration = Duration::from_secs(1);

/// Bytes of one earlier root and its extent.
const EARLIER_BYTES: usize = 72;

/// Pause of a request before it checks again whether another request has the result.
const PAUSE: Duration = Duration::from_millis(5);

/// Seconds for which a location may cache a value: the least that KV accepts.
const CACHE_SECONDS: u64 = 30;

/// The beginning of all keys of pointers.
const PREFIX: &str = "pointer/";

fn key(channel: &Channel) -> String {
    format!("{PREFIX}{channel}")
}

/// The newer of a seen pointer and a read one. If two spaces had the name one after the other, and
/// the second one does not know of the first, the read pointer counts.
fn newer(seen: Pointer, read: Pointer) -> Pointer {
    let is_same = seen.space == read.space;
    if is_same && seen.place() > read.place() || !is_same && read.is_before(&seen) {
        seen
    } else {
        read
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::id::{NodeId, ObjectId, SpaceId};
    use pmx_core::location::Extent;

    use super::*;

    fn pointer(space: u8, deploy: u64) -> Pointer {
        let index = Extent {
            object: ObjectId::from_bytes([0; 16]),
            offset: 0,
            len: 1,
        };
        Pointer {
            space: SpaceId::from_bytes([space; 16]),
            deploy,
            root: NodeId::of(b"root"),
            index,
            earlier: Vec::new(),
            live: false,
            rules: false,
            events: false,
            gone: false,
            base: 0,
            expires: None,
            revision: 0,
        }
    }

    /// A pointer of the space that took the name after deploy `base`.
    fn later(deploy: u64, base: u64) -> Pointer {
        Pointer {
            base,
            ..pointer(2, deploy)
        }
    }

    fn gone(deploy: u64) -> Pointer {
        Pointer {
            gone: true,
            ..pointer(1, deploy)
        }
    }

    /// A pointer whose index node moved.
    fn again(deploy: u64) -> Pointer {
        Pointer {
            revision: 1,
            ..pointer(1, deploy)
        }
    }

    #[test]
    fn kv_pointer_never_goes_back() {
        for (seen, read, expected) in [
            (pointer(1, 2), pointer(1, 3), pointer(1, 3)),
            (pointer(1, 3), pointer(1, 2), pointer(1, 3)),
            (pointer(1, 3), pointer(1, 3), pointer(1, 3)),
            (pointer(1, 9), pointer(2, 1), pointer(2, 1)),
            (gone(3), pointer(1, 3), gone(3)),
            (gone(3), pointer(1, 4), pointer(1, 4)),
            (later(4, 3), gone(3), later(4, 3)),
            (later(4, 3), pointer(1, 2), later(4, 3)),
            (gone(3), later(4, 3), later(4, 3)),
            (again(3), pointer(1, 3), again(3)),
            (pointer(1, 3), again(3), again(3)),
            (again(3), pointer(1, 4), pointer(1, 4)),
        ] {
            assert_eq!(newer(seen, read), expected);
        }
    }
}
