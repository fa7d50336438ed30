//! Benchmark report: a table for people, and lines for programs.

use std::fmt::Write as _;

use pmx_sync::manifest::Totals;
use pmx_sync::wire::Summary;
use serde::Serialize;
use serde_json::json;

use crate::args::Way;
use crate::ui::{self, Ui};

/// Cost of one publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Cost {
    /// Bytes to the server.
    pub(super) sent: u64,
    /// Bytes from it.
    pub(super) received: u64,
    /// Requests, or objects where each is one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<u64>,
    /// The sent bytes of files, as opposed to lists of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<u64>,
    /// The bytes of bodies, as opposed to heads of requests and answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bodies: Option<BodyBytes>,
}

/// Bytes of bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct BodyBytes {
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Cost {
    /// Bytes both ways.
    pub(super) const fn bytes(&self) -> u64 {
        self.sent + self.received
    }
}

/// The origin of a line's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// The pmx client and host, counted on the line.
    Measured,
    /// Another program, really run.
    Run,
    /// Computed from the files, without a program.
    Computed,
    /// Missing, with the reason.
    Absent(String),
}

impl How {
    const fn name(&self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Run => "run",
            Self::Computed => "computed",
            Self::Absent(_) => "absent",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Self::Absent(why) => Some(why),
            Self::Measured | Self::Run | Self::Computed => None,
        }
    }
}

/// Costs of one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReportLine {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) how: How,
    /// Of the first publish, of the update, and of a publish without changes.
    pub(super) costs: Vec<Cost>,
}

impl ReportLine {
    /// The cost of a step, unless the line has no numbers.
    pub(super) fn cost(&self, step: usize) -> Option<&Cost> {
        let usable = self.how.why().is_none();
        self.costs.get(step).filter(|_| usable)
    }
}

/// All results.
pub(super) struct BenchReport {
    pub(super) from: Totals,
    pub(super) to: Totals,
    pub(super) difference: Summary,
    pub(super) lines: Vec<ReportLine>,
}

#[derive(Serialize)]
struct LineBody<'a> {
    name: &'static str,
    what: &'static str,
    how: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    first: Option<&'a Cost>,
    update: Option<&'a Cost>,
    again: Option<&'a Cost>,
    ratio: Option<f64>,
}

const HEADS: [&str; 6] = [
    "first publish",
    "update",
    "requests",
    "nothing changed",
    "to zstd",
    "",
];

impl BenchReport {
    /// Prints the report.
    pub(super) fn print(&self, ui: &Ui) {
        for line in self.table().lines() {
            ui.result(line);
        }
        for line in &self.lines {
            ui.object("way", &self.line_body(line));
        }
        ui.object("summary", &self.body());
        ui.note(
            "bytes both ways; requests of the update; `to zstd` is its bytes to those of the line \
             with zstd",
        );
    }

    /// The comparison, in one line.
    pub(super) fn sentence(&self) -> String {
        let of = |totals: Totals| {
            let files = ui::count(totals.files, "file", "files");
            format!("{files}, {}", ui::bytes(totals.bytes))
        };
        let Summary {
            added,
            modified,
            removed,
            unchanged,
        } = self.difference;
        format!(
            "from {} to {}: {added} added, {modified} modified, {removed} removed, {unchanged} unchanged",
            of(self.from),
            of(self.to)
        )
    }

    /// The update's bytes, compared with whole files that are compressed one by one.
    pub(super) fn ratio(&self, line: &ReportLine) -> Option<f64> {
        let zstd = |line: &&ReportLine| line.name == Way::Zstd.name();
        let whole = self.lines.iter().find(zstd)?.cost(1)?.bytes();
        let bytes = line.cost(1)?.bytes();
        (whole > 0).then(|| ratio(bytes, whole))
    }

    fn table(&self) -> String {
        let mut rows = vec![("", HEADS.map(str::to_owned))];
        rows.extend(self.lines.iter().map(|line| (line.what, self.cells(line))));
        let first = rows.iter().map(|(what, _)| what.len()).max();
        let widths: [usize; HEADS.len()] = std::array::from_fn(|at| {
            let cells = rows.iter().map(|(_, cells)| cells[at].chars().count());
            cells.max().unwrap_or_default()
        });
        let mut text = self.sentence();
        for (what, cells) in rows {
            let mut line = format!("{what:<0$}", first.unwrap_or_default());
            let last = HEADS.len() - 1;
            for (cell, width) in cells.iter().zip(widths).take(last) {
                let _ = write!(line, "  {cell:>width$}");
            }
            let _ = write!(line, "  {}", cells[last]);
            text.push('\n');
            text.push_str(line.trim_end());
        }
        text
    }

    fn cells(&self, line: &ReportLine) -> [String; HEADS.len()] {
        let none = || "-".to_owned();
        let bytes = |step| {
            let cost = line.cost(step);
            cost.map_or_else(none, |cost| ui::bytes(cost.bytes()))
        };
        let requests = line.cost(1).and_then(|cost| cost.requests);
        let how = match &line.how {
            How::Absent(why) => why.clone(),
            other => other.name().to_owned(),
        };
        [
            bytes(0),
            bytes(1),
            requests.map_or_else(none, |requests| requests.to_string()),
            bytes(2),
            self.ratio(line).map_or_else(none, shown),
            how,
        ]
    }

    fn line_body<'a>(&self, line: &'a ReportLine) -> LineBody<'a> {
        LineBody {
            name: line.name,
            what: line.what,
            how: line.how.name(),
            why: line.how.why(),
            first: line.cost(0),
            update: line.cost(1),
            again: line.cost(2),
            ratio: self.ratio(line),
        }
    }

    fn body(&self) -> impl Serialize {
        let totals = |it: Totals| json!({ "files": it.files, "bytes": it.bytes });
        json!({
            "from": totals(self.from),
            "to": totals(self.to),
            "files": self.difference,
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio is read to two digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// A ratio with two significant digits.
fn shown(ratio: f64) -> String {
    let digits = match ratio {
        ..0.001 => 5,
        ..0.01 => 4,
        ..0.1 => 3,
        ..1.0 => 2,
        ..10.0 => 1,
        _ => 0,
    };
    format!("{ratio:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(way: Way, how: How, bytes: [u64; 3]) -> ReportLine {
        let cost = |sent| Cost {
            sent,
            received: 1,
            requests: Some(sent / 10),
            ..Cost::default()
        };
        ReportLine {
            name: way.name(),
            what: way.name(),
            how,
            costs: bytes.map(cost).to_vec(),
        }
    }

    fn report() -> BenchReport {
        BenchReport {
            from: Totals {
                files: 1,
                bytes: 5_000,
            },
            to: Totals {
                files: 2,
                bytes: 1_000_000,
            },
            difference: Summary {
                added: 2,
                modified: 0,
                removed: 1,
                unchanged: 0,
            },
            lines: vec![
                line(Way::Pmx, How::Measured, [999, 49, 9]),
                line(Way::Zstd, How::Computed, [5_000, 999, 99]),
                // git failed after its first publish, so that number does not count.
                line(Way::Git, How::Absent("git failed".to_owned()), [7, 7, 7]),
            ],
        }
    }

    #[test]
    fn report_prints_a_table() {
        insta::assert_snapshot!(report().table(), @r"
        from 1 file, 5.0 kB to 2 files, 1.0 MB: 2 added, 0 modified, 1 removed, 0 unchanged
              first publish  update  requests  nothing changed  to zstd
        pmx          1.0 kB    50 B         4             10 B    0.050  measured
        zstd         5.0 kB  1.0 kB        99            100 B      1.0  computed
        git               -       -         -                -        -  git failed
        ");
    }

    #[test]
    fn report_prints_a_line_of_json() {
        let report = report();
        let lines = report.lines.iter().map(|line| {
            let body = serde_json::to_string(&report.line_body(line));
            body.unwrap()
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
        {"name":"pmx","what":"pmx","how":"measured","first":{"sent":999,"received":1,"requests":99},"update":{"sent":49,"received":1,"requests":4},"again":{"sent":9,"received":1,"requests":0},"ratio":0.05}
        {"name":"zstd","what":"zstd","how":"computed","first":{"sent":5000,"received":1,"requests":500},"update":{"sent":999,"received":1,"requests":99},"again":{"sent":99,"received":1,"requests":9},"ratio":1.0}
        {"name":"git","what":"git","how":"absent","why":"git failed","first":null,"update":null,"again":null,"ratio":null}
        "#);
    }

    #[test]
    fn ratios_have_two_digits_that_say_something() {
        for (ratio, text) in [
            (0.0, "0.00000"),
            (0.000_12, "0.00012"),
            (0.001_2, "0.0012"),
            (0.012, "0.012"),
            (0.12, "0.12"),
            (1.23, "1.2"),
            (12.3, "12"),
        ] {
            assert_eq!(shown(ratio), text);
        }
    }
}
