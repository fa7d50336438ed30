//! A commit that waits for its object while the space is deleted and its name is taken again.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use http::Request;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::hash::Hash;
use pmx_core::id::SpaceId;
use pmx_core::time::Timestamp;
use pmx_sync::serve::{Nonce, Server, Spaces as _};
use pmx_sync::space::{Command, Reply};
use pmx_sync::testing::client::SECRET;
use pmx_sync::testing::host::{block_on, read, settings};
use pmx_sync::testing::{MemoryBlobs, MemoryPointers, MemorySpaces, Platform};
use pmx_tests::sql::Sqlite;
use serde_json::{Value, json};

use crate::sim::platform::space;

/// Objects whose next write lets others pass.
#[derive(Clone, Default)]
struct Slow {
    inner: MemoryBlobs,
    others: Rc<RefCell<Option<Others>>>,
}

/// What others do.
type Others = Box<dyn FnOnce()>;

impl Blobs for Slow {
    async fn read(&self, key: ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        self.inner.read(key, range).await
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        self.inner.write(key, body).await?;
        let others = self.others.borrow_mut().take();
        if let Some(others) = others {
            others();
        }
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BackendError> {
        self.inner.delete(keys).await
    }

    async fn delete_some(&self, space: SpaceId, most: usize) -> Result<usize, BackendError> {
        self.inner.delete_some(space, most).await
    }
}

type Spaces = MemorySpaces<Sqlite, Slow>;

struct Host {
    blobs: Slow,
    spaces: Spaces,
    server: Server<Platform<Slow, MemoryPointers, Spaces>>,
}

impl Host {
    fn new() -> Self {
        let blobs = Slow::default();
        let spaces = MemorySpaces::new(blobs.clone(), |_| Sqlite::new());
        let platform = Platform {
            blobs: blobs.clone(),
            pointers: MemoryPointers::default(),
            spaces: spaces.clone(),
        };
        Self {
            blobs,
            spaces,
            server: Server::new(platform, settings()),
        }
    }

    /// The status of a request, and its answer.
    fn post(&self, path: &str, body: Vec<u8>, seed: u8) -> (u16, Value) {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {SECRET}"))
            .header("content-type", "application/json")
            .header("content-length", body.len());
        let (now, nonce) = (Timestamp::from_millis(seed.into()), Nonce([seed; 32]));
        let answered = self
            .server
            .handle(request.body(body.into()).unwrap(), None, now, nonce);
        let answer = block_on(read(&self.blobs, block_on(answered))).unwrap();
        let json = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer.status.as_u16(), json)
    }

    /// Uploads a page. Returns the commit that makes it the site.
    fn uploaded(&self, text: &str, seed: u8) -> Vec<u8> {
        let hash = Hash::of(text.as_bytes()).to_hex();
        let files = json!([{ "path": "index.html", "hash": hash, "size": text.len() }]);
        let path = format!("/api/publish/upload?space=docs&hash={hash}");
        let (status, answer) = self.post(&path, text.into(), seed);
        assert_eq!(status, 200, "{answer}");
        let commit = json!({ "space": "docs", "files": files, "force": true });
        commit.to_string().into_bytes()
    }
}

fn call(spaces: &Spaces, command: Command) -> Reply {
    block_on(spaces.call(&space("docs"), command, Timestamp::from_millis(99))).unwrap()
}

#[test]
fn commit_that_waits_while_its_space_is_deleted_changes_nothing() {
    for is_taken_again in [false, true] {
        let host = Host::new();
        let commit = host.uploaded("one", 1);
        assert_eq!(host.post("/api/publish/commit", commit, 2).0, 200);
        let commit = host.uploaded("two", 3);
        let spaces = host.spaces.clone();
        *host.blobs.others.borrow_mut() = Some(Box::new(move || {
            let delete = Command::DeleteSpace {
                expect: 1,
                purge: false,
            };
            call(&spaces, delete);
            if is_taken_again {
                let fresh = SpaceId::from_bytes([7; 16]);
                call(&spaces, Command::Open { fresh });
            }
        }));
        let (status, answer) = host.post("/api/publish/commit", commit, 4);
        assert!(
            host.blobs.others.borrow().is_none(),
            "the commit wrote no object"
        );
        assert_eq!(status, 503, "{answer}");
        let ledger = host.spaces.ledger(&space("docs")).unwrap();
        for table in ["deploy", "node", "have"] {
            let rows = pmx_core::sql::Sql::run(&*ledger, &format!("SELECT 1 FROM {table}"), &[]);
            assert_eq!(rows.unwrap().len(), 0, "{table}, again: {is_taken_again}");
        }
        // Readers still learn that the site is gone, and the next deploy follows its number.
        let Reply::Due(outbox) = call(&host.spaces, Command::PendingPointers) else {
            panic!("no outbox");
        };
        assert!(outbox.due.iter().all(|due| due.pointer.gone), "{outbox:?}");
        let commit = host.uploaded("three", 5);
        let (status, answer) = host.post("/api/publish/commit", commit, 6);
        assert_eq!((status, &answer["deployId"]), (200, &json!(2)), "{answer}");
        let found = Command::Locate {
            deploy: pmx_core::domain::Selector::Active,
        };
        let Reply::Pointer(pointer) = call(&host.spaces, found) else {
            panic!("no pointer");
        };
        assert_eq!((pointer.deploy, pointer.base), (2, 1));
    }
}
