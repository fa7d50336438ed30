//! Publish cost in rows: it depends on the changes, not on abandoned uploads.

use std::cell::Cell;
use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::codec::{Encoder, Level};
use pmx_core::id::{BlobId, NodeId, ObjectId, PackId, Root, SpaceId};
use pmx_core::name::SpaceName;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;
use pmx_sync::limits::PATCH_RAW_BYTES_MAX;
use pmx_sync::manifest::{Entry, NewNode, Node, NodeMap, Row, build};
use pmx_sync::media::Media;
use pmx_sync::pack::PackCoding;
use pmx_sync::pack::wire::{PackBuilder, verify};
use pmx_sync::path::SitePath;
use pmx_sync::push::{Action, Base, BaseBlobs, Intent, Mode, Push};
use pmx_sync::space::{Command, LEASE, Offer, PublishCommand, Reply, execute};
use pmx_sync::testing::MemoryBlobs;
use pmx_sync::wire::{
    BeginReply, CommitPreconditions, DeployMeta, PublishState, Replace, SectionKind,
};
use pmx_tests::sql::Sqlite;

use crate::large_sections::manifest;
use crate::sim::platform::space;
use pmx_sync::testing::host::block_on;

/// A ledger that counts its statements and the rows they return.
struct Counting {
    inner: Sqlite,
    statements: Cell<usize>,
    rows: Cell<usize>,
}

impl Sql for Counting {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        let rows = self.inner.run(statement, params)?;
        self.statements.set(self.statements.get() + 1);
        self.rows.set(self.rows.get() + rows.len());
        Ok(rows)
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.inner.atomically(|_| body(self))
    }
}

/// A space and its clock.
struct Space {
    sql: Counting,
    blobs: MemoryBlobs,
    name: SpaceName,
    now: u64,
    objects: u64,
    files_max: u64,
}

impl Space {
    fn new() -> Self {
        let mut space = Self {
            sql: Counting {
                inner: Sqlite::new(),
                statements: Cell::new(0),
                rows: Cell::new(0),
            },
            blobs: MemoryBlobs::default(),
            name: space("docs"),
            now: 1_000_000_000,
            objects: 0,
            files_max: 50_000,
        };
        let fresh = SpaceId::from_bytes([1; 16]);
        space.call(Command::Open { fresh });
        space
    }

    fn call(&mut self, command: Command) -> Reply {
        let now = Timestamp::from_millis(self.now);
        let done = execute(&self.sql, &self.blobs, &self.name, command, now);
        block_on(done).unwrap()
    }

    fn object(&mut self) -> ObjectId {
        self.objects += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.objects.to_be_bytes());
        ObjectId::from_bytes(bytes)
    }

    /// Records the arrival of a pack.
    fn pack(&mut self, contents: &[Vec<u8>]) {
        let mut pack = PackBuilder::new();
        for content in contents {
            pack.push(content).unwrap();
        }
        let wire = pack.finish(&mut Encoder::new(), PackCoding::Stored);
        let bytes = wire.unwrap().into_bytes();
        let verified = verify(&bytes, &mut pmx_core::codec::Decoder::new()).unwrap();
        let rest = verified.rest(&mut Encoder::new(), Level::STORED);
        let mut toc = Vec::new();
        rest.toc.encode(&mut toc);
        let object = self.object();
        let pack = PackId::of(&bytes);
        let toc = toc.into();
        let space = SpaceId::from_bytes([1; 16]);
        self.call(Command::RecordPack {
            pack,
            space,
            object,
            files_max: self.files_max,
            toc,
        });
    }

    fn publish(&mut self, root: Root, offer: Offer, commit: bool, lease: Duration) -> BeginReply {
        let index = self.object();
        let terms = CommitPreconditions {
            expect: Some(0),
            replace: Replace::Exact,
            max_delete: None,
            key: format!("key {}", self.objects),
            order: None,
            meta: DeployMeta::default(),
            expires: None,
            restore: Vec::new(),
        };
        let publish = PublishCommand {
            alias: None,
            root,
            base: None,
            offer,
            pack: None,
            packs: Vec::new(),
            commit: commit.then_some(terms),
            dry: false,
            begun: false,
            lease,
            files_max: self.files_max,
            index,
        };
        match self.call(Command::Publish(Box::new(publish))) {
            Reply::Publish(reply) => *reply,
            other => panic!("{other:?}"),
        }
    }

    /// How many packs the space knows, and how many blobs it stores.
    fn kept(&self) -> [Value; 2] {
        [
            "SELECT count(*) FROM pack",
            "SELECT sum(length(blobs)) FROM have",
        ]
        .map(|select| self.sql.inner.run(select, &[]).unwrap()[0][0].clone())
    }

    /// The number of rows that a call reads.
    fn rows(&mut self, call: impl FnOnce(&mut Self)) -> usize {
        let before = self.sql.rows.get();
        call(self);
        self.sql.rows.get() - before
    }

    fn statements(&mut self, call: impl FnOnce(&mut Self)) -> usize {
        let before = self.sql.statements.get();
        call(self);
        self.sql.statements.get() - before
    }
}

fn content(number: usize) -> Vec<u8> {
    format!("content {number}").into_bytes()
}

/// A site of files with these contents: root and nodes, a node before its children.
fn site(contents: impl Iterator<Item = usize>) -> (Root, Vec<NewNode>) {
    let media = Media::parse("text/plain").unwrap();
    let mut rows: Vec<Row> = contents
        .map(|number| Row {
            path: SitePath::parse(&format!("d{:03}/{number:07}.txt", number % 97)).unwrap(),
            entry: Entry {
                blob: BlobId::of(&content(number)),
                size: content(number).len() as u64,
                media: media.clone(),
            },
        })
        .collect();
    rows.sort_by(|one, other| one.path.cmp(&other.path));
    let built = build(rows).unwrap();
    let find = |id: &NodeId| built.nodes.iter().find(|node| node.id == *id).unwrap();
    let (mut nodes, mut rest) = (Vec::new(), vec![built.root]);
    while let Some(id) = rest.pop() {
        let node = find(&id);
        if let Node::Interior { children, .. } = Node::decode(&node.bytes).unwrap() {
            rest.extend(children.iter().rev().map(|child| child.id));
        }
        nodes.push(node.clone());
    }
    (built.root, nodes)
}

fn offer(nodes: &[NewNode]) -> Offer {
    Offer::Nodes(
        nodes
            .iter()
            .map(|node| node.bytes.to_vec().into())
            .collect(),
    )
}

#[test]
fn abandoned_packs_do_not_slow_later_publishes() {
    let (root, nodes) = site(0..300);
    let mut counts = Vec::new();
    for abandoned in [40, 400] {
        let mut space = Space::new();
        for pack in 0..abandoned {
            let blobs: Vec<_> = (0..20).map(|n| content(1_000 + pack * 20 + n)).collect();
            space.pack(&blobs);
        }
        // The space looks for the blobs that this publish lacks among all arrived packs.
        let rows = space.rows(|space| {
            let reply = space.publish(root, offer(&nodes), false, LEASE);
            assert_eq!((reply.state, reply.blobs.len()), (PublishState::Blobs, 300));
        });
        counts.push(rows);
    }
    println!("rows read with 40 and with 400 abandoned packs: {counts:?}");
    let bound = 32 + 256 + 64 + nodes.len() * 4;
    assert!(counts.iter().all(|rows| *rows <= bound), "{counts:?}");
    assert!(counts[1] <= counts[0] + 64 + 256, "{counts:?}");
}

#[test]
fn folded_packs_are_found_and_commit() {
    let (root, nodes) = site(0..900);
    let mut space = Space::new();
    for pack in 0..45 {
        let blobs: Vec<_> = (0..20).map(|n| content(pack * 20 + n)).collect();
        space.pack(&blobs);
    }
    let reply = space.publish(root, offer(&nodes), true, LEASE);
    assert_eq!(reply.state, PublishState::Published);
    assert_eq!(
        reply.deploy.unwrap().new_bytes,
        (0..900).map(|n| content(n).len() as u64).sum::<u64>()
    );
    // The space recognises a pack that a client sends again, with its blobs.
    let before = space.kept();
    let blobs: Vec<_> = (0..20).map(content).collect();
    space.pack(&blobs);
    assert_eq!(space.kept(), before);
}

#[test]
fn publish_of_all_files_commits_after_abandoned_uploads() {
    // As many as the platform commits at once, after five times as many that no client commits.
    let files = 20_000;
    let mut space = Space::new();
    space.files_max = files as u64;
    for pack in (0..300).rev() {
        let blobs: Vec<_> = (0..400).map(|n| content(pack * 400 + n)).collect();
        space.now += 1;
        space.pack(&blobs);
    }
    let largest = "SELECT max(length(blobs)) FROM arrived";
    let largest = space.sql.inner.run(largest, &[]).unwrap();
    let Value::Integer(bytes) = largest[0][0] else {
        panic!("{largest:?}");
    };
    // 343 blobs of 58 bytes; without the bound there were about 470.
    assert!((343 * 50..400 * 58).contains(&bytes), "{bytes} bytes");
    let (root, nodes) = site(0..files);
    let reply = space.publish(root, offer(&nodes), true, LEASE);
    assert_eq!(reply.state, PublishState::Published);
}

#[test]
fn uploads_expire_after_the_lease() {
    let (root, nodes) = site(0..40);
    let lease = Duration::from_secs(10);
    let missing = |space: &mut Space| {
        let reply = space.publish(root, offer(&nodes), false, lease);
        reply.blobs.len()
    };
    let arrive = |space: &mut Space| {
        for pack in 0..2 {
            let blobs: Vec<_> = (0..20).map(|n| content(pack * 20 + n)).collect();
            space.pack(&blobs);
        }
    };
    let mut early = Space::new();
    arrive(&mut early);
    early.now += 11_000;
    assert_eq!(
        missing(&mut early),
        40,
        "packs that came before the first publish"
    );
    let mut space = Space::new();
    assert_eq!(missing(&mut space), 40);
    arrive(&mut space);
    space.now += 9_000;
    assert_eq!(missing(&mut space), 0, "the lease runs");
    space.now += 9_000;
    assert_eq!(missing(&mut space), 0, "a publish renewed it");
    space.now += 11_000;
    assert_eq!(
        missing(&mut space),
        40,
        "nothing came for longer than the lease"
    );
    // Clients may send expired packs again.
    arrive(&mut space);
    assert_eq!(missing(&mut space), 0);
    let packs = space.sql.run("SELECT count(*) FROM pack", &[]).unwrap();
    assert_eq!(packs[0][0], Value::Integer(2));
    space.now += 60_000;
    let other = site(500..501);
    space.publish(other.0, offer(&other.1), false, lease);
    let packs = space.sql.run("SELECT count(*) FROM pack", &[]).unwrap();
    assert_eq!(packs[0][0], Value::Integer(0), "expired rows are dropped");
    let nodes = space
        .sql
        .run("SELECT count(*) FROM node WHERE object IS NULL", &[]);
    assert_eq!(nodes.unwrap()[0][0], Value::from(other.1.len() as u64));
}

#[test]
fn batch_of_nodes_costs_by_its_size() {
    let (root, nodes) = site(0..20_000);
    let batch = nodes.len() / 8 + 1;
    let mut space = Space::new();
    let mut costs = Vec::new();
    for some in nodes.chunks(batch) {
        let cost = space.statements(|space| {
            space.publish(root, offer(some), false, LEASE);
        });
        costs.push(cost);
    }
    println!("statements of each batch: {costs:?}, {batch} nodes each");
    // The last publish finds that all nodes exist, and checks every blob.
    let (_last, early) = costs.split_last().unwrap();
    assert!(early.iter().all(|cost| *cost <= batch + 200), "{costs:?}");
}

#[test]
fn files_max_is_enforced_with_the_first_nodes() {
    let (root, nodes) = site(0..60_000);
    let mut space = Space::new();
    let index = space.object();
    let publish = PublishCommand {
        alias: None,
        root,
        base: None,
        offer: offer(&nodes[..3]),
        pack: None,
        packs: Vec::new(),
        commit: None,
        dry: false,
        begun: false,
        lease: LEASE,
        files_max: 50_000,
        index,
    };
    let command = Command::Publish(Box::new(publish));
    let now = Timestamp::from_millis(space.now);
    let refused = block_on(execute(&space.sql, &space.blobs, &space.name, command, now));
    let problem = refused.unwrap_err();
    assert_eq!(problem.code, Code::TooLarge);
    assert!(problem.detail.contains("60000"), "{problem}");
}

#[test]
fn patch_beyond_its_bound_is_sent_as_nodes() {
    let (old, small, large) = (manifest(0..1), manifest(0..100), manifest(0..70_000));
    for (new, kind) in [(&small, SectionKind::Patch), (&large, SectionKind::Outline)] {
        let mut nodes = NodeMap::default();
        nodes.extend(old.nodes.iter().chain(new.nodes.iter()).cloned());
        let intent = Intent {
            space: space("docs"),
            alias: None,
            root: new.root,
            base: Some(Base {
                root: old.root,
                deploy: 1,
            }),
            replace: Replace::Seen,
            expect: None,
            max_delete: None,
            key: "key".to_owned(),
            order: None,
            meta: DeployMeta::default(),
            expires: None,
            mode: Mode::Publish,
            base_blobs: BaseBlobs::Available,
            restore: Vec::new(),
        };
        match Push::new(&nodes, intent).next().unwrap() {
            Action::Begin(request) => {
                let kinds: Vec<_> = request.sections.iter().map(|it| it.kind).collect();
                assert_eq!(kinds, [kind]);
                let longest = request.sections.iter().map(|it| it.bytes.len()).max();
                assert!(longest.unwrap() <= PATCH_RAW_BYTES_MAX);
            }
            other => panic!("{other:?}"),
        }
    }
}
