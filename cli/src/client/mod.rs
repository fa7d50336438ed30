//! The client's half of a conversation: plain blocking HTTP, and the steps of a publish.

pub mod http;
mod retry;
