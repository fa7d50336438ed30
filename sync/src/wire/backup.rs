//! Restored deploys: deploys of a backup that a commit records again.

use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::deploys::DeployView;

/// A deploy of a backup, as a restore records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoredDeploy {
    /// The deploy, with the number that it gets.
    pub deploy: DeployView,
    /// Its idempotency key.
    pub key: String,
    /// With a deploy of a preview: the preview exists, and shows the deploy until the next one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shown: bool,
    /// When that preview ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// With an active deploy: a rollback holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}
