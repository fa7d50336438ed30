//! One test binary: stories through the real CLI, simulation, golden vectors.
//!
//! A story runs in a [`world`] of its own: a temporary folder, a server process and the real `pmx`.

mod kill;
mod publish;
mod serving;
mod world;
