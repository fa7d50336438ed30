//! Native half: the commands of `pmx`, its HTTP client, and the embedded host.
//!
//! A command goes from [`args`] and [`config`] through [`run`], and everything it says goes
//! through [`ui`]. The folder is read by `pmx_sync::scan`, the conversation is decided by
//! `pmx_sync::push`, and [`client`] carries it. [`host`] is the other side, on this machine.

mod address;
mod allocator;
pub mod args;
pub mod cache;
pub mod ci;
pub mod client;
pub mod config;
pub mod env;
pub mod error;
mod files;
pub mod host;
mod http_client;
pub mod interrupt;
pub mod max_delete;
pub mod order;
mod owner;
pub mod run;
pub mod server;
pub mod source_tree;
mod suggest;
pub mod token;
pub mod trust;
pub mod ui;
mod warnings;
