//! Progress reports: the state of a command at a moment, in words and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::ui::{bytes, count};

/// Phase of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandPhase {
    /// Reading the folder.
    Scan,
    /// Sending bodies.
    Upload,
    /// All requests wait for the server.
    Wait {
        /// The duration of the wait.
        since: Duration,
    },
    /// A failed request waits for its retry.
    Retry {
        /// Why it failed.
        why: String,
        /// The remaining wait.
        left: Duration,
    },
}

impl CommandPhase {
    const fn name(&self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Upload => "upload",
            Self::Wait { .. } => "wait",
            Self::Retry { .. } => "retry",
        }
    }

    /// Whether both are the same phase, possibly at different moments.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// The displayed state of a command at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProgressReport {
    pub(super) phase: CommandPhase,
    /// Files found, or bytes of content that were sent.
    pub(super) done: u64,
    pub(super) total: Option<u64>,
    /// Bytes that were read, or that the sockets took.
    pub(super) bytes: u64,
    pub(super) sent_per_second: Option<u64>,
    pub(super) done_per_second: Option<u64>,
}

impl ProgressReport {
    /// The text beside the bar.
    pub(super) fn message(&self) -> String {
        match &self.phase {
            CommandPhase::Scan => format!("reading   {}", self.read()),
            CommandPhase::Upload => self.uploaded(),
            CommandPhase::Wait { since } => {
                format!("waiting for the server ({} s)", since.as_secs())
            }
            CommandPhase::Retry { why, left } => {
                format!("{why}; trying again in {} s", left.as_secs() + 1)
            }
        }
    }

    /// The report as a line of a log.
    pub(super) fn line(&self) -> String {
        match self.phase {
            CommandPhase::Upload => format!("uploading {}", self.uploaded()),
            CommandPhase::Scan | CommandPhase::Wait { .. } | CommandPhase::Retry { .. } => {
                self.message()
            }
        }
    }

    fn read(&self) -> String {
        let files = count(self.done, "file", "files");
        match self.bytes {
            0 => files,
            read => format!("{files}, {} read", bytes(read)),
        }
    }

    fn uploaded(&self) -> String {
        let mut text = bytes(self.done);
        if let Some(total) = self.total {
            text = format!("{text} of {}", bytes(total));
        }
        text = format!("{text}, {} sent", bytes(self.bytes));
        if let Some(rate) = self.sent_per_second {
            text = format!("{text}, {}/s", bytes(rate));
        }
        let left = self.total.map(|total| total.saturating_sub(self.done));
        match (left, self.done_per_second) {
            (Some(left), Some(rate)) if left > 0 && rate > 0 => {
                format!("{text}, {} s left", left.div_ceil(rate))
            }
            _ => text,
        }
    }

    /// The fields of a `progress` object.
    pub(super) fn body(&self) -> Value {
        let mut body = json!({
            "phase": self.phase.name(),
            "done": self.done,
            "total": self.total,
            "bytes": self.bytes,
        });
        if let Some(rate) = self.sent_per_second {
            body["bytes_per_second"] = rate.into();
        }
        if let CommandPhase::Retry { why, .. } = &self.phase {
            body["message"] = why.as_str().into();
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_words_each_phase() {
        let report = |phase, total, rate| ProgressReport {
            phase,
            done: 12_345_678,
            total,
            bytes: 2_000_000,
            sent_per_second: rate,
            done_per_second: rate,
        };
        let why = "`server: nginx` answered HTTP 503".to_owned();
        let (since, left) = (Duration::from_secs(12), Duration::from_millis(3_500));
        let lines = [
            report(CommandPhase::Scan, None, None).line(),
            report(CommandPhase::Upload, None, None).line(),
            report(CommandPhase::Upload, Some(20_000_000), Some(500_000)).line(),
            report(CommandPhase::Wait { since }, Some(20_000_000), Some(0)).line(),
            report(CommandPhase::Retry { why, left }, None, None).line(),
            report(CommandPhase::Upload, Some(20_000_000), Some(500_000))
                .body()
                .to_string(),
            report(CommandPhase::Wait { since }, None, None)
                .body()
                .to_string(),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r#"
        reading   12345678 files, 2.0 MB read
        uploading 12.3 MB, 2.0 MB sent
        uploading 12.3 MB of 20.0 MB, 2.0 MB sent, 500.0 kB/s, 16 s left
        waiting for the server (12 s)
        `server: nginx` answered HTTP 503; trying again in 4 s
        {"bytes":2000000,"bytes_per_second":500000,"done":12345678,"phase":"upload","total":20000000}
        {"bytes":2000000,"done":12345678,"phase":"wait","total":null}
        "#);
    }
}
