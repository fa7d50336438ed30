//! The embedded host.

mod blobs;
mod durable;
mod error;
mod lock;
mod pointers;
mod ready;
mod secret;
mod spaces;
mod sql;
