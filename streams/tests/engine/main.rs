//! Engine tests: streams and subscriptions against naive models, with a crash at every step.
//!
//! `PMX_SEED=<n>` replays a seed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it saw on its own output"
)]
#![allow(
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    reason = "a scenario is one function without ceremony, and fast enough"
)]

mod crash;
mod interleavings;
mod long;
mod model;
mod reporting;
mod schedule;
mod subscriptions;
mod world;
