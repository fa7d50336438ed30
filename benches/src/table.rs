//! Result table in Markdown: one row for each goal.

use std::fmt;

use crate::round::{Measure, Series};

/// Unit of a number, which decides how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes, printed with a decimal prefix.
    Bytes,
    /// Bytes of memory, printed with a binary prefix.
    Memory,
    /// A number of things.
    Count,
    /// Things per second.
    PerSecond,
    /// US dollars.
    Dollars,
}

impl Unit {
    /// The unit of a measure that every process has.
    fn of(measure: Measure) -> Self {
        match measure {
            Measure::Wall | Measure::Cpu => Self::Seconds,
            Measure::Peak => Self::Memory,
            Measure::Fact(_) => Self::Count,
        }
    }

    /// The number with its unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 0.01 => format!("{:.2} ms", value * 1e3),
            Self::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes if value < 1e4 => format!("{value:.0} B"),
            Self::Bytes if value < 1e6 => format!("{:.1} KB", value / 1e3),
            Self::Bytes => format!("{:.1} MB", value / 1e6),
            Self::Memory => format!("{:.0} MiB", value / f64::from(1 << 20)),
            Self::Count => format!("{value:.0}"),
            Self::Dollars => format!("${value:.5}"),
            Self::PerSecond => format!("{value:.0}/s"),
        }
    }
}

/// Goal of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// The `pmx` number is at most this share of the peer's.
    AtMost(f64),
    /// The peer takes at least this many times as long as `pmx`.
    TimesFaster(f64),
    /// No goal: the numbers are for information.
    Known,
}

/// Whether the goal was met.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    NoGoal,
    NotMeasured(String),
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: String,
    ours: String,
    peer: String,
    ratio: String,
    goal: String,
    verdict: Verdict,
}

impl Row {
    /// Compares the `pmx` number with a peer's, as the median of the rounds' ratios.
    pub(crate) fn compare(
        what: impl Into<String>,
        (ours, peer): (&Series, &Series),
        measure: Measure,
        goal: Goal,
    ) -> Self {
        Self::compare_in(Unit::of(measure), what, (ours, peer), measure, goal)
    }

    /// Compares numbers whose unit the measure does not determine.
    pub(crate) fn compare_in(
        unit: Unit,
        what: impl Into<String>,
        (ours, peer): (&Series, &Series),
        measure: Measure,
        goal: Goal,
    ) -> Self {
        let ratio = ours.ratio(peer, measure);
        let (ratio_text, goal_text, met) = match goal {
            Goal::AtMost(most) => (
                ratio.map(|ratio| format!("{ratio:.2}")),
                format!("≤ {most:.2}"),
                ratio.map(|ratio| ratio <= most),
            ),
            Goal::TimesFaster(least) => (
                ratio.map(|ratio| format!("{:.1} × faster", 1.0 / ratio)),
                format!("≥ {least:.1} × faster"),
                ratio.map(|ratio| 1.0 / ratio >= least),
            ),
            Goal::Known => (
                ratio.map(|ratio| format!("{ratio:.2}")),
                String::new(),
                None,
            ),
        };
        let missing = ours.absent().or(peer.absent());
        let cell = |series: &Series| {
            let value = series.median(measure).map(|value| unit.show(value));
            value.unwrap_or_else(absent)
        };
        Self {
            what: what.into(),
            ours: cell(ours),
            peer: format!("{}: {}", peer.name, cell(peer)),
            ratio: ratio_text.unwrap_or_else(absent),
            goal: goal_text,
            verdict: judge(goal, met, missing),
        }
    }

    /// Compares several numbers of one unit with a peer's; the ratio is that of the first.
    pub(crate) fn beside(
        what: impl Into<String>,
        (ours, peer): (&Series, &Series),
        unit: Unit,
        measures: &[Measure],
    ) -> Self {
        let cells = |series: &Series| {
            let values = measures.iter().map(|&measure| series.median(measure));
            let shown = values.map(|value| value.map_or_else(absent, |value| unit.show(value)));
            shown.collect::<Vec<_>>().join(" / ")
        };
        let first = measures.first().and_then(|&first| ours.ratio(peer, first));
        Self {
            what: what.into(),
            ours: cells(ours),
            peer: format!("{}: {}", peer.name, cells(peer)),
            ratio: first.map_or_else(absent, |ratio| format!("{ratio:.2}")),
            goal: String::new(),
            verdict: judge(Goal::Known, None, ours.absent().or(peer.absent())),
        }
    }

    /// Compares the `pmx` number with a number, `limit`; the worst round counts.
    pub(crate) fn limit(
        what: impl Into<String>,
        ours: &Series,
        (measure, unit): (Measure, Unit),
        limit: Option<f64>,
    ) -> Self {
        let worst = ours.worst(measure);
        Self {
            what: what.into(),
            ours: worst.map_or_else(absent, |value| unit.show(value)),
            peer: String::new(),
            ratio: String::new(),
            goal: limit.map_or_else(String::new, |limit| format!("≤ {}", unit.show(limit))),
            verdict: judge(
                limit.map_or(Goal::Known, Goal::AtMost),
                worst.zip(limit).map(|(worst, limit)| worst <= limit),
                ours.absent(),
            ),
        }
    }

    /// A row with the peers' numbers in one cell.
    pub(crate) fn others(what: impl Into<String>, peers: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ours: String::new(),
            peer: peers.into(),
            ratio: String::new(),
            goal: String::new(),
            verdict: Verdict::NoGoal,
        }
    }

    /// A statement that is true, false, or not checked.
    pub(crate) fn claim(
        what: impl Into<String>,
        ours: impl Into<String>,
        peer: impl Into<String>,
        holds: Result<bool, &str>,
    ) -> Self {
        Self {
            what: what.into(),
            ours: ours.into(),
            peer: peer.into(),
            ratio: String::new(),
            goal: "equal".to_owned(),
            verdict: judge(Goal::AtMost(0.0), holds.ok(), holds.err()),
        }
    }

    /// A row without a measurement, and the reason.
    pub(crate) fn skipped(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ours: absent(),
            peer: String::new(),
            ratio: String::new(),
            goal: String::new(),
            verdict: Verdict::NotMeasured(reason.into()),
        }
    }

    /// A row for a workload that could not be set up.
    pub(crate) fn failed(workload: &str, error: &anyhow::Error) -> Self {
        Self::skipped(workload, format!("{error:#}"))
    }
}

/// Placeholder of a missing number.
fn absent() -> String {
    "–".to_owned()
}

fn judge(goal: Goal, met: Option<bool>, missing: Option<&str>) -> Verdict {
    match (missing, goal, met) {
        (Some(reason), ..) => Verdict::NotMeasured(reason.to_owned()),
        (None, Goal::Known, _) => Verdict::NoGoal,
        (None, _, Some(true)) => Verdict::Met,
        (None, _, Some(false)) => Verdict::Missed,
        (None, _, None) => Verdict::NotMeasured("no numbers".to_owned()),
    }
}

/// The rows, in order of insertion.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds rows at the end.
    pub(crate) fn extend(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | pmx | peer | ratio | goal | |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let verdict = match &row.verdict {
                Verdict::Met => "met".to_owned(),
                Verdict::Missed => "**missed**".to_owned(),
                Verdict::NoGoal => String::new(),
                Verdict::NotMeasured(reason) => format!("not measured: {reason}"),
            };
            let cells = [
                &row.what, &row.ours, &row.peer, &row.ratio, &row.goal, &verdict,
            ];
            writeln!(
                f,
                "| {} |",
                cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::{Contender, Sample, interleave};

    fn series(ours: f64, peer: f64) -> [Series; 2] {
        let taking = |wall| Sample {
            wall,
            ..Sample::default()
        };
        interleave(
            1,
            [
                Contender::new("ours", move |_| Ok(taking(ours))),
                Contender::new("peer", move |_| Ok(taking(peer))),
            ],
        )
    }

    fn verdict(ours: f64, peer: f64, goal: Goal) -> (String, Verdict) {
        let [ours, peer] = series(ours, peer);
        let row = Row::compare("x", (&ours, &peer), Measure::Wall, goal);
        (row.ratio, row.verdict)
    }

    #[test]
    fn goals_are_judged_both_ways() {
        for (goal, ratio, expected) in [
            (Goal::AtMost(0.5), "0.50", Verdict::Met),
            (Goal::AtMost(0.4), "0.50", Verdict::Missed),
            (Goal::TimesFaster(2.0), "2.0 × faster", Verdict::Met),
            (Goal::TimesFaster(2.1), "2.0 × faster", Verdict::Missed),
            (Goal::Known, "0.50", Verdict::NoGoal),
        ] {
            assert_eq!(verdict(1.0, 2.0, goal), (ratio.to_owned(), expected));
        }
    }

    #[test]
    fn a_limit_is_judged_by_the_worst_round() {
        let [ours, _] = series(2.0, 1.0);
        let row = |limit| Row::limit("x", &ours, (Measure::Wall, Unit::Seconds), limit).verdict;
        assert_eq!(row(Some(2.0)), Verdict::Met);
        assert_eq!(row(Some(1.9)), Verdict::Missed);
        assert_eq!(row(None), Verdict::NoGoal);
    }

    #[test]
    fn what_is_missing_is_never_met() {
        let row = Row::claim("x", "", "", Err("no v2"));
        assert_eq!(row.verdict, Verdict::NotMeasured("no v2".to_owned()));
    }

    #[test]
    fn units_read_well() {
        for (unit, value, expected) in [
            (Unit::Seconds, 0.0512, "51.2 ms"),
            (Unit::Seconds, 2.5, "2.50 s"),
            (Unit::Bytes, 812.0, "812 B"),
            (Unit::Bytes, 41_000_000.0, "41.0 MB"),
            (Unit::Memory, 67_108_864.0, "64 MiB"),
        ] {
            assert_eq!(unit.show(value), expected);
        }
    }
}
