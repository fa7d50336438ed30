//! Abandoned collections: one that can't see what a kept deploy needs ends, and the next one begins
//! with marks of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmx_core::backend::{Blobs as _, ObjectKey};
use pmx_core::code::Code;
use pmx_core::id::{BlobId, ObjectId};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql as _, Value};
use pmx_core::time::Timestamp;
use pmx_sync::manifest::{Entry, NodeMap, Row, build};
use pmx_sync::media::Media;
use pmx_sync::path::SitePath;
use pmx_sync::push::Intent;
use pmx_sync::serve::Spaces as _;
use pmx_sync::space::{Command, Reply};
use pmx_sync::testing::client::Client;
use pmx_sync::testing::host::{Host, block_on};
use pmx_sync::wire::{CollectReply, Repack};
use pmx_tests::sql::Sqlite;

/// Pages of the site: so many that its manifest has two levels, and more leaves than a step reads.
const PAGES: usize = 6_000;

const HOUR: u64 = 3_600_000;

/// Steps of a whole collection of the site, and more.
const STEPS_MAX: usize = 2_000;

fn docs() -> SpaceName {
    SpaceName::parse("docs").unwrap()
}

fn publish(host: &Host<Sqlite>) {
    let (blob, bytes) = (BlobId::of(b"page"), Bytes::from_static(b"page"));
    let media = Media::parse("text/plain").unwrap();
    let rows = (0..PAGES).map(|number| Row {
        path: SitePath::parse(&format!("{number:05}")).unwrap(),
        entry: Entry {
            blob,
            size: bytes.len() as u64,
            media: media.clone(),
        },
    });
    let site = build(rows.collect::<Vec<_>>()).unwrap();
    let mut nodes = NodeMap::default();
    nodes.extend(site.nodes);
    let client = Client {
        network: host,
        space: docs(),
        nodes: &nodes,
        blobs: &BTreeMap::from([(blob, bytes)]),
        tries: 1,
    };
    block_on(client.publish(Intent::new(docs(), site.root, "first"))).unwrap();
}

fn step(host: &Host<Sqlite>, start: bool, now: u64) -> Result<CollectReply, Problem> {
    let command = Command::Collect {
        start,
        dry: false,
        repack: Repack::default(),
    };
    let now = Timestamp::from_millis(now);
    match block_on(host.platform().spaces.call(&docs(), command, now))? {
        Reply::Collected(reply) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

fn blob<const N: usize>(value: &Value) -> [u8; N] {
    match value {
        Value::Blob(bytes) => bytes[..].try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn collection_after_an_abandoned_one_keeps_what_that_had_not_walked() {
    let host = Host::new(Sqlite::new);
    publish(&host);
    let platform = host.platform();
    let ledger = platform.spaces.ledger(&docs()).unwrap();
    let run = |statement: &str| ledger.run(statement, &[]).unwrap();
    // As a release left it that did not collect.
    run("UPDATE node SET refs = NULL, mark = 0");
    run("DELETE FROM object");
    let nodes = run("SELECT count(*) FROM node");
    // The leaf that a walk visits first is lost for a while.
    let leaf = "SELECT object FROM node WHERE substr(bytes, 2, 1) = x'00' ORDER BY id LIMIT 1";
    let object = ObjectId::from_bytes(blob(&run(leaf)[0][0]));
    let space = platform.blobs.all().keys().next().unwrap().space;
    let key = ObjectKey { space, object };
    let whole = platform.blobs.all()[&key].clone();
    let extent =
        "SELECT at, length FROM node WHERE substr(bytes, 2, 1) = x'00' ORDER BY id LIMIT 1";
    let row = run(extent).remove(0);
    let (Value::Integer(at), Value::Integer(length)) = (&row[0], &row[1]) else {
        panic!("{row:?}");
    };
    let (at, length) = (
        usize::try_from(*at).unwrap(),
        usize::try_from(*length).unwrap(),
    );
    let mut damaged = whole.to_vec();
    damaged[at..at + length].fill(0);
    block_on(platform.blobs.write(key, damaged.into())).unwrap();
    let failed = (0..STEPS_MAX).find_map(|number| step(&host, number == 0, HOUR).err());
    assert_eq!(failed.expect("a failed step").code, Code::Corrupt);
    block_on(platform.blobs.write(key, whole)).unwrap();
    let mut steps = (0..STEPS_MAX).map(|number| step(&host, number == 0, 9 * HOUR).unwrap());
    assert!(steps.any(|step| !step.more), "the collection does not end");
    assert_eq!(run("SELECT count(*) FROM node"), nodes);
    assert_eq!(run("SELECT count(*) FROM doomed"), [[Value::Integer(0)]]);
    assert_eq!(host.get("http://docs.localhost/05999").unwrap().status, 200);
}
