//! The engine of streams against a naive model, and against crashes at every step.
//!
//! `PMX_SEED=<n>` replays a seed.

mod crash;
mod long;
mod meanwhile;
mod model;
mod schedule;
mod telling;
mod world;
