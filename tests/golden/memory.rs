//! Server in memory, with a real ledger and no randomness: the smallest platform that the ports
//! allow. Tests compare every byte that it writes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use http::{Method, Request};
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::channel::Channel;
use pmx_core::domain::Domain;
use pmx_core::id::SpaceId;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::pointer::Pointer;
use pmx_sync::serve::{Body, Nonce, Pointers, Server, ServerSettings, SiteUrls, Spaces};
use pmx_sync::site::Hosts;
use pmx_sync::space::{Command, Reply, execute};
use pmx_sync::testing::{Single, ready, settings};
use pmx_tests::sql::Sqlite;

/// The ledger of one space, and all objects and pointers.
pub(crate) struct Memory {
    pub(crate) objects: RefCell<BTreeMap<ObjectKey, Bytes>>,
    pub(crate) pointers: RefCell<BTreeMap<Channel, Pointer>>,
    pub(crate) ledger: Sqlite,
}

impl Memory {
    fn new() -> Self {
        Self {
            objects: RefCell::default(),
            pointers: RefCell::default(),
            ledger: Sqlite::new(),
        }
    }
}

impl Blobs for Memory {
    async fn read(&self, key: ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        let objects = self.objects.borrow();
        let range = range.start as usize..range.end as usize;
        Ok(objects
            .get(&key)
            .filter(|object| range.end <= object.len())
            .map(|object| object.slice(range)))
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        let before = self.objects.borrow_mut().insert(key, body);
        assert_eq!(before, None, "{key} was written twice");
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BackendError> {
        self.objects
            .borrow_mut()
            .retain(|key, _| !keys.contains(key));
        Ok(())
    }

    async fn delete_some(&self, space: SpaceId, most: usize) -> Result<usize, BackendError> {
        let mut objects = self.objects.borrow_mut();
        let of_space = objects.keys().filter(|key| key.space == space);
        let keys: Vec<ObjectKey> = of_space.take(most).copied().collect();
        for key in &keys {
            objects.remove(key);
        }
        Ok(keys.len())
    }
}

impl Pointers for Memory {
    async fn read(&self, channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        Ok(self.pointers.borrow().get(channel).cloned())
    }

    fn may_lag(&self) -> bool {
        false
    }

    async fn write(&self, channel: &Channel, pointer: &Pointer) -> Result<(), BackendError> {
        self.pointers
            .borrow_mut()
            .insert(channel.clone(), pointer.clone());
        Ok(())
    }
}

impl Spaces for Memory {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        execute(&self.ledger, self, space, command, now).await
    }
}

pub(crate) const SECRET: &str = "golden";

pub(crate) fn server() -> Server<Single<Memory>> {
    let settings = ServerSettings {
        hosts: Hosts::new(Domain::parse("localhost").unwrap()).with_loopback(),
        publish_secret: Some(SECRET.to_owned()),
        urls: SiteUrls {
            scheme: "http",
            port: Some(8787),
        },
        ..settings()
    };
    Server::new(Single(Memory::new()), settings)
}

/// Sends a request to the API. `seed` determines the time and the randomness of the request.
pub(crate) fn send(
    server: &Server<Single<Memory>>,
    method: Method,
    target: &str,
    body: impl Into<Bytes>,
    seed: u8,
) -> String {
    let body = body.into();
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "localhost:8787")
        .header("authorization", format!("Bearer {SECRET}"))
        .header("content-length", body.len())
        .body(body)
        .unwrap();
    let now = Timestamp::from_millis(1_700_000_000_000 + u64::from(seed));
    let response = ready(server.handle(request, None, now, Nonce([seed; 32])));
    match response.into_body() {
        Body::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{target} answered with {other:?}"),
    }
}
