//! Test support for several crates: a seeded generator and a ledger in memory. The tests live in
//! `it`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod rng;
pub mod sql;
