//! Publish client: blocking HTTP, and the steps of a publish.

mod build;
mod chunking;
pub mod http;
pub mod initial_upload;
pub mod publish;
pub mod pull;
pub mod remote;
mod retry;
mod upload;
mod workers;
