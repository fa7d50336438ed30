//! Object store: the objects of all spaces in a bucket of S3, or of a store that speaks its
//! protocol.
//!
//! Keys are those of the Worker's bucket, below a prefix, so a space can move between the hosts.
//! A store answers a write only once the object is durable. All requests run on the store's own
//! thread, so that a caller may wait for them on any thread.

mod connection;
mod fault;
mod owner;
mod settings;

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload, RetryConfig, UpdateVersion,
};
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::id::SpaceId;
use pmx_core::problem::Problem;

use super::access_log::Log;
use super::blocking::block_on;
use super::error::HostError;
use super::secret;
use crate::error::Failure;
use crate::http_client::{self, HttpClient, Versions};
use crate::trust::Trust;

use connection::{StoreConnector, watched};
use fault::{StoreError, StoreErrorKind};
use owner::{CHECK_TIME, OWNER_KEY, Owner, OwnerRecord};

pub use settings::{InvalidStoreUrl, StoreConfig, StoreUrl, StoreVariables};

/// How long a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How long a read may take, with all its requests: a reader of a page waits for it.
const READ_TIME: Duration = Duration::from_secs(20);

/// How long any other operation may take: an object has up to 12 MiB.
const WRITE_TIME: Duration = Duration::from_mins(1);

/// Requests of an operation beside the first.
const RETRIES_MAX: usize = 3;

/// How long after its start an operation may repeat a request.
const RETRY_TIME: Duration = Duration::from_secs(10);

/// Why a store can't have an owner.
const IGNORES_CONDITIONS: &str = "the store ignores the condition of a write, so two servers could \
    write there: give the prefix to one server, and set AWS_CONDITIONAL_PUT=disabled";

/// Objects in a bucket: `<prefix>/spaces/<space>/<object>`.
pub struct ObjectStore {
    bucket: Arc<AmazonS3>,
    place: StoreUrl,
    http: HttpClient,
    owner: Owner,
}

impl ObjectStore {
    /// Reaches a store, and settles who owns its prefix. A store that gives no answer now is used
    /// later: the host starts without it.
    pub fn open(config: &StoreConfig, data: &FilePath, log: Log) -> Result<Arc<Self>, HostError> {
        let place = config.url.clone();
        let failed = |code, why: String| HostError::Objects {
            place: place.to_string(),
            code,
            why,
        };
        if let Some(fault) = config.variables.fault() {
            return Err(failed(Code::Usage, fault));
        }
        let http = connections(config.variables.is_near())
            .map_err(|error| failed(Code::Local, error.to_string()))?;
        let bucket = bucket(config, &http)
            // The text of such an error may repeat a setting.
            .ok_or_else(|| {
                failed(
                    Code::Usage,
                    "a variable AWS_… has no valid value".to_owned(),
                )
            })?;
        let store = Self {
            bucket: Arc::new(bucket),
            place: config.url.clone(),
            http,
            owner: Owner::new(secret::server_id(data)?, secret::random::<16>()?),
        };
        match block_on(store.settle(config.takes_over)) {
            Err(error) if error.code() == Code::Unavailable && !config.takes_over => {
                log.fault("reaching the objects, which are tried again later", &error);
            }
            Err(error) => return Err(failed(error.code(), error.to_string())),
            Ok(()) => store.report(log),
        }
        Ok(Arc::new(store))
    }

    /// Why this server changes nothing.
    pub(crate) fn refusal(&self) -> Option<String> {
        let OwnerRecord { server, epoch, .. } = self.owner.other()?;
        let place = &self.place;
        let which = if server == self.owner.me {
            "a later start of this server, or of a copy of its data folder,".to_owned()
        } else {
            format!("the server {server}")
        };
        Some(format!(
            "the objects in {place} belong to {which} since epoch {epoch}, so this one only reads: \
             publish there, or stop it and start this one with --take-over"
        ))
    }

    /// Fails if this server changes nothing now: another owns the objects, or the store never said
    /// which one does.
    pub(crate) async fn check_changes(&self) -> Result<(), Problem> {
        if self.owner.is_unknown() {
            let settled = self.settle(false).await;
            settled.map_err(|error| Problem::new(error.code(), error.to_string()))?;
        }
        let refusal = self.refusal();
        refusal.map_or(Ok(()), |why| Err(Problem::new(Code::Storage, why)))
    }

    /// Reads the owner record now and then, until the host stops.
    pub(crate) async fn watch_owner(&self, log: Log) {
        while self.owner.other().is_none() {
            tokio::time::sleep(CHECK_TIME).await;
            if let Err(error) = self.settle(false).await {
                log.fault("looking for the owner of the objects", &error);
            } else {
                self.report(log);
            }
        }
    }

    fn report(&self, log: Log) {
        if let Some(refusal) = self.refusal() {
            log.fault("writing objects", &refusal);
        }
    }

    /// Reads the owner record, or writes it: at the first look of a start, or to take it over.
    async fn settle(&self, takes_over: bool) -> Result<(), BackendError> {
        let key = self.place.key(OWNER_KEY);
        match self.record(&key).await? {
            Some((found, _)) if !self.owner.may_replace(&found, takes_over) => {
                self.owner.note(found);
            }
            found => self.claim(&key, found).await?,
        }
        Ok(())
    }

    /// Writes a record of this start, in place of the one that was found.
    async fn claim(
        &self,
        key: &str,
        found: Option<(OwnerRecord, UpdateVersion)>,
    ) -> Result<(), BackendError> {
        let doing = || format!("claiming {}", self.place);
        let (found, version) = found.unzip();
        let record = self.owner.next(found.as_ref());
        let mode = version.map_or(PutMode::Create, PutMode::Update);
        let record = match self.put(key, record.encode(), mode).await {
            Ok(()) => record,
            Err(fault) => match fault.meaning {
                // Another start was faster, or an earlier attempt of this one got no answer.
                StoreErrorKind::Exists | StoreErrorKind::Changed => {
                    let found = self.record(key).await?.map(|(found, _)| found);
                    found.ok_or_else(|| fault.of_operation(doing()))?
                }
                // Such a store can't have an owner.
                StoreErrorKind::Unconditional
                    if found
                        .as_ref()
                        .is_none_or(|found| found.server == self.owner.me) =>
                {
                    self.owner.note_own(found.unwrap_or(record));
                    return Ok(());
                }
                _ => return Err(fault.of_operation(doing())),
            },
        };
        if self.owner.wrote(&record) {
            self.check_conditions(key, &record).await?;
        }
        self.owner.note(record);
        Ok(())
    }

    /// Fails if the store ignores conditions: it takes a key that exists.
    async fn check_conditions(&self, key: &str, record: &OwnerRecord) -> Result<(), BackendError> {
        let doing = || format!("claiming {}", self.place);
        match self.put(key, record.encode(), PutMode::Create).await {
            Ok(()) => Err(BackendError::new(doing(), IGNORES_CONDITIONS)),
            Err(fault) => match fault.meaning {
                StoreErrorKind::Exists | StoreErrorKind::Changed => Ok(()),
                _ => Err(fault.of_operation(doing())),
            },
        }
    }

    async fn record(
        &self,
        key: &str,
    ) -> Result<Option<(OwnerRecord, UpdateVersion)>, BackendError> {
        let (bucket, path) = (Arc::clone(&self.bucket), Path::from(key));
        let read = self.run(READ_TIME, async move {
            let found = bucket.get(&path).await?;
            let version = UpdateVersion {
                e_tag: found.meta.e_tag.clone(),
                version: found.meta.version.clone(),
            };
            Ok((found.bytes().await?, version))
        });
        match read.await {
            Ok((bytes, version)) => {
                let record = serde_json::from_slice(&bytes);
                let record = record.map_err(|error| owner::unreadable(key, &error))?;
                Ok(Some((record, version)))
            }
            Err(fault) if fault.meaning == StoreErrorKind::Absent => Ok(None),
            Err(fault) => Err(fault.of_operation(format!("reading the owner record {key}"))),
        }
    }

    /// Fails unless this server owns the prefix. `again` reads the record in any case.
    async fn own(&self, again: bool) -> Result<(), BackendError> {
        if self.owner.other().is_none() && (again || self.owner.is_due()) {
            self.settle(false).await?;
        }
        let refusal = self
            .refusal()
            .map(|why| BackendError::new("writing objects", why));
        refusal.map_or(Ok(()), Err)
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let (bucket, path) = (Arc::clone(&self.bucket), Path::from(key));
        self.run(WRITE_TIME, async move {
            let options = PutOptions::from(mode);
            let written = bucket
                .put_opts(&path, PutPayload::from(body), options)
                .await;
            written.map(drop)
        })
        .await
    }

    /// Whether an object with these bytes exists; `None` if there is no object.
    async fn is_same(&self, key: &str, body: &Bytes) -> Result<Option<bool>, StoreError> {
        let (bucket, path, body) = (Arc::clone(&self.bucket), Path::from(key), body.clone());
        let compared = self.run(WRITE_TIME, async move {
            let found = bucket.get(&path).await?;
            Ok(found.meta.size == body.len() as u64 && found.bytes().await? == body)
        });
        match compared.await {
            Err(fault) if fault.meaning == StoreErrorKind::Absent => Ok(None),
            compared => compared.map(Some),
        }
    }

    async fn write_once(&self, key: &str, body: Bytes) -> Result<bool, StoreError> {
        let fault = match self.put(key, body.clone(), PutMode::Create).await {
            Ok(()) => return Ok(true),
            Err(fault) => fault,
        };
        match fault.meaning {
            // A repeated write, whose first attempt got no answer.
            StoreErrorKind::Exists => self.is_same(key, &body).await?.ok_or(fault),
            // Keys are never used twice, so an earlier look is as good as a condition.
            StoreErrorKind::Unconditional => match self.is_same(key, &body).await? {
                Some(is_same) => Ok(is_same),
                None => self.put(key, body, PutMode::Overwrite).await.map(|()| true),
            },
            _ => Err(fault),
        }
    }

    async fn delete_paths(&self, paths: Vec<Path>) -> Result<(), StoreError> {
        let bucket = Arc::clone(&self.bucket);
        self.run(WRITE_TIME, async move {
            let mut deleted = bucket.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
            while let Some(outcome) = deleted.next().await {
                match outcome {
                    Err(error) if !fault::is_absent(&error) => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
            Ok(())
        })
        .await
    }

    /// Runs an operation on the store's own thread, within limited time.
    async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        // The time limit belongs to the runtime of the thread, so it begins there.
        let limited = watched(async move { tokio::time::timeout(limit, work).await });
        match self.http.spawn(limited).await {
            Ok((Ok(Ok(done)), _)) => Ok(done),
            Ok((Ok(Err(error)), ending)) => Err(StoreError::of(&error, ending.as_ref())),
            Ok((Err(_), ending)) => Err(StoreError::late(ending.as_ref())),
            Err(_) => Err(StoreError::interrupted()),
        }
    }

    fn path(&self, key: ObjectKey) -> Path {
        Path::from(self.place.key(&key.to_string()))
    }
}

impl Blobs for ObjectStore {
    async fn read(&self, key: ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        if range.start > range.end {
            return Ok(None);
        }
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(key));
        let (asked, is_empty) = (asked(&range), range.is_empty());
        let read = self.run(READ_TIME, async move {
            let options = GetOptions {
                range: Some(GetRange::Bounded(asked.clone())),
                ..GetOptions::default()
            };
            let found = bucket.get_opts(&path, options).await?;
            if found.range != asked {
                return Ok(None);
            }
            let bytes = found.bytes().await?;
            let is_whole = bytes.len() as u64 == asked.end - asked.start;
            Ok(Some((bytes, is_whole)))
        });
        let read = match read.await {
            Ok(Some((_, false))) => Err(StoreError::short()),
            read => read.map(|found| found.map(|(bytes, _)| bytes)),
        };
        match read {
            Ok(bytes) if is_empty => Ok(bytes.map(|_| Bytes::new())),
            Ok(bytes) => Ok(bytes),
            Err(fault) => match fault.meaning {
                StoreErrorKind::Beyond if range.end == 0 => Ok(Some(Bytes::new())),
                StoreErrorKind::Absent | StoreErrorKind::Beyond => Ok(None),
                _ => Err(fault.of_operation(format!("reading the object {key}"))),
            },
        }
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        self.own(false).await?;
        let doing = || format!("writing the object {key}");
        let own = self.place.key(&key.to_string());
        let written = self.write_once(&own, body).await;
        if written.map_err(|fault| fault.of_operation(doing()))? {
            Ok(())
        } else {
            Err(BackendError::new(doing(), "it exists with other bytes"))
        }
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BackendError> {
        if keys.is_empty() {
            return Ok(());
        }
        self.own(true).await?;
        let paths = keys.iter().map(|key| self.path(*key)).collect();
        let deleted = self.delete_paths(paths).await;
        deleted.map_err(|fault| fault.of_operation(format!("deleting {} objects", keys.len())))
    }

    async fn delete_some(&self, space: SpaceId, most: usize) -> Result<usize, BackendError> {
        self.own(true).await?;
        let doing = || format!("deleting objects of {space}");
        let bucket = Arc::clone(&self.bucket);
        let prefix = Path::from(self.place.key(&ObjectKey::prefix(space)));
        let listed = self.run(WRITE_TIME, async move {
            let listed = bucket.list(Some(&prefix)).take(most);
            listed.map_ok(|found| found.location).try_collect().await
        });
        let paths: Vec<Path> = listed.await.map_err(|fault| fault.of_operation(doing()))?;
        let count = paths.len();
        let deleted = self.delete_paths(paths).await;
        deleted.map_err(|fault| fault.of_operation(doing()))?;
        Ok(count)
    }
}

/// The range to request: one byte that decides an empty range, because a request has none.
fn asked(range: &Range<u64>) -> Range<u64> {
    let end = range.end.max(1);
    range.start.min(end - 1)..end
}

fn connections(is_near: bool) -> Result<HttpClient, Failure> {
    let builder = http_client::builder(&Trust::default(), Versions::Http1)?
        .connect_timeout(CONNECT_TIME)
        .timeout(WRITE_TIME);
    // A proxy of the environment does not reach a store of this machine.
    HttpClient::new(if is_near {
        builder
    } else {
        http_client::with_proxies(builder)
    })
}

/// The client of the bucket; `None` if a variable has no valid value.
fn bucket(config: &StoreConfig, http: &HttpClient) -> Option<AmazonS3> {
    let retries = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIME,
    };
    let known = config.variables.known();
    let builder = known.fold(AmazonS3Builder::new(), |builder, (key, value)| {
        builder.with_config(key, value)
    });
    let builder = builder
        .with_bucket_name(&config.url.bucket)
        .with_retry(retries)
        .with_http_connector(StoreConnector(http.client().clone()));
    builder.build().ok()
}

#[cfg(test)]
mod tests {
    use super::asked;

    #[test]
    fn asked_range_is_never_empty() {
        for (range, expected) in [(0..0, 0..1), (5..5, 4..5), (0..9, 0..9), (3..4, 3..4)] {
            assert_eq!(asked(&range), expected);
        }
    }
}
