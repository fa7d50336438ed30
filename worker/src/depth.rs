//! Call depth of an object: each object that calls another adds one. The platform ends a chain
//! after sixteen calls. An alarm starts at zero.
//!
//! The object's own calls count from the request that reached it last, whatever caused them.

use std::cell::Cell;
use std::rc::Rc;

use pmx_streams::limits::HUB_DEPTH_MAX;
use worker::web_sys::Request;

/// The number of objects in the chain of a request. Only objects read it from each other. A caller
/// of a release without this header counts as one.
pub(crate) const HEADER: &str = "pmx-depth";

/// The depth of an object, shared by all of its clients of other objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Depth(Rc<Cell<usize>>);

impl Depth {
    /// Records a request of a client.
    pub(crate) fn asked_by_client(&self) {
        self.0.set(1);
    }

    /// Records a request of another object.
    pub(crate) fn asked_by_object(&self, request: &Request) {
        let said = request.headers().get(HEADER).ok().flatten();
        self.0
            .set(said.and_then(|said| said.parse().ok()).unwrap_or(1));
    }

    /// Records an alarm.
    pub(crate) fn woken_by_alarm(&self) {
        self.0.set(0);
    }

    /// The depth of an object that this one calls now.
    pub(crate) fn next(&self) -> usize {
        self.0.get().saturating_add(1)
    }

    /// Whether further calls need a new chain.
    pub(crate) fn is_deep(&self) -> bool {
        self.0.get() > HUB_DEPTH_MAX
    }
}
