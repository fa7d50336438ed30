//! Last seen active deploy of a site.

use pmx_core::id::Root;
use serde::{Deserialize, Serialize};

/// The active deploy of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Its root.
    pub root: Root,
    /// Its number.
    pub deploy: u64,
}

impl Active {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
