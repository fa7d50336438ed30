//! Bytes workload: bytes and requests of a site's next version, by every way to publish. It runs
//! `pmx bench` over the corpora and over generated sites with expensive edits.
//!
//! Unless a row says otherwise, bytes count in both directions, and for `pmx` with the heads of
//! requests and answers. "zstd" is each new file once, compressed separately, without the list of
//! files: the strictest peer of its kind. No time is measured, so one run is enough.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::bench::Bench;
use crate::made::{Edit, Made, SEED};
use crate::pmx::Client;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::table::{Goal, Row, Unit};

/// The first publish of v1.
const FIRST_BYTES: f64 = 38e6;

/// A sync without changes: bodies, in both directions.
const NOTHING_BYTES: f64 = 300.0;

/// One byte of one page: bodies sent.
const ONE_BYTE: f64 = 600.0;

/// A token in all footers of 20,000 pages.
const FOOTER_BYTES: f64 = 0.5e6;

/// The next version, as a share of whole files with zstd, by a client with its cache or without.
const KEPT_PART: f64 = 0.10;
const FRESH_PART: f64 = 0.25;
const RSYNC_PART: f64 = 0.40;

/// The same share for a point release.
const RELEASE_PART: f64 = 0.02;

const OURS: &str = "pmx";
const FRESH: &str = "pmx, nothing kept here";
const ZSTD: &str = "list, zstd -3 of each";
/// A higher level than `pmx` chooses automatically for a fast line.
const HARDER: [&str; 4] = ["--only", "pmx", "--compression", "5"];

const GIT: &str = "git push";
const RSYNC: &str = "rsync -az";

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = match &bench.v2 {
        Some(v2) => {
            let folders = (bench.v1.folder(), v2.folder());
            let mut rows = versions(&Case::of(bench, "v1 to v2", folders)?);
            let what = "v1 to v2, --compression 5";
            let harder = Case::with(bench, what, folders, &HARDER)?;
            rows.push(harder.limit("first publish", OURS, Step::First, "bytes", FIRST_BYTES));
            rows
        }
        None => vec![Row::skipped("v1 to v2", "this machine has no v2")],
    };
    let pages = Made::pages(SEED);
    eprintln!("   making sites of {} pages, seed {SEED}", pages.count());
    let old = written(&pages, Edit::None)?;
    for (edit, what, judge) in [
        (Edit::Byte, "1 byte in 20,000 pages", one_byte as Judge),
        (Edit::Footer, "a token in 20,000 footers", footers),
        (
            Edit::Navigation,
            "an entry in 20,000 navigations",
            navigations,
        ),
    ] {
        let new = written(&pages, edit)?;
        rows.extend(judge(&Case::of(bench, what, (old.path(), new.path()))?));
    }
    drop(old);
    let manual = Made::manual(SEED);
    let (old, new) = (
        written(&manual, Edit::None)?,
        written(&manual, Edit::Release)?,
    );
    let what = "a point release of 3,000 pages";
    let case = Case::of(bench, what, (old.path(), new.path()))?;
    rows.extend(release(&case));
    Ok(rows)
}

fn written(site: &Made, edit: Edit) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("pmx-made-").tempdir()?;
    site.write(folder.path(), edit)?;
    Ok(folder)
}

/// Goals of a case.
type Judge = fn(&Case) -> Vec<Row>;

fn versions(case: &Case) -> Vec<Row> {
    let mut rows = vec![
        case.limit("first publish", OURS, Step::First, "bytes", None),
        case.others(Step::First),
        case.to_whole_files(OURS, Goal::AtMost(KEPT_PART)),
        case.to(RSYNC, OURS, Goal::AtMost(RSYNC_PART)),
        case.to_whole_files(FRESH, Goal::AtMost(FRESH_PART)),
        case.to(RSYNC, FRESH, Goal::Known),
    ];
    rows.extend(case.rest());
    rows
}

fn one_byte(case: &Case) -> Vec<Row> {
    let mut rows = vec![
        case.limit("bodies sent", OURS, Step::Update, "bodies sent", ONE_BYTE),
        case.requests(Step::Update, Some(1.0)),
        case.to(GIT, OURS, Goal::Known),
        case.to(GIT, FRESH, Goal::Known),
    ];
    rows.extend(case.rest());
    rows
}

fn footers(case: &Case) -> Vec<Row> {
    let mut rows = vec![case.limit("bytes", OURS, Step::Update, "bytes", FOOTER_BYTES)];
    rows.extend(navigations(case));
    rows
}

fn navigations(case: &Case) -> Vec<Row> {
    let mut rows = vec![
        case.to_whole_files(OURS, Goal::Known),
        case.to_whole_files(FRESH, Goal::Known),
    ];
    rows.extend(case.rest());
    rows
}

fn release(case: &Case) -> Vec<Row> {
    let mut rows = vec![
        case.to_whole_files(OURS, Goal::AtMost(RELEASE_PART)),
        case.to_whole_files(FRESH, Goal::Known),
        case.to(RSYNC, OURS, Goal::Known),
    ];
    rows.extend(case.rest());
    rows
}

/// The compared publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    First,
    Update,
    Again,
}

impl Step {
    /// Its key in the output of `pmx bench --json`.
    const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Update => "update",
            Self::Again => "again",
        }
    }
}

/// Result of `pmx bench` for two folders.
struct Case {
    what: &'static str,
    ways: Vec<Value>,
}

impl Case {
    /// Runs `pmx bench`.
    fn of(bench: &Bench, what: &'static str, (old, new): (&Path, &Path)) -> Result<Self> {
        Self::with(bench, what, (old, new), &[])
    }

    /// Runs `pmx bench` with more arguments.
    fn with(
        bench: &Bench,
        what: &'static str,
        (old, new): (&Path, &Path),
        more: &[&str],
    ) -> Result<Self> {
        eprintln!(
            "   {what}: {}",
            if more.is_empty() {
                "by every way"
            } else {
                "by pmx"
            }
        );
        let flags = ["--json", "--allow-collisions"].iter().chain(more);
        let flags: Vec<&OsStr> = flags.map(OsStr::new).collect();
        let arguments = [OsStr::new("bench"), old.as_os_str(), new.as_os_str()];
        let run = Client::new(bench.pmx()?)?.run(&[&arguments[..], &flags].concat())?;
        Self::parse(what, &String::from_utf8(run.stdout)?)
    }

    fn parse(what: &'static str, text: &str) -> Result<Self> {
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let mut ways = lines.collect::<Result<Vec<_>, _>>()?;
        ways.retain(|line| line["type"] == "way");
        Ok(Self { what, ways })
    }

    /// The cost of a step by one way.
    fn series(&self, way: &'static str, step: Step) -> Series {
        let sample = self.sample(way, step);
        let [series] = interleave(
            1,
            [Contender::new(way, |_| match &sample {
                Ok(sample) => Ok(sample.clone()),
                Err(error) => bail!("{error:#}"),
            })],
        );
        series
    }

    fn sample(&self, way: &str, step: Step) -> Result<Sample> {
        let mut ways = self.ways.iter();
        let line = ways.find(|line| line["what"] == way);
        let line = line.with_context(|| format!("pmx bench says nothing of {way:?}"))?;
        let cost = &line[step.name()];
        if cost.is_null() {
            let why = line["why"].as_str();
            bail!("{}", why.unwrap_or("not measured").to_owned());
        }
        let number = |pointer| cost.pointer(pointer).and_then(Value::as_f64);
        let sum = |one, other| Some(number(one)? + number(other)?);
        let mut sample = Sample::default();
        for (name, value) in [
            ("bytes", sum("/sent", "/received")),
            ("requests", number("/requests")),
            ("files", number("/files")),
            ("bodies", sum("/bodies/sent", "/bodies/received")),
            ("bodies sent", number("/bodies/sent")),
        ] {
            if let Some(value) = value {
                sample = sample.with(name, value);
            }
        }
        Ok(sample)
    }

    fn limit(
        &self,
        what: &str,
        way: &'static str,
        step: Step,
        fact: &'static str,
        limit: impl Into<Option<f64>>,
    ) -> Row {
        let what = format!("{}: {what}", self.what);
        let measure = (Measure::Fact(fact), Unit::Bytes);
        Row::limit(what, &self.series(way, step), measure, limit.into())
    }

    fn requests(&self, step: Step, limit: Option<f64>) -> Row {
        let what = format!("{}: requests", self.named(OURS, step));
        let measure = (Measure::Fact("requests"), Unit::Count);
        Row::limit(what, &self.series(OURS, step), measure, limit)
    }

    /// A row: the update, compared with another way's.
    fn to(&self, peer: &'static str, ours: &'static str, goal: Goal) -> Row {
        let pair = [ours, peer].map(|way| self.series(way, Step::Update));
        let what = self.named(ours, Step::Update);
        let bytes = Measure::Fact("bytes");
        Row::compare_in(Unit::Bytes, what, (&pair[0], &pair[1]), bytes, goal)
    }

    /// A row: the update, compared with whole files by zstd, without their list.
    fn to_whole_files(&self, ours: &'static str, goal: Goal) -> Row {
        let files = self.sample(ZSTD, Step::Update).map(|sample| {
            let files = sample.facts.get("files").copied().unwrap_or_default();
            sample.with("bytes", files)
        });
        let [files] = interleave(
            1,
            [Contender::new("whole files, zstd", |_| match &files {
                Ok(sample) => Ok(sample.clone()),
                Err(error) => bail!("{error:#}"),
            })],
        );
        let bytes = Measure::Fact("bytes");
        let what = self.named(ours, Step::Update);
        let ours = self.series(ours, Step::Update);
        Row::compare_in(Unit::Bytes, what, (&ours, &files), bytes, goal)
    }

    /// Rows of every case: requests, the other ways, and a sync without changes.
    fn rest(&self) -> [Row; 5] {
        [
            self.requests(Step::Update, None),
            self.others(Step::Update),
            self.limit(
                "and nothing changed: bodies both ways",
                OURS,
                Step::Again,
                "bodies",
                NOTHING_BYTES,
            ),
            self.requests(Step::Again, Some(1.0)),
            self.others(Step::Again),
        ]
    }

    /// A cell with all other ways.
    fn others(&self, step: Step) -> Row {
        let ways = self.ways.iter().filter_map(|line| line["what"].as_str());
        let cells = ways.filter(|way| ![OURS, FRESH].contains(way)).map(|way| {
            let bytes = self.sample(way, step).map(|sample| sample.facts["bytes"]);
            match bytes {
                Ok(bytes) => format!("{way}: {}", Unit::Bytes.show(bytes)),
                Err(why) => format!("{way}: {why:#}"),
            }
        });
        let what = format!("{}: by others", self.named(OURS, step));
        Row::others(what, cells.collect::<Vec<_>>().join("; "))
    }

    fn named(&self, way: &str, step: Step) -> String {
        let what = match step {
            Step::First => format!("{}: first publish", self.what),
            Step::Update => self.what.to_owned(),
            Step::Again => format!("{}: nothing changed", self.what),
        };
        if way == FRESH {
            format!("{what}, nothing kept")
        } else {
            what
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"
        {"type":"way","v":1,"name":"pmx","what":"pmx","how":"measured",
         "first":{"sent":900,"received":100,"requests":2,"bodies":{"sent":800,"received":50}},
         "update":{"sent":90,"received":10,"requests":1,"bodies":{"sent":70,"received":5}},
         "again":{"sent":9,"received":1,"requests":1,"bodies":{"sent":7,"received":0}}}
        {"type":"way","v":1,"name":"zstd","what":"list, zstd -3 of each","how":"computed",
         "first":{"sent":5000,"received":0},"update":{"sent":3000,"received":0,"files":1000},
         "again":{"sent":2000,"received":0}}
        {"type":"way","v":1,"name":"git","what":"git push","how":"absent",
         "why":"git is not installed","first":null,"update":null,"again":null}
        {"type":"summary","v":1}"#;

    fn case() -> Case {
        let lines = SAID.trim().replace(",\n", ",");
        Case::parse("x", &lines).unwrap()
    }

    fn verdict(row: Row) -> String {
        let mut table = crate::table::Table::default();
        table.extend(vec![row]);
        table.to_string().lines().nth(2).unwrap().to_owned()
    }

    #[test]
    fn rows_say_what_pmx_bench_said() {
        let case = case();
        for (row, expected) in [
            (
                case.to_whole_files(OURS, Goal::AtMost(0.1)),
                "| x | 100 B | whole files, zstd: 1000 B | 0.10 | ≤ 0.10 | met |",
            ),
            (
                case.to_whole_files(OURS, Goal::AtMost(0.09)),
                "| x | 100 B | whole files, zstd: 1000 B | 0.10 | ≤ 0.09 | **missed** |",
            ),
            (
                case.to(GIT, OURS, Goal::AtMost(1.0)),
                "| x | 100 B | git push: – | – | ≤ 1.00 | not measured: git is not installed |",
            ),
            (
                case.requests(Step::First, Some(1.0)),
                "| x: first publish: requests | 2 |  |  | ≤ 1 | **missed** |",
            ),
            (
                case.limit("bodies", OURS, Step::Again, "bodies", 7.0),
                "| x: bodies | 7 B |  |  | ≤ 7 B | met |",
            ),
            (
                case.others(Step::Again),
                "| x: nothing changed: by others |  | list, zstd -3 of each: 2000 B; \
                 git push: git is not installed |  |  |  |",
            ),
        ] {
            assert_eq!(verdict(row), expected);
        }
        assert!(verdict(case.to(RSYNC, OURS, Goal::Known)).contains("says nothing"));
    }
}
