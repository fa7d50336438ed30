//! R2 object store: strongly consistent; this module writes each object once and reads ranges.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::id::SpaceId;
use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_streams::{Cold, Generation, SegmentKey};
use worker::js_sys::{Promise, Uint8Array};
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Bucket, Delay, Object, ResponseBody};

use crate::edge_cache::EdgeCache;
use crate::js_error::{backend, is_passing};
use crate::op_counts::{self, OpKind};
use crate::retry::repeated;

/// The bucket that holds the objects of all spaces.
pub(crate) struct R2 {
    bucket: Bucket,
    edge_cache: EdgeCache,
}

impl R2 {
    pub(crate) const fn new(bucket: Bucket, edge_cache: EdgeCache) -> Self {
        Self { bucket, edge_cache }
    }

    /// A range of an object as a stream that the runtime sends without waking this module. `None`
    /// as with [`Blobs::read`].
    pub(crate) async fn stream(
        &self,
        key: ObjectKey,
        range: &Range<u64>,
    ) -> Result<Option<ResponseBody>, BackendError> {
        let name = key.to_string();
        let found = repeated(is_again, async || self.find(&name, range).await).await;
        let Some(object) = found.map_err(backend(format!("reading {key}")))? else {
            return Ok(None);
        };
        let body = object.body().map(worker::ObjectBody::response_body);
        body.transpose().map_err(backend(format!("reading {key}")))
    }

    async fn find(&self, key: &str, range: &Range<u64>) -> worker::Result<Option<Object>> {
        // Larger numbers are not exact in JavaScript, and no object is that long.
        if range.end > EXACT_INTEGER_MAX {
            return Ok(None);
        }
        let part = worker::Range::OffsetWithLength {
            offset: range.start,
            length: range.end.saturating_sub(range.start),
        };
        op_counts::note(OpKind::R2Read);
        match self.bucket.get(key).range(part).execute().await {
            Ok(found) => Ok(found),
            Err(thrown) if is_outside(&thrown.to_string()) => Ok(None),
            Err(thrown) => Err(thrown),
        }
    }

    async fn has(&self, key: &str) -> Result<bool, BackendError> {
        let look = async || {
            op_counts::note(OpKind::R2Head);
            self.bucket.head(key).await
        };
        let found = repeated(is_again, look).await;
        let found = found.map_err(backend(format!("looking for {key}")))?;
        Ok(found.is_some())
    }

    async fn part(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        if range.is_empty() {
            // R2 refuses an empty range.
            return Ok(self.has(key).await?.then(Bytes::new));
        }
        let read = repeated(is_again, async || self.part_once(key, &range).await).await;
        let bytes = read.map_err(backend(format!("reading {key}")))?;
        // R2 truncates a range that passes the end.
        let is_whole = |bytes: &Vec<u8>| bytes.len() as u64 == range.end - range.start;
        Ok(bytes.filter(is_whole).map(Bytes::from))
    }

    async fn part_once(&self, key: &str, range: &Range<u64>) -> worker::Result<Option<Vec<u8>>> {
        let object = self.find(key, range).await?;
        match object.as_ref().and_then(Object::body) {
            Some(body) => body.bytes().await.map(Some),
            None => Ok(None),
        }
    }

    /// Writes an object. Its key is new, so a repeated write is safe.
    async fn put(&self, key: &str, body: Bytes) -> Result<(), BackendError> {
        // All attempts send one copy; the original in this module's memory is dropped.
        let array = Uint8Array::from(&body[..]);
        drop(body);
        let bucket: &Store = self.bucket.as_ref().unchecked_ref();
        let put = repeated(is_again, async || {
            op_counts::note(OpKind::R2Write);
            let promise = bucket.put(key, &array)?;
            JsFuture::from(promise).await.map_err(worker::Error::from)
        });
        let put = put.await;
        put.map(drop).map_err(backend(format!("writing {key}")))
    }

    async fn remove<K: ToString>(&self, keys: &[K]) -> Result<(), BackendError> {
        for some in keys.chunks(DELETED_AT_ONCE_MAX) {
            let names: Vec<String> = some.iter().map(ToString::to_string).collect();
            op_counts::note(OpKind::R2Delete);
            let deleted = self.bucket.delete_multiple(names).await;
            deleted.map_err(backend(format!("deleting {} objects", some.len())))?;
        }
        Ok(())
    }
}

impl Blobs for R2 {
    async fn read(&self, key: ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        self.part(&key.to_string(), range).await
    }

    async fn read_often(
        &self,
        key: ObjectKey,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        if let Some(kept) = self.edge_cache.find(key, &range).await {
            return Ok(Some(kept));
        }
        let read = Blobs::read(self, key, range.clone()).await?;
        if let Some(bytes) = &read {
            self.edge_cache.keep(key, &range, bytes);
        }
        Ok(read)
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        self.put(&key.to_string(), body).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BackendError> {
        self.remove(keys).await
    }

    async fn delete_some(&self, space: SpaceId, most: usize) -> Result<usize, BackendError> {
        let prefix = ObjectKey::prefix(space);
        let most = most.min(DELETED_AT_ONCE_MAX);
        op_counts::note(OpKind::R2List);
        let list = self.bucket.list().prefix(&prefix).limit(most as u32);
        let listed = list.execute().await;
        let listed = listed.map_err(backend(format!("listing {prefix}")))?;
        let names: Vec<String> = listed.objects().iter().map(Object::key).collect();
        self.remove(&names).await?;
        Ok(names.len())
    }
}

impl Cold for R2 {
    async fn read(
        &self,
        key: &SegmentKey,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        self.part(&key.to_string(), range).await
    }

    async fn write(&self, key: &SegmentKey, body: Bytes) -> Result<(), BackendError> {
        self.put(&key.to_string(), body).await?;
        // If R2 runs in the same process, it reads nothing from the network during this work. A
        // series of segments would block it for that long.
        Delay::from(Duration::ZERO).await;
        Ok(())
    }

    async fn delete(&self, keys: &[SegmentKey]) -> Result<(), BackendError> {
        self.remove(keys).await
    }

    async fn list(&self, generation: Generation) -> Result<Vec<SegmentKey>, BackendError> {
        let prefix = SegmentKey::prefix(generation);
        op_counts::note(OpKind::R2List);
        let listed = self.bucket.list().prefix(&prefix).execute().await;
        let listed = listed.map_err(backend(format!("listing {prefix}")))?;
        let names = listed.objects().into_iter().map(|object| object.key());
        Ok(names.filter_map(|name| SegmentKey::parse(&name)).collect())
    }
}

// `Bucket::put` of workers-rs copies the body for each attempt.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
extern "C" {
    /// A bucket.
    type Store;

    #[wasm_bindgen(method, catch)]
    fn put(this: &Store, key: &str, body: &Uint8Array) -> Result<Promise, JsValue>;
}

/// Whether a request to R2 is worth another attempt.
fn is_again(thrown: &worker::Error) -> bool {
    is_passing(&thrown.to_string())
}

/// Keys that R2 deletes in one call.
const DELETED_AT_ONCE_MAX: usize = 1_000;

/// Whether R2 says that an object ends before the range (its error 10039).
fn is_outside(words: &str) -> bool {
    words.contains("10039")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_outside_is_distinguished_from_other_errors() {
        assert!(is_outside(
            "get: The requested range is not satisfiable (10039)"
        ));
        assert!(!is_outside("get: We encountered an internal error (10001)"));
    }
}
