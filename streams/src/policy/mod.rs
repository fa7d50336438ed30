//! What the operator of streams decides: who may do what with which of them, how often, and what
//! caches may keep of it.
//!
//! All of it is pure: settings are parsed into values, a request's head and `now` go in, and a
//! decision comes out. The platforms read variables and clocks and carry the decisions out.

mod access;
mod access_mode;
mod caching;
mod metrics;
mod rate;
mod timing;
mod token;

pub use access::{Access, Claimable, Principal};
pub use access_mode::{AccessMode, AccessVars, InvalidAccess};
pub(crate) use caching::{AS_IT_COMES, KEYS, REVALIDATED};
pub use caching::{Audience, CacheMode, InvalidCacheMode};
pub use metrics::{DataPoint, Operation};
pub(crate) use rate::whole_seconds;
pub use rate::{Counted, InvalidRate, Limiter, Per, Rate, Rates, Traffic};
pub use timing::{DEBUG_TIMING, Step, Timing};
pub use token::{Claims, ClientId, InvalidClaims, InvalidKeys, Keys, Refused, Scope};
