//! Pointer of a channel: the deploy that is there, and where its serving index lies.

use pmx_core::id::{Root, SpaceId};
use pmx_core::location::Extent;
use serde::{Deserialize, Serialize};

/// All that the read path needs to know of a channel: it asks the space itself only where a pointer
/// may be late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The space's internal id: where its objects lie.
    pub space: SpaceId,
    /// The number of the deploy that is there.
    pub deploy: u64,
    /// Its root.
    pub root: Root,
    /// Where the serving index of the root lies.
    pub index: Extent,
    /// The serving indices of the channel's deploys before it, newest first, whose assets still
    /// resolve.
    pub earlier: Vec<(Root, Extent)>,
    /// Whether its pages get the live script.
    #[serde(default, skip_serializing_if = "is_no")]
    pub live: bool,
    /// Whether visitors may read lists of changed paths.
    #[serde(default, skip_serializing_if = "is_no")]
    pub events: bool,
    /// Whether its alias was taken away: the deploy is the last that it named.
    #[serde(default, skip_serializing_if = "is_no")]
    pub gone: bool,
}

impl Pointer {
    /// Where it stands among the pointers of its channel, which have ascending numbers, and an end
    /// behind the last.
    pub const fn order(&self) -> u64 {
        Self::order_of(self.deploy) + self.gone as u64
    }

    /// The order of a pointer to a deploy.
    pub const fn order_of(deploy: u64) -> u64 {
        deploy.saturating_mul(2)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_no(flag: &bool) -> bool {
    !*flag
}
