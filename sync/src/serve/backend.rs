//! Platform ports: the traits that a host implements. Few methods, no `Send` bounds, no decisions.
//!
//! The futures carry no `Send` bound, because those of a Worker have none. A native host names its
//! concrete types where it spawns, and the compiler checks `Send` there.

use std::future::{Future, poll_fn};
use std::task::Poll;

use pmx_core::backend::{BackendError, Blobs};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use crate::domains::{CustomHost, DomainRegistry, Resolver, Route};
use crate::pointer::Pointer;
use crate::space::{Command, Reply};

/// Pointer store (KV or a table): readers find there the active deploy of a site and of its
/// previews. The store may lag behind the space, but never goes back. A write whose
/// [`Pointer::order`] is smaller than that of the stored pointer MUST change nothing.
pub trait Pointers {
    /// Reads the pointer of a channel.
    fn read(
        &self,
        channel: &Channel,
    ) -> impl Future<Output = Result<Option<Pointer>, BackendError>>;

    /// Replaces the pointer of a channel.
    fn write(
        &self,
        channel: &Channel,
        pointer: &Pointer,
    ) -> impl Future<Output = Result<(), BackendError>>;

    /// Whether a reader may see an older pointer than the space has, or none where one exists. Then
    /// the server asks the space before it answers that something does not exist.
    fn may_lag(&self) -> bool;

    /// Waits some milliseconds, for a request that waits until another one has asked the space.
    /// Each request waits on its own, because a platform may end the other one at any time.
    fn pause(&self) -> impl Future<Output = ()> {
        let mut is_over = false;
        poll_fn(move |context| {
            if std::mem::replace(&mut is_over, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Records a pointer that the space itself reported to a reader, so that the next reader of
    /// this process does not ask the space again.
    fn note(&self, _channel: &Channel, _pointer: &Pointer) {}
}

/// How a command reaches the single writer of its space.
pub trait Spaces {
    /// Carries out a command. An `Err` is an answer for the client; a failure of the platform has
    /// the code of storage.
    fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> impl Future<Output = Result<Reply, Problem>>;

    /// Lists names that have or had a space: a page of about `most`, after the place that the page
    /// before named. A name may come twice.
    fn names(
        &self,
        _after: Option<&str>,
        _most: usize,
    ) -> impl Future<Output = Result<NamesPage, Problem>> {
        let detail = "this platform does not list its spaces";
        std::future::ready(Err(Problem::new(Code::NotConfigured, detail)))
    }
}

/// A page of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamesPage {
    /// The names.
    pub names: Vec<SpaceName>,
    /// The place of the next page, if there is one.
    pub next: Option<String>,
}

/// The readers' copy of the routes of custom hosts (KV or memory). It may lag behind the registry.
pub trait DomainRoutes {
    /// Reads the route of a host.
    fn route(
        &self,
        host: &CustomHost,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Route>, BackendError>>;
}

/// The four seams of a platform.
pub trait Backend {
    /// The platform's object store.
    type Blobs: Blobs;
    /// The platform's pointer store.
    type Pointers: Pointers;
    /// The platform's spaces.
    type Spaces: Spaces;
    /// The platform's domains: the registry, its readers' copy, and the resolver.
    type Domains: DomainRegistry + DomainRoutes + Resolver;

    /// The object store.
    fn blobs(&self) -> &Self::Blobs;
    /// The pointer store.
    fn pointers(&self) -> &Self::Pointers;
    /// The spaces.
    fn spaces(&self) -> &Self::Spaces;
    /// The domains.
    fn domains(&self) -> &Self::Domains;
}
