//! Pointer of a channel: its current deploy, and the place of the serving index.

use pmx_core::id::{Root, SpaceId};
use pmx_core::location::Extent;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// All data of a channel that the read path needs. The server asks the space itself only where a
/// pointer may lag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of the pointer's format"
)]
pub struct Pointer {
    /// The space's internal id, which begins the keys of its objects.
    pub space: SpaceId,
    /// The number of the current deploy.
    pub deploy: u64,
    /// The deploy's root.
    pub root: Root,
    /// The extent of the root's serving index.
    pub index: Extent,
    /// The serving indices of the channel's previous deploys, newest first. The server still serves
    /// their assets.
    pub earlier: Vec<(Root, Extent)>,
    /// Whether the deploy's pages get the live script.
    #[serde(default, skip_serializing_if = "is_no")]
    pub live: bool,
    /// Whether visitors may read lists of changed paths.
    #[serde(default, skip_serializing_if = "is_no")]
    pub events: bool,
    /// Whether the deploy has rule files, which the server then reads before it answers.
    #[serde(default, skip_serializing_if = "is_no")]
    pub rules: bool,
    /// Whether its alias or its space was deleted: the deploy is the last that it had.
    #[serde(default, skip_serializing_if = "is_no")]
    pub gone: bool,
    /// The number of the last deploy of earlier spaces of the name; 0 if there were none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub base: u64,
    /// When its preview ends: from then on readers see none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// How often the space made pointers anew for the deploys that they had: of two pointers of one
    /// order, the one with the greater revision is the newer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
}

impl Pointer {
    /// The pointer's place among those of its channel. Orders ascend with deploy numbers, and the
    /// pointer of a deleted alias follows the last deploy.
    pub const fn order(&self) -> u64 {
        Self::order_of(self.deploy) + self.gone as u64
    }

    /// The pointer's place among all that its channel ever had: its order, then its revision.
    pub const fn place(&self) -> (u64, u64) {
        (self.order(), self.revision)
    }

    /// Whether readers see the deploy: its alias was not deleted, and has not expired.
    pub fn is_shown(&self, now: Timestamp) -> bool {
        !self.gone && self.expires.is_none_or(|at| now < at)
    }

    /// Whether the pointer is of a space that had the name before the space of `other`.
    pub const fn is_before(&self, other: &Self) -> bool {
        self.deploy <= other.base
    }

    /// The order of a pointer to a deploy.
    pub const fn order_of(deploy: u64) -> u64 {
        deploy.saturating_mul(2)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_no(flag: &bool) -> bool {
    !*flag
}
