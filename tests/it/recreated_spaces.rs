//! Recreated spaces: a space is created again under its name while servers know its old id.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, StatusCode};
use pmx_core::codec::Encoder;
use pmx_core::hash::Hash;
use pmx_core::id::{PackId, SpaceId};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::pack::PackCoding;
use pmx_sync::pack::wire::PackBuilder;
use pmx_sync::serve::{Nonce, Server, Spaces};
use pmx_sync::space::{Command, Reply};
use pmx_sync::testing::{MemoryBlobs, MemoryPointers, MemorySpaces, Platform};
use pmx_tests::sql::Sqlite;

use crate::sim::platform::space;
use pmx_sync::testing::client::SECRET;
use pmx_sync::testing::host::{block_on, read, settings};

/// Spaces in memory, and the requests that they got.
#[derive(Clone)]
struct Asked {
    inner: MemorySpaces<Sqlite, MemoryBlobs>,
    commands: Rc<RefCell<Vec<&'static str>>>,
}

impl Spaces for Asked {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        self.commands.borrow_mut().push(command.name());
        self.inner.call(space, command, now).await
    }
}

type Backend = Platform<MemoryBlobs, MemoryPointers, Asked>;

struct Home {
    backend: Backend,
    sent: Cell<u64>,
}

impl Home {
    fn new() -> Self {
        let blobs = MemoryBlobs::default();
        let spaces = Asked {
            inner: MemorySpaces::new(blobs.clone(), |_| Sqlite::new()),
            commands: Rc::default(),
        };
        Self {
            backend: Platform {
                blobs,
                pointers: MemoryPointers::default(),
                spaces,
            },
            sent: Cell::new(0),
        }
    }

    fn server(&self) -> Server<Backend> {
        Server::new(self.backend.clone(), settings())
    }

    /// Uploads a new pack, and returns the requests that the space got for it.
    fn upload(&self, server: &Server<Backend>) -> String {
        let number = self.sent.get() + 1;
        self.sent.set(number);
        let mut pack = PackBuilder::new();
        pack.push(&number.to_le_bytes()).unwrap();
        let pack = pack
            .finish(&mut Encoder::new(), PackCoding::Stored)
            .unwrap();
        let pack = Bytes::from(pack.into_bytes());
        let path = format!("/api/publish/packs/{}?space=docs", PackId::of(&pack));
        let request = Request::put(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {SECRET}"))
            .header("content-length", pack.len());
        let nonce = Nonce(*Hash::of(&number.to_le_bytes()).as_bytes());
        let now = Timestamp::from_millis(number);
        let answered = server.handle(request.body(pack).unwrap(), None, now, nonce);
        let answered = block_on(answered);
        let answer = block_on(read(&self.backend.blobs, answered)).unwrap();
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, StatusCode::OK, "{text}");
        self.backend.spaces.commands.take().join(" ")
    }

    fn id(&self) -> SpaceId {
        let open = Command::Open {
            fresh: SpaceId::from_bytes([9; 16]),
        };
        let now = Timestamp::from_millis(0);
        match block_on(self.backend.spaces.inner.call(&space("docs"), open, now)) {
            Ok(Reply::Space(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    /// The number of objects of the current space, and of the earlier one.
    fn objects(&self) -> (usize, usize) {
        let (today, all) = (self.id(), self.backend.blobs.all());
        let own = all.keys().filter(|key| key.space == today).count();
        (own, all.len() - own)
    }

    fn remove(&self) {
        self.backend.spaces.inner.remove(&space("docs"));
    }
}

#[test]
fn pack_upload_is_one_call_of_its_space() {
    let home = Home::new();
    let server = home.server();
    assert_eq!(home.upload(&server), "open pack");
    for _ in 0..5 {
        assert_eq!(home.upload(&server), "pack");
    }
    assert_eq!(home.objects(), (6, 0));
}

#[test]
fn removed_space_is_made_anew_by_an_upload() {
    let home = Home::new();
    let server = home.server();
    home.upload(&server);
    let first = home.id();
    home.remove();
    assert_eq!(home.upload(&server), "pack open pack");
    assert_ne!(home.id(), first);
    assert_eq!(
        home.objects(),
        (1, 1),
        "nothing more under the id of before"
    );
    assert_eq!(home.upload(&server), "pack");
}

#[test]
fn removed_space_leaves_no_object_to_the_next() {
    let home = Home::new();
    let (server, other) = (home.server(), home.server());
    home.upload(&server);
    home.remove();
    home.upload(&other);
    assert_eq!(home.objects(), (1, 1));
    // This server knows the old id, and writes to that space first.
    assert_eq!(home.upload(&server), "pack open pack");
    assert_eq!(home.objects(), (2, 1));
    assert_eq!(home.upload(&server), "pack");
    assert_eq!(home.objects(), (3, 1));
}
