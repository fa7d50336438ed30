//! Checklist findings: prints each one at once, and counts them.

use std::cell::Cell;

use serde::Serialize;

use super::Ended;
use crate::ui::Ui;

/// Finding of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct CheckFinding {
    state: State,
    /// The observation, or the reason for its absence.
    saw: String,
    /// The hint for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Failed,
    Skipped,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl CheckFinding {
    pub(super) fn ok(saw: impl Into<String>) -> Self {
        Self::new(State::Ok, saw.into())
    }

    pub(super) fn failed(saw: impl Into<String>) -> Self {
        Self::new(State::Failed, saw.into())
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self::new(State::Skipped, why.into())
    }

    const fn new(state: State, saw: String) -> Self {
        Self {
            state,
            saw,
            hint: None,
        }
    }

    /// A finding from observations. Without faults it is good; faults come first in the text.
    pub(super) fn of(saw: &[String], faults: &[String]) -> Self {
        let all = faults.iter().chain(saw).cloned().collect::<Vec<_>>();
        let all = all.join("; ");
        if faults.is_empty() {
            Self::ok(all)
        } else {
            Self::failed(all)
        }
    }

    /// Adds a hint, which only failures show.
    pub(super) fn hint(mut self, hint: &str) -> Self {
        if self.state == State::Failed {
            self.hint = Some(hint.to_owned());
        }
        self
    }
}

/// The printer of findings.
pub(super) struct DoctorBoard<'a> {
    ui: &'a Ui,
    counts: Cell<Counts>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counts {
    ok: u32,
    failed: u32,
    skipped: u32,
}

#[derive(Serialize)]
struct Line<'a> {
    check: &'a str,
    #[serde(flatten)]
    finding: &'a CheckFinding,
}

impl<'a> DoctorBoard<'a> {
    pub(super) fn new(ui: &'a Ui) -> Self {
        Self {
            ui,
            counts: Cell::default(),
        }
    }

    /// Prints a finding.
    pub(super) fn note(&self, check: &str, finding: &CheckFinding) {
        let mut counts = self.counts.get();
        match finding.state {
            State::Ok => counts.ok += 1,
            State::Failed => counts.failed += 1,
            State::Skipped => counts.skipped += 1,
        }
        self.counts.set(counts);
        let (word, saw) = (finding.state.word(), &finding.saw);
        let saw = match finding.state {
            State::Skipped => format!("({saw})"),
            State::Ok | State::Failed => saw.clone(),
        };
        self.ui.result(format!("{word:<8}{check:<14}{saw}"));
        if let Some(hint) = &finding.hint {
            self.ui.result(format!("{:<8}{:<14}hint: {hint}", "", ""));
        }
        self.ui.object("check", &Line { check, finding });
    }

    /// Prints a line that is no finding.
    pub(super) fn say(&self, line: &str) {
        self.ui.note(line);
    }

    /// Prints the counts. The command failed if one check failed.
    pub(super) fn end(&self) -> Ended {
        let counts = self.counts.get();
        let Counts {
            ok,
            failed,
            skipped,
        } = counts;
        self.ui
            .result(format!("{ok} ok, {failed} failed, {skipped} skipped"));
        self.ui.object("summary", &counts);
        if failed == 0 {
            Ended::Done
        } else {
            Ended::Failed
        }
    }
}
