//! Regressions: defects that the simulation found, each with its sequence of events.

use std::rc::Rc;
use std::time::Duration;

use http::Request;
use pmx_core::backend::{Blobs as _, ObjectKey};
use pmx_core::code::Code;
use pmx_core::codec::{Decoder, Encoder, Level};
use pmx_core::id::{ObjectId, PackId, Root, SpaceId};
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql as _, Value};
use pmx_sync::manifest::{diff, encode_patch};
use pmx_sync::pack::PackCoding;
use pmx_sync::pack::wire::{PackBuilder, verify};
use pmx_sync::serve::Spaces as _;
use pmx_sync::space::{Command, Reply};
use pmx_sync::wire::{
    BeginHead, CommitPreconditions, DeployMeta, Envelope, Replace, RollbackHead, Section,
    SectionKind, VERSION,
};
use pmx_tests::rng::Rng;

use super::actors::{Promises, Publisher, ReportedOutcome, page};
use super::chaos::Chaos;
use super::check::{ask, chain, settle};
use super::model::Catalogue;
use super::platform::space;
use super::world::{Wire, World};
use pmx_sync::testing::client::{Network, SECRET};
use pmx_sync::testing::host::block_on;

/// A space with two deploys: of site 0, then of site 1.
fn two_deploys() -> (Rc<World>, Publisher) {
    let catalogue = Catalogue::grow(&mut Rng::new(7), 4);
    let world = World::new(Chaos::new(Rng::new(1), false), catalogue, None);
    let publisher = Publisher {
        world: Rc::clone(&world),
        promises: Promises::default(),
        space: space("docs"),
        alias: None,
        name: "one".into(),
        tries: 1,
    };
    for site in 0..2 {
        let root = world.catalogue.sites[site].root;
        let intent = publisher.wants(root, None, None, None, format!("key {site}"));
        ask(&world, publisher.publish(intent)).unwrap();
    }
    (world, publisher)
}

/// The preconditions of a commit under a key.
fn terms(expect: Option<u64>, replace: Replace, key: &str) -> CommitPreconditions {
    CommitPreconditions {
        expect,
        replace,
        key: key.to_owned(),
        order: None,
        max_delete: None,
        meta: DeployMeta::default(),
        expires: None,
        restore: Vec::new(),
    }
}

/// The body of a publish request.
fn envelope(
    root: Root,
    base: Option<Root>,
    terms: CommitPreconditions,
    sections: Vec<Section>,
) -> Vec<u8> {
    let head = BeginHead {
        v: VERSION,
        space: space("docs"),
        alias: None,
        root,
        base,
        dry: false,
        commit: Some(terms),
    };
    let head = serde_json::to_vec(&head).unwrap().into();
    Envelope { head, sections }.encode(&mut Encoder::new())
}

/// `pmx rollback` without a deploy, repeated after a lost reply: it searched the deploy before the
/// one that it had restored itself, and failed.
#[test]
fn repeated_rollback_is_answered_as_the_first_time() {
    let (world, publisher) = two_deploys();
    let head = RollbackHead {
        v: VERSION,
        space: space("docs"),
        to: None,
        expect: Some(2),
        key: "back".into(),
        meta: DeployMeta::default(),
    };
    for _ in 0..2 {
        let deploy = ask(&world, publisher.client().rollback(&head)).unwrap();
        assert_eq!((deploy.number, deploy.restores), (3, Some(1)));
    }
    assert_eq!(chain(&world, &space("docs")).len(), 3);
}

/// A commit that was repeated after a lost reply got the reply that nothing had changed.
#[test]
fn repeated_commit_is_answered_as_the_first_time() {
    let (world, publisher) = two_deploys();
    let root = world.catalogue.sites[1].root;
    let intent = publisher.wants(root, None, None, None, "key 1".into());
    // The driver would have nothing to commit, so the test sends the preconditions directly.
    let terms = terms(Some(1), Replace::Exact, &intent.key);
    let reply = post(&world, "commit", envelope(root, None, terms, Vec::new()));
    assert_eq!(
        (&reply["state"], &reply["deploy"]["number"]),
        (&"published".into(), &2.into())
    );
    let reported: Vec<ReportedOutcome> = publisher
        .promises
        .borrow()
        .iter()
        .map(|it| it.reported)
        .collect();
    assert_eq!(reported, [ReportedOutcome::Published; 2]);
}

/// A root that was deployed before needs no index object, so the space does not write the inline
/// pack. The space still recorded its blobs as stored, in an object that does not exist.
#[test]
fn pack_that_is_not_written_is_not_recorded() {
    let (world, publisher) = two_deploys();
    let (old, new) = (world.catalogue.sites[1].root, world.catalogue.sites[0].root);
    let nodes = &world.catalogue.nodes;
    let patch = encode_patch(&diff(nodes, old, nodes, new).unwrap());
    let mut pack = PackBuilder::new();
    pack.push(b"a blob that no site has").unwrap();
    let pack = pack
        .finish(&mut Encoder::new(), PackCoding::Zstd(Level::WIRE))
        .unwrap();
    let mut terms = terms(Some(2), Replace::Exact, "with a pack");
    terms.meta.message = Some("as with a pack".into());
    let section = |kind, bytes: Vec<u8>| Section {
        kind,
        bytes: bytes.into(),
    };
    let sections = vec![
        section(SectionKind::Patch, patch),
        section(SectionKind::Pack, pack.into_bytes()),
    ];
    let body = envelope(new, Some(old), terms, sections);
    let mut intent = publisher.wants(new, None, Some(2), None, "with a pack".into());
    intent.replace = Replace::Exact;
    world.account.asks(&intent);
    let reply = post(&world, "begin", body);
    assert_eq!(reply["state"], "published");
    settle(&world, &space("docs"), &publisher.promises.borrow()).unwrap();
}

fn post(world: &Rc<World>, what: &str, body: Vec<u8>) -> serde_json::Value {
    let request = Request::post(format!("/api/publish/{what}"))
        .header("host", "api.localhost")
        .header("authorization", format!("Bearer {SECRET}"))
        .body(body.into())
        .unwrap();
    let answer = ask(world, Wire(Rc::clone(world)).send(request)).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

/// The pointer of one preview could not be made, and this blocked the pointers of all channels.
#[test]
fn channel_whose_pointer_cannot_be_made_blocks_no_other() {
    let (world, mut publisher) = two_deploys();
    publisher.alias = AliasName::parse("next").ok();
    let sites = &world.catalogue.sites;
    let intent = publisher.wants(sites[2].root, None, None, None, "preview".into());
    ask(&world, publisher.publish(intent)).unwrap();
    // Makes the preview's node look as if its serving index was never written.
    let ledger = world.spaces.ledger(&space("docs")).unwrap();
    let run = |statement: &str, value: Value| ledger.inner().run(statement, &[value]).unwrap();
    let root = || Value::Blob(sites[2].root.as_bytes().to_vec());
    run("UPDATE node SET object = NULL WHERE id = ?", root());
    run(
        "INSERT INTO outbox (kind, deploy) VALUES ('pointer/next', ?), ('pointer', 4)",
        Value::Integer(6),
    );
    let (server, docs) = (world.server(), space("docs"));
    let blocked = block_on(server.deliver(&docs, world.now())).unwrap_err();
    assert!(
        blocked.to_string().contains("the pointer of preview next"),
        "{blocked}"
    );
    let left = run("SELECT kind FROM outbox WHERE deploy > ?", 0_u64.into());
    assert_eq!(left, [[Value::Text("pointer/next".into())]]);
    // The space delivers the pointer as soon as it can make it.
    run(
        "UPDATE node SET object = x'00112233445566778899aabbccddeeff' WHERE id = ?",
        root(),
    );
    let next = block_on(server.deliver(&docs, world.now())).unwrap();
    let left = run("SELECT kind FROM outbox WHERE deploy > ?", 0_u64.into());
    assert!(left.is_empty(), "{left:?}");
    // The next call is no retry of a pointer: it looks for uploads that were abandoned.
    let soon = world.now().after(Duration::from_mins(30));
    assert!(next.is_some_and(|next| next > soon), "{next:?}");
}

/// A repair by a preview's publish wrote the serving index again. The site's own pointer still
/// named the lost index, and the next sync of the site changed nothing (seed 22).
#[test]
fn channel_is_whole_after_another_channel_repaired_their_content() {
    let (world, mut publisher) = two_deploys();
    let root = world.catalogue.sites[1].root;
    publisher.alias = AliasName::parse("next").ok();
    let intent = publisher.wants(root, None, None, None, "preview".into());
    ask(&world, publisher.publish(intent)).unwrap();
    let pointer = world.pointers.find(&space("docs").into()).unwrap();
    let key = ObjectKey {
        space: pointer.space,
        object: pointer.index.object,
    };
    block_on(world.blobs.delete(&[key])).unwrap();
    world.has_losses.set(true);
    let path = world.catalogue.sites[1].files.keys().next().unwrap();
    let read = || {
        let answers = ask(&world, page(&Wire(Rc::clone(&world)), "docs", path, false));
        answers.last().unwrap().status
    };
    assert_eq!(read(), 500);
    let intent = publisher.wants(root, None, None, None, "again".into());
    ask(&world, publisher.publish(intent)).unwrap();
    assert_eq!(read(), 200);
}

/// A root had an index and was never deployed. Its publish was refused; later, a delayed copy of
/// the first request arrived. It replaced a deploy that the publisher never saw (seed 3659).
#[test]
fn late_first_request_makes_no_deploy_of_a_root_that_never_was_one() {
    let (world, publisher) = two_deploys();
    let root = world.catalogue.sites[2].root;
    let intent = publisher.wants(root, None, Some(2), None, "indexed".into());
    ask(&world, publisher.publish(intent)).unwrap();
    let ledger = world.spaces.ledger(&space("docs")).unwrap();
    let run = |statement: &str, value: u64| {
        let ran = ledger.inner().run(statement, &[value.into()]);
        ran.unwrap()
    };
    run("DELETE FROM deploy WHERE number = ?", 3);
    let terms = terms(None, Replace::Seen, "late");
    let reply = post(&world, "begin", envelope(root, None, terms, Vec::new()));
    assert_eq!(
        (&reply["state"], &reply["active"]),
        (&"ready".into(), &2.into())
    );
    assert_eq!(
        run("SELECT number FROM deploy WHERE number > ?", 2).len(),
        0
    );
}

/// A pack that the space had already in another object was given back to its sender, who deleted
/// its own. The row of the pack went, and a late repetition of the arrival was recorded: readers
/// were led to an object that does not exist (lifecycle seed 329, of an earlier order of actors).
#[test]
fn late_arrival_of_an_object_that_its_sender_deleted_is_refused() {
    let (world, _publisher) = two_deploys();
    let docs = space("docs");
    let Reply::Space(id) = call(
        &world,
        Command::Open {
            fresh: SpaceId::from_bytes([9; 16]),
        },
    )
    .unwrap() else {
        panic!("a space has an id");
    };
    let mut pack = PackBuilder::new();
    pack.push(b"a blob that no site has").unwrap();
    let pack = pack.finish(&mut Encoder::new(), PackCoding::Stored);
    let bytes = pack.unwrap().into_bytes();
    let verified = verify(&bytes, &mut Decoder::new()).unwrap();
    let mut toc = Vec::new();
    let rest = verified.rest(&mut Encoder::new(), Level::STORED);
    rest.toc.encode(&mut toc);
    let arrives = |object| {
        let command = Command::RecordPack {
            pack: PackId::of(&bytes),
            space: id,
            object,
            files_max: 1_000,
            toc: toc.clone().into(),
        };
        call(&world, command)
    };
    let [first, second] = [1, 2].map(|byte| ObjectId::from_bytes([byte; 16]));
    for object in [first, second] {
        assert!(matches!(arrives(object), Ok(Reply::Recorded(kept)) if kept == first));
    }
    let ledger = world.spaces.ledger(&docs).unwrap();
    let run = |statement: &str| ledger.inner().run(statement, &[]).unwrap();
    run("DELETE FROM pack");
    let late = arrives(second).unwrap_err();
    assert_eq!(late.code, Code::Unavailable, "{late}");
    // Only the ledger's memory of the object refuses it.
    run("DELETE FROM doomed");
    assert!(matches!(arrives(second), Ok(Reply::Recorded(kept)) if kept == second));
}

fn call(world: &Rc<World>, command: Command) -> Result<Reply, Problem> {
    block_on(world.spaces.call(&space("docs"), command, world.now()))
}
