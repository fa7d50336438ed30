//! Call depth of an object: each object that calls another adds one, and the platform ends a chain
//! after sixteen. An alarm starts at zero.
//!
//! What an object sends counts from the request that reached it last, whatever its cause.

use std::cell::Cell;
use std::rc::Rc;

use pmx_streams::limits::HUB_DEPTH_MAX;
use worker::web_sys::Request;

/// Says how many objects were asked for a request. Only objects read it, of each other; a release
/// that does not know it counts from one.
pub(crate) const HEADER: &str = "pmx-depth";

/// The depth of an object, shared by all that it asks with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Depth(Rc<Cell<usize>>);

impl Depth {
    /// A client asks.
    pub(crate) fn asked_by_client(&self) {
        self.0.set(1);
    }

    /// Another object asks.
    pub(crate) fn asked_by_object(&self, request: &Request) {
        let said = request.headers().get(HEADER).ok().flatten();
        self.0
            .set(said.and_then(|said| said.parse().ok()).unwrap_or(1));
    }

    /// An alarm rings.
    pub(crate) fn rung(&self) {
        self.0.set(0);
    }

    /// How deep an object is that is asked now.
    pub(crate) fn next(&self) -> usize {
        self.0.get().saturating_add(1)
    }

    /// Whether what follows has to begin anew.
    pub(crate) fn is_deep(&self) -> bool {
        self.0.get() > HUB_DEPTH_MAX
    }
}
