//! Test fixtures: settings, a pointer, and a way to poll a future that never waits.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pmx_core::domain::Domain;
use pmx_core::id::{NodeId, ObjectId, SpaceId};
use pmx_core::location::Extent;

use crate::pointer::Pointer;
use crate::serve::{DictionaryPolicy, LivePages, ServerSettings, SiteUrls};
use crate::site::Hosts;

/// The settings of a server for `localhost` without a secret.
///
/// # Panics
///
/// Never: `localhost` is a domain.
pub fn settings() -> ServerSettings {
    ServerSettings {
        hosts: Hosts::new(Domain::parse("localhost").expect("localhost is a domain")),
        publish_secret: None,
        urls: SiteUrls {
            scheme: "http",
            port: None,
        },
        live: LivePages::Chosen,
        shows_rules: false,
        dictionaries: DictionaryPolicy::Passed,
        lease: crate::space::LEASE,
        files_max: crate::limits::FILES_MAX,
        section_raw_bytes_max: pmx_core::limits::SECTION_RAW_BYTES_MAX,
    }
}

/// A pointer to a deploy without earlier ones, whose index does not exist.
pub fn pointer(deploy: u64) -> Pointer {
    Pointer {
        space: SpaceId::from_bytes([1; 16]),
        deploy,
        root: NodeId::of(b"root"),
        index: Extent {
            object: ObjectId::from_bytes([0; 16]),
            offset: 0,
            len: 1,
        },
        earlier: Vec::new(),
        live: false,
        rules: false,
        events: false,
        gone: false,
        base: 0,
        expires: None,
        revision: 0,
    }
}

/// The output of a future that never waits, because it only uses memory.
///
/// # Panics
///
/// If the future waits.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future in memory waits for something"),
    }
}
