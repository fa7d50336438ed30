//! The client's half of a conversation: plain blocking HTTP, and the steps of a publish.

pub mod ahead;
mod build;
mod crew;
pub mod http;
mod pieces;
pub mod publish;
pub mod remote;
mod retry;
mod upload;
