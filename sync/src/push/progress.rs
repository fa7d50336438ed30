//! Progress check of a publish: fails if the server's replies repeat the same missing data.

use super::PushError;
use crate::wire::{BeginReply, PublishState};

/// Rounds without progress before a publish fails. Data is missing twice only if the server lost
/// it, or if a proxy replays old replies.
const ROUNDS_MAX: u32 = 3;

/// Remaining work: steps, and items within the current step.
type Left = (u8, u64);

/// Progress of a publish.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    /// The smallest remaining work so far.
    least: Option<Left>,
    /// Refused commits since `least` shrank, each of which starts the work again.
    refusals: u32,
    /// The smallest remaining work since the last refusal.
    since: Option<Left>,
    /// Replies since `since` shrank.
    stale: u32,
}

impl StallDetector {
    /// Records the server's reply; `left` nodes are queued for the next request.
    pub(super) fn on_reply(&mut self, reply: &BeginReply, left: usize) -> Result<(), PushError> {
        let now = match reply.state {
            PublishState::Current | PublishState::Published => return Ok(()),
            PublishState::Ready => (0, 0),
            PublishState::Blobs => (1, reply.blobs.len()),
            PublishState::Outline if left > 0 => (2, left as u64),
            PublishState::Nodes => (3, reply.nodes.len()),
            PublishState::Outline => (4, 0),
            PublishState::Base => (5, 0),
        };
        if self.least.is_none_or(|least| now < least) {
            (self.least, self.refusals) = (Some(now), 0);
        }
        if self.since.is_none_or(|least| now < least) {
            (self.since, self.stale) = (Some(now), 0);
            return Ok(());
        }
        self.stale += 1;
        if self.stale <= ROUNDS_MAX {
            return Ok(());
        }
        Err(stalled(reply))
    }

    /// Records a commit refused for missing objects. Returns whether to continue.
    pub(super) const fn on_refusal(&mut self) -> bool {
        (self.since, self.stale) = (None, 0);
        self.refusals += 1;
        self.refusals <= ROUNDS_MAX
    }
}

fn stalled(reply: &BeginReply) -> PushError {
    let lacking = match reply.state {
        PublishState::Blobs => format!("the blobs of {} files", reply.blobs.len()),
        PublishState::Nodes => format!("{} manifest nodes", reply.nodes.len()),
        PublishState::Outline | PublishState::Base => "the manifest".to_owned(),
        PublishState::Ready | PublishState::Current | PublishState::Published => {
            "nothing but a commit".to_owned()
        }
    };
    let rounds = ROUNDS_MAX;
    PushError::Stalled { lacking, rounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(json: &str) -> BeginReply {
        serde_json::from_str(json).unwrap()
    }

    /// The number of answers before the publish fails.
    fn taken(answers: &[&str]) -> usize {
        let mut progress = StallDetector::default();
        let mut taken = |answer: &&str| progress.on_reply(&reply(answer), 0).is_ok();
        answers
            .iter()
            .cycle()
            .take(40)
            .take_while(|it| taken(it))
            .count()
    }

    #[test]
    fn progress_ends_a_publish_after_three_rounds_without_any() {
        let blobs = r#"{"state":"blobs","active":1,"blobs":[[0,2]]}"#;
        let fewer = r#"{"state":"blobs","active":1,"blobs":[[1,1]]}"#;
        let nodes = r#"{"state":"nodes","active":1,"nodes":[[0,2]]}"#;
        let base = r#"{"state":"base","active":1}"#;
        let ready = r#"{"state":"ready","active":1}"#;
        for (answers, expected) in [
            (&[blobs][..], 4),
            (&[nodes], 4),
            (&[base], 4),
            (&[ready], 4),
            (&[nodes, blobs], 5),
            (&[blobs, fewer], 5),
            (&[r#"{"state":"published","active":1}"#], 40),
        ] {
            assert_eq!(taken(answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn progress_ends_a_publish_after_three_refusals() {
        let blobs = r#"{"state":"blobs","active":1,"blobs":[[0,2]]}"#;
        let nodes = r#"{"state":"nodes","active":1,"nodes":[[0,2]]}"#;
        let mut progress = StallDetector::default();
        for refusal in 0..4 {
            for answer in [nodes, blobs] {
                assert!(progress.on_reply(&reply(answer), 0).is_ok());
            }
            assert_eq!(progress.on_refusal(), refusal < 3);
        }
    }
}
