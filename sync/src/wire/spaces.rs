//! Spaces on the wire: the list of a server's spaces, and the deletion of one.

use pmx_core::name::SpaceName;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer of `GET /api/spaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpacesReply {
    /// Spaces of this page. A server may name a space on two pages.
    pub spaces: Vec<SpaceView>,
    /// The parameter `after` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A space, as readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceView {
    /// Its name.
    pub name: SpaceName,
    /// The number of the active deploy that readers get; none if the space has previews only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<u64>,
    /// The address of its site.
    pub url: String,
}

/// The answer of `DELETE /api/spaces/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteSpaceReply {
    /// The name, which is free again.
    pub space: SpaceName,
    /// Deploys that are gone.
    pub deploys: u64,
    /// Previews that are gone.
    pub previews: u64,
    /// Domains that are free again.
    pub domains: u64,
    /// When the server begins to delete the objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge: Option<Timestamp>,
}
