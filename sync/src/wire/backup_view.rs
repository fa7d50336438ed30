//! Backup view: what a space knows of its deploys beside the history.

use std::collections::BTreeMap;

use pmx_core::name::AliasName;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::lifecycle::RetentionPolicy;

/// The part of `GET /api/deploys?backup=1` that only a backup needs. It is of the same moment as
/// the rest of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupView {
    /// The idempotency keys of the page's deploys, in their order.
    pub keys: Vec<String>,
    /// The number before the first deploy of the space.
    pub base: u64,
    /// When previews end, of those that do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expires: BTreeMap<AliasName, Timestamp>,
    /// The retention policy, if the space has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RetentionPolicy>,
}
