//! Deletion guard (`--max-delete`): stops a publish early that the server would refuse in the end.

use pmx_sync::wire::{BeginReply, MaxDelete, Summary};

use crate::error::Failure;

/// Checks `--max-delete` during a publish. The server enforces the bound against the deploy that
/// the publish really replaces; this check saves the uploads.
#[derive(Debug)]
pub struct DeleteGuard {
    bound: Option<MaxDelete>,
    counted: Option<Summary>,
}

impl DeleteGuard {
    /// A guard without any summary.
    pub const fn new(bound: Option<MaxDelete>) -> Self {
        Self {
            bound,
            counted: None,
        }
    }

    /// Records the server's summary of the changes.
    pub const fn on_reply(&mut self, reply: &BeginReply) {
        self.counted = reply.summary;
    }

    /// Records the client's own summary, counted against the active root.
    pub fn on_summary(&mut self, summary: Option<Summary>) {
        self.counted = summary.or(self.counted);
    }

    /// Fails if the recorded summary removes too many files.
    pub fn check(&self) -> Result<(), Failure> {
        match (self.bound, &self.counted) {
            (Some(bound), Some(summary)) => Ok(bound.check(summary)?),
            (None, _) | (_, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::code::Code;

    use super::*;

    #[test]
    fn check_compares_removals_with_the_counts_of_the_server() {
        let reply = |active: u64, summary: &str| -> BeginReply {
            let json = format!("{{\"state\":\"ready\",\"active\":{active}{summary}}}");
            serde_json::from_str(&json).unwrap()
        };
        let counted = r#","summary":{"added":0,"modified":1,"removed":5,"unchanged":4}"#;
        for (bound, active, summary, code) in [
            (None, 3, counted, None),
            (None, 3, "", None),
            (Some("50%"), 3, counted, None),
            (Some("49%"), 3, counted, Some(Code::MaxDelete)),
            (Some("4"), 3, counted, Some(Code::MaxDelete)),
            (Some("0"), 0, "", None),
            // The server checks at the commit.
            (Some("0"), 3, "", None),
        ] {
            let bound = bound.map(|text| text.parse().unwrap());
            let mut guard = DeleteGuard::new(bound);
            guard.on_reply(&reply(active, summary));
            let failed = guard.check().map_err(|failure| failure.code).err();
            assert_eq!(failed, code, "{bound:?} {summary}");
        }
    }
}
