//! In-memory platform: objects, pointers and spaces.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::id::SpaceId;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use crate::domains::{CustomHost, DomainCommand, DomainRegistry, DomainReply, Resolver, Route};
use crate::pointer::Pointer;
use crate::serve::{Backend, DomainRoutes, Pointers, Spaces};
use crate::space::{Command, Reply, execute};

/// A platform of three ports.
#[derive(Debug, Clone)]
pub struct Platform<B, P, S> {
    /// The objects.
    pub blobs: B,
    /// The pointers.
    pub pointers: P,
    /// The spaces.
    pub spaces: S,
}

impl<B: Blobs, P: Pointers, S: Spaces> Backend for Platform<B, P, S> {
    type Blobs = B;
    type Pointers = P;
    type Spaces = S;
    type Domains = NoDomains;

    fn blobs(&self) -> &B {
        &self.blobs
    }

    fn pointers(&self) -> &P {
        &self.pointers
    }

    fn spaces(&self) -> &S {
        &self.spaces
    }

    fn domains(&self) -> &NoDomains {
        &NoDomains
    }
}

/// A platform in which one value implements all ports.
#[derive(Debug, Default)]
pub struct Single<T>(pub T);

impl<T: Blobs + Pointers + Spaces> Backend for Single<T> {
    type Blobs = T;
    type Pointers = T;
    type Spaces = T;
    type Domains = NoDomains;

    fn blobs(&self) -> &T {
        &self.0
    }

    fn pointers(&self) -> &T {
        &self.0
    }

    fn spaces(&self) -> &T {
        &self.0
    }

    fn domains(&self) -> &NoDomains {
        &NoDomains
    }
}

/// A platform without domains.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDomains;

impl DomainRegistry for NoDomains {
    async fn call(&self, _: DomainCommand, _: Timestamp) -> Result<DomainReply, Problem> {
        Err(Problem::new(
            Code::NotConfigured,
            "this platform has no domains",
        ))
    }
}

impl DomainRoutes for NoDomains {
    async fn route(&self, _: &CustomHost, _: Timestamp) -> Result<Option<Route>, BackendError> {
        Ok(None)
    }
}

impl Resolver for NoDomains {
    async fn exchange(&self, _: Bytes) -> Result<Bytes, BackendError> {
        Err(BackendError::new(
            "resolving a name",
            "this platform has no resolver",
        ))
    }
}

/// Objects in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs(Arc<Mutex<BTreeMap<ObjectKey, Bytes>>>);

impl MemoryBlobs {
    /// Every object, in key order.
    pub fn all(&self) -> BTreeMap<ObjectKey, Bytes> {
        lock(&self.0).clone()
    }

    /// Whether an object exists.
    pub fn contains(&self, key: ObjectKey) -> bool {
        lock(&self.0).contains_key(&key)
    }

    /// A range of an object; `None` if the object does not exist or ends before the range.
    pub fn slice(&self, key: ObjectKey, range: Range<u64>) -> Option<Bytes> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        let objects = lock(&self.0);
        let object = objects.get(&key)?;
        (range.start <= range.end && range.end <= object.len()).then(|| object.slice(range))
    }
}

impl Blobs for MemoryBlobs {
    async fn read(&self, key: ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        Ok(self.slice(key, range))
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        lock(&self.0).insert(key, body);
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BackendError> {
        let mut objects = lock(&self.0);
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }

    async fn delete_some(&self, space: SpaceId, most: usize) -> Result<usize, BackendError> {
        let mut objects = lock(&self.0);
        let of_space = objects.keys().filter(|key| key.space == space);
        let keys: Vec<ObjectKey> = of_space.take(most).copied().collect();
        for key in &keys {
            objects.remove(key);
        }
        Ok(keys.len())
    }
}

/// Pointers in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryPointers(Arc<Mutex<BTreeMap<Channel, Pointer>>>);

impl MemoryPointers {
    /// The pointer of a channel.
    pub fn find(&self, channel: &Channel) -> Option<Pointer> {
        lock(&self.0).get(channel).cloned()
    }
}

impl Pointers for MemoryPointers {
    async fn read(&self, channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        Ok(self.find(channel))
    }

    fn may_lag(&self) -> bool {
        false
    }

    async fn write(&self, channel: &Channel, pointer: &Pointer) -> Result<(), BackendError> {
        let mut pointers = lock(&self.0);
        let held = pointers.get(channel);
        // An older deploy of the same space never replaces a newer one.
        let is_of_another =
            |held: &Pointer| held.space != pointer.space && !pointer.is_before(held);
        if held.is_none_or(|held| is_of_another(held) || held.place() <= pointer.place()) {
            pointers.insert(channel.clone(), pointer.clone());
        }
        Ok(())
    }
}

/// Spaces in memory, each with its own ledger. Clones share them.
///
/// Transactions are atomic because they never wait. No lock is held across a write of objects, so
/// another command may run in between, as in a Durable Object.
pub struct MemorySpaces<S, B> {
    ledgers: Arc<Ledgers<S>>,
    blobs: B,
}

struct Ledgers<S> {
    make: Box<dyn Fn(&SpaceName) -> S>,
    made: Mutex<BTreeMap<SpaceName, Arc<S>>>,
}

impl<S: Sql, B: Blobs> MemorySpaces<S, B> {
    /// Starts without spaces. Each new space gets its ledger from `make` and writes into `blobs`.
    pub fn new(blobs: B, make: impl Fn(&SpaceName) -> S + 'static) -> Self {
        let (make, made) = (Box::new(make), Mutex::default());
        let ledgers = Arc::new(Ledgers { make, made });
        Self { ledgers, blobs }
    }

    /// The ledger of an existing space.
    pub fn ledger(&self, space: &SpaceName) -> Option<Arc<S>> {
        lock(&self.ledgers.made).get(space).cloned()
    }

    /// Removes a space with its ledger; its objects stay.
    pub fn remove(&self, space: &SpaceName) {
        lock(&self.ledgers.made).remove(space);
    }

    fn ledger_for(&self, space: &SpaceName, command: &Command) -> Option<Arc<S>> {
        let mut made = lock(&self.ledgers.made);
        if let Some(ledger) = made.get(space) {
            return Some(Arc::clone(ledger));
        }
        let ledger = command
            .creates()
            .then(|| Arc::new((self.ledgers.make)(space)))?;
        made.insert(space.clone(), Arc::clone(&ledger));
        Some(ledger)
    }
}

impl<S, B: Clone> Clone for MemorySpaces<S, B> {
    fn clone(&self) -> Self {
        Self {
            ledgers: Arc::clone(&self.ledgers),
            blobs: self.blobs.clone(),
        }
    }
}

impl<S: Sql, B: Blobs> Spaces for MemorySpaces<S, B> {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let ledger = self.ledger_for(space, &command).ok_or_else(|| {
            let detail = format!("there is no space {space}");
            Problem::new(Code::NotFound, detail)
        })?;
        execute(&*ledger, &self.blobs, space, command, now).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
