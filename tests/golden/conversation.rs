//! Conversation vectors: every byte of a client's conversation with a server in memory. It has a
//! first publish in steps, a small publish in one request, a rollback, and some repeated requests.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::Method;
use pmx_core::codec::Decoder;
use pmx_core::id::{PackId, Root};
use pmx_core::name::SpaceName;
use pmx_core::sql::{Sql, Value};
use pmx_sync::manifest::{Built, NodeMap, build, diff, encode_patch};
use pmx_sync::pack::PackCoding;
use pmx_sync::serve::Server;
use pmx_sync::testing::Single;
use pmx_sync::wire::{
    BeginHead, CommitPreconditions, DeployMeta, Envelope, Order, Replace, RollbackHead, SectionKind,
};

use super::fixtures::rows;
use super::memory::{Memory, send, server};
use super::reference::File;
use super::vectors::{Out, envelope, hex, packed, put};

/// A JSON text of the conversation: `pointer`, `<step> request`, `<step> reply`, or `<step> head`
/// for the head of a request that is an envelope.
pub(crate) fn example(name: &str) -> String {
    let mut all = Out::new();
    vectors(&mut all);
    let vector = |name: String| all.get(&name).unwrap_or_else(|| panic!("no vector {name}"));
    let sent = |step| HEXLOWER.decode(vector(format!("conversation/{step}/request")).as_bytes());
    match name.split_once(' ') {
        None => vector(format!("conversation/{name}/demo")).clone(),
        Some((step, "reply")) => vector(format!("conversation/{step}/reply")).clone(),
        Some((step, "request")) => String::from_utf8(sent(step).unwrap()).unwrap(),
        Some((step, "head")) => {
            let envelope =
                Envelope::decode(&sent(step).unwrap().into(), usize::MAX, &mut Decoder::new());
            String::from_utf8(envelope.unwrap().head.to_vec()).unwrap()
        }
        Some(_) => panic!("no example is called {name}"),
    }
}

/// Every request and reply, and everything that the platform stores afterwards.
pub(crate) fn vectors(out: &mut Out) {
    let mut talk = Talk {
        server: server(),
        out,
    };
    let before = site(&[("a.html", b"A\n"), ("b.html", b"B\n")]);
    let after = site(&[("a.html", b"A\n"), ("b.html", b"new\n")]);
    first_publish(&mut talk, &before);
    small_publish(&mut talk, &before, &after);
    rollback(&mut talk);
    history(&mut talk);
    kept(&talk.server, talk.out);
}

struct Talk<'a> {
    server: Server<Single<Memory>>,
    out: &'a mut Out,
}

impl Talk<'_> {
    /// Sends a request, and records it and the reply.
    fn step(&mut self, (name, seed): (&str, u8), method: Method, target: &str, body: Vec<u8>) {
        let body = Bytes::from(body);
        put(self.out, format!("conversation/{name}/request"), hex(&body));
        let reply = send(&self.server, method, target, body, seed);
        put(self.out, format!("conversation/{name}/reply"), reply);
    }

    fn post(&mut self, step: (&str, u8), target: &str, body: Vec<u8>) {
        self.step(step, Method::POST, target, body);
    }
}

fn space() -> SpaceName {
    SpaceName::parse("demo").unwrap()
}

fn site(pages: &[(&str, &[u8])]) -> Built {
    let file = |(path, bytes): &(&str, &[u8])| File {
        path: (*path).to_owned(),
        id: *blake3::hash(bytes).as_bytes(),
        size: bytes.len() as u64,
        media: "text/html; charset=utf-8".to_owned(),
    };
    build(rows(&pages.iter().map(file).collect::<Vec<_>>())).unwrap()
}

fn head(root: Root, base: Option<Root>, commit: Option<CommitPreconditions>) -> BeginHead {
    BeginHead {
        v: 1,
        space: space(),
        alias: None,
        root,
        base,
        dry: false,
        commit,
    }
}

fn terms(expect: u64, key: &str, order: Option<Order>) -> CommitPreconditions {
    let message = Some("hello".to_owned());
    let meta = DeployMeta {
        message,
        ..DeployMeta::default()
    };
    CommitPreconditions {
        expect: Some(expect),
        replace: Replace::Exact,
        key: key.to_owned(),
        order,
        max_delete: None,
        meta,
        expires: None,
        restore: Vec::new(),
    }
}

fn first_publish(talk: &mut Talk<'_>, site: &Built) {
    let mut nodes = Vec::new();
    for node in &site.nodes {
        pmx_core::encode::write_bytes(&mut nodes, &node.bytes);
    }
    let tell = envelope(
        &head(site.root, None, None),
        vec![(SectionKind::Nodes, nodes)],
    );
    talk.post(("1-begin", 1), "/api/publish/begin", tell);
    let pack = packed(&[b"A\n", b"B\n"], PackCoding::Stored);
    let target = format!("/api/publish/packs/{}?space=demo", PackId::of(&pack));
    talk.step(("2-pack", 2), Method::PUT, &target, pack);
    let commit = head(
        site.root,
        None,
        Some(terms(0, "first", Some(Order::run(7)))),
    );
    talk.post(
        ("3-commit", 3),
        "/api/publish/commit",
        envelope(&commit, Vec::new()),
    );
}

fn small_publish(talk: &mut Talk<'_>, before: &Built, after: &Built) {
    let mut source = NodeMap::default();
    source.extend(before.nodes.clone());
    source.extend(after.nodes.clone());
    let changes = diff(&source, before.root, &source, after.root).unwrap();
    let head = head(
        after.root,
        Some(before.root),
        Some(terms(1, "second", None)),
    );
    let sections = vec![
        (SectionKind::Patch, encode_patch(&changes)),
        (SectionKind::Pack, packed(&[b"new\n"], PackCoding::Stored)),
    ];
    let body = envelope(&head, sections);
    talk.post(("4-small", 4), "/api/publish/begin", body.clone());
    talk.post(("5-again", 5), "/api/publish/begin", body);
}

fn rollback(talk: &mut Talk<'_>) {
    let back = |expect, key: &str| {
        let head = RollbackHead {
            v: 1,
            space: space(),
            to: None,
            expect: Some(expect),
            key: key.to_owned(),
            meta: DeployMeta::default(),
        };
        serde_json::to_vec(&head).unwrap()
    };
    let target = "/api/publish/rollback";
    talk.post(("6-rollback", 6), target, back(2, "third"));
    talk.post(("6-rollback-again", 60), target, back(2, "third"));
    talk.post(("9-conflict", 9), target, back(2, "fourth"));
}

fn history(talk: &mut Talk<'_>) {
    let diff = "/api/diff?space=demo&from=1&to=2";
    for (step, target) in [
        (("7-deploys", 7), "/api/deploys?space=demo"),
        (("8-diff", 8), diff),
    ] {
        talk.step(step, Method::GET, target, Vec::new());
    }
}

/// The objects of the store, the pointers, and the buckets of the ledger.
fn kept(server: &Server<Single<Memory>>, out: &mut Out) {
    for (key, bytes) in server.backend().0.objects.borrow().iter() {
        put(out, format!("conversation/object/{key}"), hex(bytes));
    }
    for (name, pointer) in server.backend().0.pointers.borrow().iter() {
        let pointer = serde_json::to_string(pointer).unwrap();
        put(out, format!("conversation/pointer/{name}"), pointer);
    }
    let buckets = "SELECT bucket, blobs FROM have ORDER BY bucket";
    for row in server.backend().0.ledger.run(buckets, &[]).unwrap() {
        let [Value::Integer(bucket), Value::Blob(blobs)] = &row[..] else {
            panic!("a bucket is {row:?}");
        };
        put(out, format!("conversation/bucket/{bucket}"), hex(blobs));
    }
}
