//! Isolates over one space, each of which sees pointers late in its own way, also that there are
//! none.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::domain::Domain;
use pmx_core::hash::Hash;
use pmx_core::id::{BlobId, NodeId, ObjectId, SpaceId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_core::name::SpaceName;

use super::super::pointer_answers::SPAN;
use super::*;
use crate::index::IndexNode;
use crate::limits::ASSET_RETENTION_DEPLOYS;
use crate::manifest::{Entry, Row};
use crate::media::Media;
use crate::path::SitePath;
use crate::serve::{Body, Dictionaries, LivePages, Nonce, Settings, SiteUrls};
use crate::site::Hosts;
use crate::testing::{MemoryBlobs, Platform};

/// Pseudorandom numbers of a seed.
struct Chance(Cell<u64>);

impl Chance {
    fn below(&self, bound: u64) -> u64 {
        self.0.set(self.0.get() + 1);
        let hash = Hash::of(&self.0.get().to_le_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) % bound
    }
}

/// The deploys of all channels, as their spaces have them: pointers, and when they were published.
#[derive(Default)]
struct Ledger {
    deploys: RefCell<BTreeMap<Channel, Vec<(Timestamp, Pointer)>>>,
    asked: RefCell<Vec<(usize, Channel, Timestamp)>>,
    fails: Cell<bool>,
    is_slow: Cell<bool>,
}

/// What one isolate sees of the pointers.
struct Late {
    ledger: Rc<Ledger>,
    now: Rc<Cell<Timestamp>>,
    chance: Rc<Chance>,
    /// Whether it says that it may lag.
    admits: bool,
    /// What its location keeps, and until when.
    kept: RefCell<BTreeMap<Channel, (Timestamp, Option<Pointer>)>>,
    seen: RefCell<BTreeMap<Channel, Pointer>>,
}

struct Asked {
    ledger: Rc<Ledger>,
    isolate: usize,
}

/// A request under way.
type Underway<'a> = Pin<Box<dyn Future<Output = Response<Body>> + 'a>>;

type Isolate = Server<Platform<MemoryBlobs, Late, Asked>>;

impl Late {
    /// What the platform has by now, which the location then keeps: it is late.
    fn fetched(&self, channel: &Channel, now: Timestamp) -> Option<Pointer> {
        let late = Duration::from_millis(self.chance.below(90_000));
        let deploys = self.ledger.deploys.borrow();
        let deploys = deploys.get(channel).into_iter().flatten();
        let mut arrived = deploys.filter(|(at, _)| at.after(late) <= now);
        let newest = arrived.next_back().map(|(_, pointer)| pointer.clone());
        let span = Duration::from_millis(30_000 + self.chance.below(30_000));
        let kept = (now.after(span), newest.clone());
        self.kept.borrow_mut().insert(channel.clone(), kept);
        newest
    }
}

impl Pointers for Late {
    async fn read(&self, channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        let now = self.now.get();
        let kept = self.kept.borrow().get(channel).cloned();
        let kept = kept.filter(|(until, _)| now < *until);
        let read = kept.map_or_else(|| self.fetched(channel, now), |(_, kept)| kept);
        let seen = self.seen.borrow().get(channel).cloned();
        Ok(match (seen, read) {
            (Some(seen), Some(read)) if is_newer(&read, &seen) => Some(read),
            (Some(seen), _) => Some(seen),
            (None, read) => read,
        })
    }

    async fn write(&self, _: &Channel, _: &Pointer) -> Result<(), BackendError> {
        Ok(())
    }

    fn may_lag(&self) -> bool {
        self.admits
    }

    fn note(&self, channel: &Channel, pointer: &Pointer) {
        // Memory is short.
        if self.chance.below(4) > 0 {
            let mut seen = self.seen.borrow_mut();
            seen.insert(channel.clone(), pointer.clone());
        }
    }
}

impl Spaces for Asked {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let alias = match command {
            Command::Locate { deploy } => match deploy {
                Selector::Active => None,
                Selector::Alias(alias) => Some(alias),
                Selector::Number(_) => return Err(Problem::new(Code::DeployUnknown, "none")),
            },
            other => panic!("a reader asked for {}", other.name()),
        };
        let space = space.clone();
        let channel = Channel { space, alias };
        self.ledger.note((self.isolate, channel.clone(), now));
        poll_until(|| !self.ledger.is_slow.get()).await;
        if self.ledger.fails.get() {
            return Err(Problem::new(Code::Storage, "the space does not answer"));
        }
        match self.ledger.newest(&channel) {
            Some((_, pointer)) => Ok(Reply::Pointer(Box::new(pointer))),
            None => Err(Problem::new(Code::NotFound, "there is no such channel")),
        }
    }
}

async fn poll_until(is_over: impl Fn() -> bool) {
    std::future::poll_fn(|_| {
        if is_over() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

impl Ledger {
    fn newest(&self, channel: &Channel) -> Option<(Timestamp, Pointer)> {
        self.deploys.borrow().get(channel)?.last().cloned()
    }

    fn note(&self, question: (usize, Channel, Timestamp)) {
        self.asked.borrow_mut().push(question);
    }

    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }
}

struct World {
    ledger: Rc<Ledger>,
    blobs: MemoryBlobs,
    now: Rc<Cell<Timestamp>>,
    chance: Rc<Chance>,
    isolates: Vec<Isolate>,
    last: Cell<u64>,
}

impl World {
    fn new(seed: u64, isolates: usize, admits: bool) -> Self {
        let ledger: Rc<Ledger> = Rc::default();
        let blobs = MemoryBlobs::default();
        let now = Rc::new(Cell::new(Timestamp::from_millis(1_700_000_000_000)));
        let chance = Rc::new(Chance(Cell::new(seed << 32)));
        let isolate = |isolate| {
            let pointers = Late {
                ledger: Rc::clone(&ledger),
                now: Rc::clone(&now),
                chance: Rc::clone(&chance),
                admits,
                kept: RefCell::default(),
                seen: RefCell::default(),
            };
            let spaces = Asked {
                ledger: Rc::clone(&ledger),
                isolate,
            };
            let blobs = blobs.clone();
            let platform = Platform {
                blobs,
                pointers,
                spaces,
            };
            Server::new(platform, settings())
        };
        let isolates = (0..isolates).map(isolate).collect();
        Self {
            ledger,
            blobs,
            now,
            chance,
            isolates,
            last: Cell::new(0),
        }
    }

    fn pass(&self, millis: u64) {
        self.now
            .set(self.now.get().after(Duration::from_millis(millis)));
    }

    /// Publishes a page and what it loads, under a name that no other deploy has.
    fn publish(&self, channel: &Channel) {
        let number = self.last.get() + 1;
        self.last.set(number);
        let object = ObjectId::from_bytes([number as u8; 16]);
        let mut bytes = Vec::new();
        let mut rows = Vec::new();
        for (path, content) in [
            (format!("app-{number}.js"), "script"),
            ("index.html".to_owned(), "page"),
            (format!("post-{number}.html"), "post"),
        ] {
            rows.push((row(&path, content.as_bytes()), at(object, &bytes, content)));
            bytes.extend_from_slice(content.as_bytes());
        }
        let index_node = IndexNode::Leaf(rows);
        let root = NodeId::of(&index_node.node().encode());
        let index_node = index_node.encode();
        let index = Extent {
            object,
            offset: bytes.len() as u64,
            len: index_node.len() as u64,
        };
        bytes.extend_from_slice(&index_node);
        let space = SpaceId::from_bytes([1; 16]);
        ready(self.blobs.write(ObjectKey { space, object }, bytes.into())).unwrap();
        let mut deploys = self.ledger.deploys.borrow_mut();
        let deploys = deploys.entry(channel.clone()).or_default();
        let before = deploys.iter().rev().take(ASSET_RETENTION_DEPLOYS);
        let pointer = Pointer {
            space,
            deploy: number,
            root,
            index,
            earlier: before.map(|(_, it)| (it.root, it.index)).collect(),
            live: false,
            events: false,
            gone: false,
        };
        deploys.push((self.now.get(), pointer));
    }

    fn asking(&self, isolate: usize, channel: &Channel, path: &str) -> Underway<'_> {
        let request = Request::get(path)
            .header("host", format!("{channel}.localhost"))
            .body(Bytes::new())
            .unwrap();
        let nonce = Nonce([1; 32]);
        let answer = self.isolates[isolate].handle(request, None, self.now.get(), nonce);
        Box::pin(answer)
    }

    fn get(&self, isolate: usize, channel: &Channel, path: &str) -> Response<Body> {
        ready(self.asking(isolate, channel, path))
    }

    fn status(&self, isolate: usize, channel: &Channel, path: &str) -> u16 {
        self.get(isolate, channel, path).status().as_u16()
    }

    fn any(&self) -> usize {
        self.chance.below(self.isolates.len() as u64) as usize
    }
}

fn settings() -> Settings {
    Settings {
        hosts: Hosts::new(Domain::parse("localhost").unwrap()),
        publish_secret: None,
        urls: SiteUrls {
            scheme: "http",
            port: None,
        },
        live: LivePages::Chosen,
        dictionaries: Dictionaries::Stopped,
        lease: crate::space::LEASE,
        files_max: crate::limits::FILES_MAX,
        section_raw_bytes_max: pmx_core::limits::SECTION_RAW_BYTES_MAX,
    }
}

fn row(path: &str, content: &[u8]) -> Row {
    let path = SitePath::parse(path).unwrap();
    let media = match path.extension() {
        Some("html") => "text/html",
        _ => "text/javascript",
    };
    let entry = Entry {
        blob: BlobId::of(content),
        size: content.len() as u64,
        media: Media::parse(media).unwrap(),
    };
    Row { path, entry }
}

fn at(object: ObjectId, before: &[u8], content: &str) -> Location {
    let extent = Extent {
        object,
        offset: before.len() as u64,
        len: content.len() as u64,
    };
    let codec = Codec::Stored;
    Location { extent, codec }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll(future.as_mut()).expect("nothing in memory waits")
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

fn channel(label: &str) -> Channel {
    Channel::of_label(label).unwrap()
}

/// How often a reader was not given what is there, 5 s or more after it was published.
fn losses(seed: u64, admits: bool) -> usize {
    let world = World::new(seed, 3, admits);
    let channels = ["docs", "pr-7--docs", "blog"].map(channel);
    let mut losses = 0;
    for _ in 0..120 {
        let channel = &channels[world.chance.below(3) as usize];
        world.pass(world.chance.below(9_000));
        match world.chance.below(6) {
            0 => world.publish(channel),
            1 => drop(world.get(world.any(), channel, "/nothing")),
            _ => {}
        }
        let Some((published, newest)) = world.ledger.newest(channel) else {
            drop(world.get(world.any(), channel, "/"));
            continue;
        };
        let is_due = published.after(SPAN) <= world.now.get();
        let page = world.get(world.any(), channel, "/");
        let shown = page.headers().get("x-pmx-deploy");
        let shown = shown.filter(|_| page.status() == 200);
        let shown = shown.map(|shown| shown.to_str().unwrap().parse::<u64>().unwrap());
        // What the page loads, and what its author looks at.
        let deploy = newest.deploy;
        let mut paths = vec![format!("/app-{deploy}.js"), format!("/post-{deploy}")];
        let deploys = world.ledger.deploys.borrow()[channel].clone();
        let kept = deploys.iter().rev().take(ASSET_RETENTION_DEPLOYS);
        let mut kept = kept.map(|(_, pointer)| pointer.deploy);
        if let Some(shown) = shown.filter(|shown| kept.any(|kept| kept == *shown)) {
            paths.push(format!("/app-{shown}.js"));
        }
        let is_lost = |path: &String| world.status(world.any(), channel, path) != 200;
        let lost = paths.iter().filter(|path| is_lost(path)).count();
        if is_due {
            losses += lost + usize::from(shown.is_none());
        }
    }
    losses
}

const SEEDS: u64 = 60;

#[test]
fn what_was_published_five_seconds_ago_is_found_on_every_isolate() {
    for seed in 0..SEEDS {
        assert_eq!(losses(seed, true), 0, "seed {seed}");
    }
}

/// The platform of the test above does lose what is there for a server that trusts it.
#[test]
fn servers_that_ask_no_space_lose_what_was_published() {
    let is_lossy = |seed: &u64| losses(*seed, false) > 0;
    assert_eq!((0..SEEDS).filter(is_lossy).count() as u64, SEEDS);
}

#[test]
fn one_question_in_five_seconds_for_all_paths_of_a_channel() {
    for is_there in [true, false] {
        let world = World::new(1, 1, true);
        let docs = channel("docs");
        if is_there {
            world.publish(&docs);
            world.pass(100_000);
        }
        for number in 0..4_000 {
            let path = format!("/nothing-{number}");
            assert_eq!(world.status(0, &docs, &path), 404);
            world.pass(5);
        }
        assert_eq!(world.ledger.asked(), 4);
        // What no file can have is not asked for.
        world.pass(5_000);
        for path in ["/_pmx/nothing", "/_events/nothing", "/%2f"] {
            assert_eq!(world.status(0, &docs, path), 404, "{path}");
        }
        assert_eq!(world.ledger.asked(), 4);
    }
}

#[test]
fn newer_pointer_ends_an_answer() {
    let world = World::new(1, 1, true);
    let docs = channel("docs");
    world.publish(&docs);
    world.pass(100_000);
    assert_eq!(world.status(0, &docs, "/app-2.js"), 404);
    world.publish(&docs);
    let (_, pointer) = world.ledger.newest(&docs).unwrap();
    assert_eq!(
        world.status(0, &docs, "/app-2.js"),
        404,
        "the answer counts"
    );
    let seen = &world.isolates[0].backend().pointers.seen;
    seen.borrow_mut().insert(docs.clone(), pointer);
    world.publish(&docs);
    assert_eq!(world.status(0, &docs, "/app-3.js"), 200);
    assert_eq!(world.ledger.asked(), 2);
}

/// Polls requests in turns until all are answered.
fn all(mut asking: Vec<Underway<'_>>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..10_000 {
        asking.retain_mut(|asking| match poll(asking.as_mut()) {
            Some(answer) => {
                statuses.push(answer.status().as_u16());
                false
            }
            None => true,
        });
    }
    assert!(asking.is_empty(), "{} requests wait", asking.len());
    statuses
}

#[test]
fn one_request_asks_for_all_that_wait() {
    let world = World::new(1, 1, true);
    let docs = channel("docs");
    assert_eq!(world.status(0, &docs, "/"), 404);
    world.publish(&docs);
    world.pass(5_000);
    world.ledger.is_slow.set(true);
    let mut asking: Vec<_> = (0..50)
        .map(|_| world.asking(0, &docs, "/app-1.js"))
        .collect();
    for asking in &mut asking {
        assert!(poll(asking.as_mut()).is_none());
    }
    world.ledger.is_slow.set(false);
    assert_eq!(all(asking), [200; 50]);
    assert_eq!(world.ledger.asked(), 2);
}

#[test]
fn request_that_is_gone_holds_up_no_other() {
    for is_dropped in [true, false] {
        let world = World::new(1, 1, true);
        let docs = channel("docs");
        world.publish(&docs);
        world.ledger.is_slow.set(true);
        let mut gone = world.asking(0, &docs, "/app-1.js");
        assert!(poll(gone.as_mut()).is_none());
        let asking = (0..50).map(|_| world.asking(0, &docs, "/app-1.js"));
        let mut asking: Vec<_> = asking.collect();
        for asking in &mut asking {
            assert!(poll(asking.as_mut()).is_none());
        }
        if is_dropped {
            drop(gone);
        } else {
            // As an isolate does with a request whose client has left.
            std::mem::forget(gone);
        }
        world.ledger.is_slow.set(false);
        assert_eq!(all(asking), [200; 50]);
        assert_eq!(world.ledger.asked(), 2);
    }
}

#[test]
fn space_that_does_not_answer_is_asked_once_a_second() {
    let world = World::new(1, 1, true);
    let docs = channel("docs");
    world.publish(&docs);
    world.ledger.fails.set(true);
    let mut failed = 0;
    for _ in 0..3_000 {
        let answer = world.get(0, &docs, "/");
        match answer.status() {
            StatusCode::SERVICE_UNAVAILABLE => {
                assert!(answer.headers().contains_key("retry-after"));
            }
            _ => failed += 1,
        }
        assert_ne!(answer.status(), 404);
        world.pass(1);
    }
    assert_eq!((failed, world.ledger.asked()), (3, 3));
    world.ledger.fails.set(false);
    world.pass(1_000);
    assert_eq!(world.status(0, &docs, "/"), 200);
}
