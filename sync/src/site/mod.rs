//! Serving a site: from a request to a plan.

mod host;
mod known;

pub use host::*;
pub use known::{Generation, Held, Known, Lookup, Need};
