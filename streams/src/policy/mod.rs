//! Operator policy: access, rate limits, caching, timing and metrics of streams.
//!
//! The policy is pure: it decides from parsed settings, a request's head and the time. The
//! platforms read variables and clocks, and apply the decisions.

mod access;
mod access_mode;
mod caching;
mod metrics;
mod rate;
mod timing;
mod token;

pub use access::{Access, Claimable, Principal};
pub use access_mode::{AccessMode, AccessVars, InvalidAccess};
pub use caching::{CacheMode, InvalidCacheMode, Visibility};
pub(crate) use caching::{EVENT_STREAM, KEYS, REVALIDATED};
pub use metrics::{DataPoint, Operation};
pub(crate) use rate::whole_seconds;
pub use rate::{Counted, InvalidRate, Limiter, Per, Rate, RateClass, Rates};
pub use timing::{DEBUG_TIMING, TimedStep, Timing};
pub use token::{Claims, ClientId, InvalidClaims, InvalidKeys, Keys, Refused, TokenScope};
