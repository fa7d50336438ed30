//! Publish client: blocking HTTP, and the steps of a publish.

mod build;
mod chunking;
pub mod edited_site;
pub mod http;
pub mod initial_upload;
pub mod publish;
pub mod publish_source;
pub mod pull;
pub mod remote;
mod retry;
mod upload;
mod workers;
