//! Publish client: blocking HTTP, and the steps of a publish.

pub mod backup;
mod build;
mod chunking;
pub mod edited_site;
pub mod http;
pub mod initial_upload;
pub mod publish;
pub mod publish_source;
pub mod pull;
pub mod remote;
pub mod restore;
mod restored_site;
mod retry;
mod upload;
mod workers;
