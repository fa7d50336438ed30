//! Test world: one space, and isolates whose pointers lag.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::hash::Hash;
use pmx_core::id::{BlobId, NodeId, ObjectId, SpaceId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_core::name::SpaceName;

use super::super::*;
use crate::index::IndexNode;
use crate::limits::ASSET_RETENTION_DEPLOYS;
use crate::manifest::{Entry, Row};
use crate::media::Media;
use crate::path::SitePath;
use crate::serve::{Body, DictionaryPolicy, Nonce, ServerSettings};
use crate::testing::{MemoryBlobs, Platform, ready, settings};

/// Pseudorandom numbers of a seed.
pub(super) struct Chance(Cell<u64>);

impl Chance {
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.set(self.0.get() + 1);
        let hash = Hash::of(&self.0.get().to_le_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) % bound
    }
}

/// The deploys of all channels as their spaces record them: pointers, and times of publish.
#[derive(Default)]
pub(super) struct PublishedDeploys {
    pub(super) deploys: RefCell<BTreeMap<Channel, Vec<(Timestamp, Pointer)>>>,
    pub(super) asked: RefCell<Vec<(usize, Channel, Timestamp)>>,
    pub(super) fails: Cell<bool>,
    pub(super) is_slow: Cell<bool>,
}

/// The pointers as one isolate sees them.
pub(super) struct Late {
    ledger: Rc<PublishedDeploys>,
    now: Rc<Cell<Timestamp>>,
    chance: Rc<Chance>,
    /// Whether `may_lag` returns true.
    admits: bool,
    /// The pointers that this location caches, and until when.
    kept: RefCell<BTreeMap<Channel, (Timestamp, Option<Pointer>)>>,
    pub(super) seen: RefCell<BTreeMap<Channel, Pointer>>,
}

pub(super) struct Asked {
    ledger: Rc<PublishedDeploys>,
    isolate: usize,
}

/// A request in progress.
pub(super) type Underway<'a> = Pin<Box<dyn Future<Output = Response<Body>> + 'a>>;

pub(super) type Isolate = Server<Platform<MemoryBlobs, Late, Asked>>;

impl Late {
    /// The platform's current value, which the location then caches.
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

impl PublishedDeploys {
    pub(super) fn newest(&self, channel: &Channel) -> Option<(Timestamp, Pointer)> {
        self.deploys.borrow().get(channel)?.last().cloned()
    }

    pub(super) fn note(&self, question: (usize, Channel, Timestamp)) {
        self.asked.borrow_mut().push(question);
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.borrow().len()
    }
}

pub(super) struct World {
    pub(super) ledger: Rc<PublishedDeploys>,
    pub(super) blobs: MemoryBlobs,
    pub(super) now: Rc<Cell<Timestamp>>,
    pub(super) chance: Rc<Chance>,
    pub(super) isolates: Vec<Isolate>,
    pub(super) last: Cell<u64>,
}

impl World {
    pub(super) fn new(seed: u64, isolates: usize, admits: bool) -> Self {
        let ledger: Rc<PublishedDeploys> = Rc::default();
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
            Server::new(platform, without_dictionaries())
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

    pub(super) fn pass(&self, millis: u64) {
        self.now
            .set(self.now.get().after(Duration::from_millis(millis)));
    }

    /// Publishes a page and a file that it loads, under a name that no other deploy has.
    pub(super) fn publish(&self, channel: &Channel) {
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
            rules: false,
            events: false,
            gone: false,
            base: 0,
            expires: None,
            revision: 0,
        };
        deploys.push((self.now.get(), pointer));
    }

    pub(super) fn asking(&self, isolate: usize, channel: &Channel, path: &str) -> Underway<'_> {
        let request = Request::get(path)
            .header("host", format!("{channel}.localhost"))
            .body(Bytes::new())
            .unwrap();
        let nonce = Nonce([1; 32]);
        let answer = self.isolates[isolate].handle(request, None, self.now.get(), nonce);
        Box::pin(answer)
    }

    pub(super) fn get(&self, isolate: usize, channel: &Channel, path: &str) -> Response<Body> {
        ready(self.asking(isolate, channel, path))
    }

    pub(super) fn status(&self, isolate: usize, channel: &Channel, path: &str) -> u16 {
        self.get(isolate, channel, path).status().as_u16()
    }

    pub(super) fn any(&self) -> usize {
        self.chance.below(self.isolates.len() as u64) as usize
    }
}

fn without_dictionaries() -> ServerSettings {
    ServerSettings {
        dictionaries: DictionaryPolicy::Stopped,
        ..settings()
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

pub(super) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

pub(super) fn channel(label: &str) -> Channel {
    Channel::of_label(label).unwrap()
}
