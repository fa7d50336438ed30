//! Command line `pmx`: its commands, its HTTP client, and the embedded host.
//!
//! [`args`] and [`config`] prepare a command, [`run`] executes it, and [`ui`] prints all of its
//! output. `pmx_sync::scan` reads the folder. `pmx_sync::push` decides the steps of a publish, and
//! [`client`] performs them. [`host`] is the server side, on this machine.

mod address;
mod allocator;
pub mod args;
pub mod backup;
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
mod rule_files;
pub mod run;
pub mod server;
pub mod source_tree;
mod suggest;
pub mod token;
pub mod trust;
pub mod ui;
mod warnings;
