//! One test binary: stories, and the simulation.

mod conversation;
mod sim;
