//! Simulated world: one server over durable state, the network before it, and all tasks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{Request, Uri};
use pmx_core::channel::Channel;
use pmx_core::codec::{Decoder, Encoder, Level};
use pmx_core::hash::Hash;
use pmx_core::id::{BlobId, NodeId, ObjectId, PackId};
use pmx_core::location::Extent;
use pmx_core::time::Timestamp;
use pmx_sync::pack::{PackCoding, wire};
use pmx_sync::serve::{Backend, Nonce, Server};
use pmx_sync::space::Command;
use pmx_sync::testing::{Faulty, MemoryBlobs, MemoryPointers, MemorySpaces, Platform};
use pmx_sync::wire::CollectReply;

use super::account::Account;
use super::bugs::{Bug, Planted};
use super::chaos::{Chaos, Hooked, yield_now, yields};
use super::model::Catalogue;
use super::mutant::Mutant;
use pmx_sync::testing::client::{Broken, Network, WholeResponse};
use pmx_sync::testing::host::{read, settings};

pub(crate) type Blobs = Faulty<MemoryBlobs, Hooked>;
pub(crate) type Pointers = Faulty<MemoryPointers, Hooked>;
pub(crate) type Spaces = MemorySpaces<Faulty<Mutant, Hooked>, Blobs>;
pub(crate) type SimServer = Server<Platform<Blobs, Pointers, Planted>>;

/// Owner of a task, whose end also ends the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The task survives the server.
    Outside,
    /// The task ends with the server that it runs on.
    Server,
}

struct Task {
    owner: Owner,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

pub(crate) struct World {
    pub(crate) chaos: Rc<Chaos>,
    pub(crate) catalogue: Catalogue,
    pub(crate) blobs: MemoryBlobs,
    pub(crate) pointers: MemoryPointers,
    pub(crate) spaces: Spaces,
    server: RefCell<Rc<SimServer>>,
    spawned: RefCell<Vec<Task>>,
    requests: Cell<u64>,
    pub(crate) crashes: Cell<u64>,
    pub(crate) bug: Option<Bug>,
    /// Whether the store lost an object.
    pub(crate) has_losses: Cell<bool>,
    /// Requests of publishers, and their replies.
    pub(crate) account: Account,
    /// Whether hours pass between requests, so that what a publish sent expires before its commit.
    pub(crate) is_slow: Cell<bool>,
    /// Objects that collections deleted.
    pub(crate) collected: Cell<u64>,
    /// Objects that compactions copied from.
    pub(crate) repacked: Cell<u64>,
    /// Arrivals of packs, which a frozen task may repeat at any later time.
    pub(crate) arrivals: Arrivals,
    /// Previews that a publisher tried to delete.
    pub(crate) removed: RefCell<BTreeSet<Channel>>,
    /// Packs that the network changed, and the blobs that they contained before.
    changed: ChangedPacks,
    /// The objects beneath index nodes that were read.
    pub(crate) walks: RefCell<Walks>,
}

type Walks = BTreeMap<(NodeId, Extent), Rc<BTreeSet<ObjectId>>>;

impl World {
    pub(crate) fn new(chaos: Rc<Chaos>, catalogue: Catalogue, bug: Option<Bug>) -> Rc<Self> {
        let hook = Hooked(Rc::clone(&chaos));
        let blobs = MemoryBlobs::default();
        let pointers = MemoryPointers::default();
        let in_spaces = Faulty::new(blobs.clone(), hook.clone());
        let spaces = MemorySpaces::new(in_spaces, move |_| {
            Faulty::new(Mutant::new(bug), hook.clone())
        });
        let changed = Rc::default();
        let arrivals = Rc::default();
        let server = started(
            &chaos,
            &blobs,
            &pointers,
            &spaces,
            bug,
            (&changed, &arrivals),
        );
        Rc::new(Self {
            chaos,
            catalogue,
            blobs,
            pointers,
            spaces,
            server: RefCell::new(server),
            spawned: RefCell::default(),
            requests: Cell::new(0),
            crashes: Cell::new(0),
            bug,
            has_losses: Cell::new(false),
            account: Account::default(),
            is_slow: Cell::new(false),
            collected: Cell::new(0),
            repacked: Cell::new(0),
            arrivals,
            removed: RefCell::default(),
            changed,
            walks: RefCell::default(),
        })
    }

    pub(crate) fn server(&self) -> Rc<SimServer> {
        Rc::clone(&self.server.borrow())
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000 + self.requests.get())
    }

    /// Advances the time, so that the rate budgets of readers are full again.
    pub(crate) fn pass(&self, time: std::time::Duration) {
        let millis = time.as_millis() as u64;
        self.requests.set(self.requests.get() + millis);
    }

    /// Counts what a step of a collection copied.
    pub(crate) fn note_step(&self, step: &CollectReply) {
        self.repacked.set(self.repacked.get() + step.repacked);
        self.chaos.note(|| format!("a step: {step:?}"));
    }

    pub(crate) fn spawn(&self, owner: Owner, future: impl Future<Output = ()> + 'static) {
        let future = Box::pin(future);
        self.spawned.borrow_mut().push(Task { owner, future });
    }

    /// Runs all tasks to their end, in an order that the seed decides. Returns the number of steps.
    pub(crate) fn run(&self) -> u64 {
        let mut tasks: Vec<Task> = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        for step in 0..STEPS_MAX {
            tasks.append(&mut self.spawned.borrow_mut());
            if tasks.is_empty() || self.chaos.violation().is_some() {
                return step;
            }
            let at = self.chaos.below(tasks.len());
            let done = tasks[at].future.as_mut().poll(&mut context).is_ready();
            if done {
                drop(tasks.swap_remove(at));
            }
            if self.chaos.take_crash() {
                tasks.retain(|task| task.owner != Owner::Server);
                self.spawned
                    .borrow_mut()
                    .retain(|task| task.owner != Owner::Server);
                self.restart();
            }
        }
        self.chaos.violate("the tasks do not come to an end");
        STEPS_MAX
    }

    pub(crate) fn restart(&self) {
        let Self {
            chaos,
            blobs,
            pointers,
            spaces,
            changed,
            arrivals,
            ..
        } = self;
        self.crashes.set(self.crashes.get() + 1);
        *self.server.borrow_mut() = started(
            chaos,
            blobs,
            pointers,
            spaces,
            self.bug,
            (changed, arrivals),
        );
    }

    /// Passes a request to the current server.
    fn serve(&self, request: Request<Bytes>, slot: Rc<Slot>) {
        let server = self.server();
        self.requests.set(self.requests.get() + 1);
        let nonce = Nonce(*Hash::of(&self.requests.get().to_le_bytes()).as_bytes());
        let now = self.now();
        let guard = BreakOnDrop(slot);
        self.spawn(Owner::Server, async move {
            let coding = request.headers().get("accept-encoding").cloned();
            let coding = coding.as_ref().and_then(|coding| coding.to_str().ok());
            let response = server.handle(request, coding, now, nonce).await;
            let answer = read(server.backend().blobs(), response).await;
            guard.0.0.replace(Some(answer));
        });
    }

    /// Changes bytes of a pack in transit: any byte, or a blob and all of its checksums.
    fn corrupted(&self, request: Request<Bytes>) -> Request<Bytes> {
        let (mut head, body) = request.into_parts();
        let pack = head
            .uri
            .path()
            .strip_prefix("/api/publish/packs/")
            .map(str::to_owned);
        if pack.is_none() || body.is_empty() {
            return Request::from_parts(head, body);
        }
        let mut bytes = body.to_vec();
        let verified = wire::verify(&body, &mut Decoder::new()).ok();
        let Some(verified) = verified.filter(|_| self.chaos.once_in(2)) else {
            let at = self.chaos.below(bytes.len());
            bytes[at] ^= 1 << self.chaos.below(8);
            self.chaos.note(|| format!("FLIP byte {at}"));
            return Request::from_parts(head, bytes.into());
        };
        let mut builder = wire::PackBuilder::new();
        let victim = self.chaos.below(verified.count());
        for (at, blob) in verified.blobs().enumerate() {
            let mut bytes = blob.bytes().to_vec();
            if at == victim && !bytes.is_empty() {
                let at = self.chaos.below(bytes.len());
                bytes[at] ^= 1;
            }
            builder.push(&bytes).unwrap();
        }
        let Some(pack) = builder.finish(&mut Encoder::new(), PackCoding::Zstd(Level::WIRE)) else {
            return Request::from_parts(head, body);
        };
        let ids = verified.blobs().map(|blob| blob.id()).collect();
        self.changed.borrow_mut().insert(pack.id(), ids);
        self.chaos
            .note(|| format!("SWAP a blob of a pack, now {}", pack.id()));
        let query = head.uri.query().unwrap_or_default();
        let uri = format!("/api/publish/packs/{}?{query}", pack.id());
        head.uri = uri.parse::<Uri>().unwrap();
        let bytes = Bytes::from(pack.into_bytes());
        head.headers.insert("content-length", bytes.len().into());
        Request::from_parts(head, bytes)
    }
}

/// Packs that the network changed, and the blobs that they contained before.
type ChangedPacks = Rc<RefCell<BTreeMap<PackId, Vec<BlobId>>>>;

type Arrivals = Rc<RefCell<Vec<(Command, Timestamp)>>>;

/// More steps than any schedule takes.
const STEPS_MAX: u64 = 300_000;

fn started(
    chaos: &Rc<Chaos>,
    blobs: &MemoryBlobs,
    pointers: &MemoryPointers,
    spaces: &Spaces,
    bug: Option<Bug>,
    (changed, arrivals): (&ChangedPacks, &Arrivals),
) -> Rc<SimServer> {
    let hook = Hooked(Rc::clone(chaos));
    let pointers = Faulty::new(pointers.clone(), hook.clone());
    let spaces = Planted {
        bug,
        plain: spaces.clone(),
        faulty: Faulty::new(spaces.clone(), hook.clone()),
        pointers: pointers.clone(),
        changed: Rc::clone(changed),
        arrivals: Rc::clone(arrivals),
    };
    let blobs = Faulty::new(blobs.clone(), hook);
    Rc::new(Server::new(
        Platform {
            blobs,
            pointers,
            spaces,
        },
        settings(),
    ))
}

/// Slot for the response to a request.
#[derive(Default)]
struct Slot(RefCell<Option<Result<WholeResponse, Broken>>>);

/// Breaks the connection if the server ends before it responded.
struct BreakOnDrop(Rc<Slot>);

impl Drop for BreakOnDrop {
    fn drop(&mut self) {
        self.0.0.borrow_mut().get_or_insert(Err(Broken));
    }
}

/// The network between all clients and the server.
#[derive(Clone)]
pub(crate) struct Wire(pub(crate) Rc<World>);

impl Wire {
    /// Delivers a request after a delay, even if its sender does not wait for it.
    fn deliver(&self, request: Request<Bytes>, delay: usize, slot: &Rc<Slot>) {
        if delay == 0 {
            return self.0.serve(request, Rc::clone(slot));
        }
        let (world, slot) = (Rc::clone(&self.0), Rc::clone(slot));
        self.0.spawn(Owner::Outside, async move {
            yields(delay).await;
            world.chaos.note(|| format!("late {}", request.uri()));
            world.serve(request, slot);
        });
    }
}

impl Network for Wire {
    async fn send(&self, request: Request<Bytes>) -> Result<WholeResponse, Broken> {
        let chaos = &self.0.chaos;
        let rates = chaos.rates().unwrap_or_default();
        let line = format!("{} {}", request.method(), request.uri());
        yield_now().await;
        if chaos.once_in(rates.lost_request) {
            chaos.note(|| format!("LOST request {line}"));
            return Err(Broken);
        }
        chaos.note(|| line.clone());
        if chaos.once_in(rates.duplicate) {
            // Some requests arrive soon, some much later.
            let delay = if chaos.once_in(3) { 200 } else { 12 };
            let delay = chaos.below(delay);
            chaos.note(|| format!("DUPLICATE {line} after {delay}"));
            self.deliver(request.clone(), delay, &Rc::default());
        }
        let request = if chaos.once_in(rates.corrupt) {
            self.0.corrupted(request)
        } else {
            request
        };
        let delay = if chaos.once_in(rates.delay) {
            chaos.below(40)
        } else {
            0
        };
        let patience = chaos.once_in(rates.timeout).then(|| chaos.below(30));
        let slot = Rc::new(Slot::default());
        self.deliver(request, delay, &slot);
        for waited in 0.. {
            let answer = slot.0.borrow_mut().take();
            if let Some(answer) = answer {
                if chaos.once_in(rates.lost_reply) {
                    chaos.note(|| format!("LOST reply to {line}"));
                    return Err(Broken);
                }
                let status = answer.as_ref().map(|answer| answer.status.as_u16());
                chaos.note(|| format!("{status:?} to {line}"));
                return answer;
            }
            if patience == Some(waited) {
                chaos.note(|| format!("TIMEOUT of {line}"));
                return Err(Broken);
            }
            yield_now().await;
        }
        Err(Broken)
    }
}
