//! Object backend: a folder of this machine, or an object store.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::id::SpaceId;
use pmx_core::problem::Problem;

use super::HostConfig;
use super::access_log::Log;
use super::blobs::ObjectFolder;
use super::blocking::block_on;
use super::error::HostError;
use super::store::ObjectStore;

/// Where a host keeps its objects.
pub enum Objects {
    /// In its data folder.
    Folder(ObjectFolder),
    /// In an object store.
    Store(Arc<ObjectStore>),
}

impl Objects {
    /// Opens the place that the settings name.
    pub(crate) fn open(config: &HostConfig) -> Result<Self, HostError> {
        Ok(match &config.objects {
            None => Self::Folder(ObjectFolder::open(&config.data.join("objects"))?),
            Some(store) => Self::Store(ObjectStore::open(store, &config.data, config.log)?),
        })
    }

    /// Whether a read takes so little time that an asynchronous thread may wait for it.
    pub(crate) const fn is_near(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    /// Fails if this host changes nothing now, because another server may own its objects.
    pub(crate) async fn check_changes(&self) -> Result<(), Problem> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Store(store) => store.check_changes().await,
        }
    }

    /// See [`Blobs::read`]; blocks.
    pub(crate) fn read_now(
        &self,
        key: ObjectKey,
        range: &Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        match self {
            Self::Folder(folder) => folder.read_now(key, range),
            Self::Store(store) => block_on(store.read(key, range.clone())),
        }
    }

    /// Watches who owns the objects, for as long as the host runs.
    pub(crate) async fn watch_owner(self: Arc<Self>, log: Log) {
        if let Self::Store(store) = &*self {
            store.watch_owner(log).await;
        }
    }
}

impl Blobs for Objects {
    async fn read(&self, key: ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        match self {
            Self::Folder(folder) => folder.read(key, range).await,
            Self::Store(store) => store.read(key, range).await,
        }
    }

    async fn read_again(
        &self,
        key: ObjectKey,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        match self {
            Self::Folder(folder) => folder.read_again(key, range).await,
            Self::Store(store) => store.read_again(key, range).await,
        }
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        match self {
            Self::Folder(folder) => folder.write(key, body).await,
            Self::Store(store) => store.write(key, body).await,
        }
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BackendError> {
        match self {
            Self::Folder(folder) => folder.delete(keys).await,
            Self::Store(store) => store.delete(keys).await,
        }
    }

    async fn delete_some(&self, space: SpaceId, most: usize) -> Result<usize, BackendError> {
        match self {
            Self::Folder(folder) => folder.delete_some(space, most).await,
            Self::Store(store) => store.delete_some(space, most).await,
        }
    }
}
