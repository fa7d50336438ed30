//! The engine of streams and its subscriptions against naive models, and against crashes at every
//! step.
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
    reason = "a story is told in one piece and in plain words, fast enough for its few files"
)]

mod crash;
mod long;
mod meanwhile;
mod model;
mod reporting;
mod schedule;
mod subscriptions;
mod world;
