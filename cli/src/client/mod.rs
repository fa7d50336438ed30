//! The client's half of a conversation: plain blocking HTTP, and the steps of a publish.

pub mod http;
pub mod publish;
mod retry;
mod upload;
