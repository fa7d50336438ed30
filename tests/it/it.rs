//! One test binary: stories through the real CLI, simulation, golden vectors.
//!
//! A story runs in a [`world`] of its own: a temporary folder, a server process and the real `pmx`.
//! [`tidy`] fails if a file beside this one is not declared here.

mod badinput;
mod conversation;
mod golden;
mod kill;
mod publish;
mod serving;
mod sim;
mod tidy;
mod world;
