//! The native half of PathMX Sync.

pub mod host;
