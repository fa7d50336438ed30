//! Serving a site: from a request to a plan.

mod host;

pub use host::*;
