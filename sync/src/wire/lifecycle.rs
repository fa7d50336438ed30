//! Lifecycle messages: retention and collection of a space on the wire.

use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits::{RETENTION_COUNT_MAX, RETENTION_SECONDS_MAX};

/// Which deploys a space keeps: those that any rule names. The active deploy, the current deploys
/// of previews, pinned ones, and those whose assets pages may still ask for stay in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPolicy {
    /// The newest deploys of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u64>,
    /// Deploys of the site that are younger, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<u64>,
    /// The newest deploy of each of the last days (UTC) that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u64>,
    /// Deploys of previews that are younger, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_previews_for: Option<u64>,
}

impl RetentionPolicy {
    /// Whether the policy keeps nothing of its own. A space refuses such a policy.
    pub fn is_empty(&self) -> bool {
        let numbers = [
            self.keep_last,
            self.keep_within,
            self.keep_daily,
            self.keep_previews_for,
        ];
        numbers.into_iter().flatten().all(|number| number == 0)
    }

    /// Refuses numbers beyond all use: with them, times would overflow.
    pub fn check(&self) -> Result<(), Problem> {
        let counts = [self.keep_last, self.keep_daily].into_iter().flatten();
        let seconds = [self.keep_within, self.keep_previews_for]
            .into_iter()
            .flatten();
        let is_sane = counts.into_iter().all(|count| count <= RETENTION_COUNT_MAX)
            && seconds
                .into_iter()
                .all(|seconds| seconds <= RETENTION_SECONDS_MAX);
        if is_sane {
            return Ok(());
        }
        let detail = format!(
            "a retention policy counts up to {RETENTION_COUNT_MAX} deploys and \
             {RETENTION_SECONDS_MAX} seconds"
        );
        Err(Problem::new(Code::TooLarge, detail))
    }

    /// The age up to which deploys of the site are kept.
    pub fn within(&self) -> Option<Duration> {
        self.keep_within.map(Duration::from_secs)
    }

    /// The age up to which deploys of previews are kept.
    pub fn previews_for(&self) -> Option<Duration> {
        self.keep_previews_for.map(Duration::from_secs)
    }
}

/// The body of `PUT /api/spaces/<name>/retention`, and the answer of it and of `GET`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The policy; without one, the space keeps every deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RetentionPolicy>,
}

/// What a collection may copy, so that objects that are mostly garbage go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repack {
    /// It copies only if more than so many hundredths of the space's bytes are garbage in objects
    /// that it would copy.
    pub max_unused: u64,
    /// Bytes of the objects that it copies from, at most.
    pub max_bytes: u64,
    /// Bytes that a copy has to free.
    pub min_freed: u64,
    /// Hundredths of its object that a copy has to be shorter than.
    pub max_live: u64,
}

impl Default for Repack {
    fn default() -> Self {
        Self {
            max_unused: 10,
            max_bytes: 1 << 30,
            min_freed: 64 * 1024,
            max_live: 50,
        }
    }
}

/// The answer of `POST /api/spaces/<name>/gc`: what one step of a collection did. The counts of
/// `dropped` to `deleted_bytes` are of this step, or of a whole collection with `dry=1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectReply {
    /// Deploys that the policy gave up.
    pub dropped: u64,
    /// Objects that nothing refers to any more. The server deletes them later.
    pub doomed: u64,
    /// Their bytes.
    pub doomed_bytes: u64,
    /// Objects that were deleted.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Objects whose live content was copied into new ones: they are garbage from then on.
    #[serde(default)]
    pub repacked: u64,
    /// Their bytes.
    #[serde(default)]
    pub repacked_bytes: u64,
    /// Objects that wait for their deletion.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// When the first of them may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_deletion: Option<Timestamp>,
    /// Whether another step has work to do now.
    pub more: bool,
    /// Whether the collection waits until readers have the newest pointers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_waiting: bool,
    /// When the space itself takes the next step, if it has one to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
}
