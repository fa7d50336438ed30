//! `pmx bench`: the cost of publishing a folder, and then its next version, by each available way.
//!
//! The benchmark compares three publishes: the first one of A, B over it, and B again without
//! changes. All ways publish the same folder. It is a temporary copy that holds first A and then B,
//! like a build's output. For pmx, the real client publishes to the real host. Other programs run
//! if they are installed. Ways without a program are computed: files are really compressed and
//! chunks really cut, but not sent.
//!
//! Bytes count in both directions. For pmx, git and rsync, they include everything on the line but
//! TCP and TLS. For the computed ways, they are bodies without request heads. For restic and
//! casync, they are the growth of the store. So pmx is counted no more leniently than any other
//! way.

mod casync;
mod chunks;
mod flat;
mod git;
mod plot;
mod pmx;
mod program;
mod report;
mod restic;
mod rsync;
mod site;
mod wire;

use std::path::Path;
use std::rc::Rc;

use pmx_sync::manifest::Row;
use tempfile::TempDir;

use super::{Context, Ended};
use crate::args::{BenchArgs, Compression, Way};
use crate::error::Failure;
use program::Programs;
use report::{BenchReport, Cost, How, ReportLine};
use site::{Sites, Stage, difference};

pub(super) fn run(args: &BenchArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let ways = args.ways();
    if ways.is_empty() {
        return Err(Failure::usage("there is nothing left to compare")
            .with_hint("Name pmx, raw, base64, gzip, zstd or chunks, or leave --no-peers out."));
    }
    let sites = Sites::read(args, context)?;
    let work = temporary("work")?;
    let mut contests = contests(args, work.path(), context)?;
    compete(&mut contests, &sites, work.path(), context)?;
    let report = BenchReport {
        from: sites.from.totals(),
        to: sites.to.totals(),
        difference: difference(&sites.from_rows, &sites.to_rows),
        lines: contests.into_iter().map(|contest| contest.line).collect(),
    };
    report.print(context.ui);
    if let Some(file) = &args.svg {
        let drawn = plot::draw(&report);
        std::fs::write(file, drawn).map_err(|error| Failure::local("can't write", file, &error))?;
        context.ui.note(format!("drawn into {}", file.display()));
    }
    Ok(Ended::Done)
}

/// A version of the site, the same for all ways.
struct Version<'a> {
    /// Its files.
    rows: &'a [Row],
    /// A folder that holds exactly these files.
    folder: &'a Path,
}

/// A way of publishing, with its state from earlier publishes.
trait Contender {
    /// Publishes the current content of the folder.
    fn publish(&mut self, version: &Version<'_>) -> Result<Cost, Failure>;
}

/// A line of the table, and the contender that fills it.
struct Contest {
    line: ReportLine,
    contender: Option<Box<dyn Contender>>,
}

impl Contest {
    fn of(
        way: Way,
        what: &'static str,
        how: How,
        contender: Result<Box<dyn Contender>, String>,
    ) -> Self {
        let (how, contender) = match contender {
            Ok(contender) => (how, Some(contender)),
            Err(why) => (How::Absent(why), None),
        };
        let line = ReportLine {
            name: way.name(),
            what,
            how,
            costs: Vec::new(),
        };
        Self { line, contender }
    }
}

/// The names of the steps, in their order.
const STEPS: [&str; 3] = ["first publish", "update", "nothing changed"];

/// Runs each step for all contenders before the next step, so that the folder is laid out once for
/// each step.
fn compete(
    contests: &mut [Contest],
    sites: &Sites,
    work: &Path,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let mut stage = Stage::at(work.join("site"))?;
    for (step, name) in STEPS.iter().enumerate() {
        let (scan, rows) = match step {
            0 => (&sites.from, &sites.from_rows),
            _ => (&sites.to, &sites.to_rows),
        };
        context.ui.note(format!("{name} ..."));
        stage.lay(scan, rows)?;
        let version = Version {
            rows,
            folder: stage.folder(),
        };
        for contest in &mut *contests {
            context.interrupt.check()?;
            take(contest, &version, context)?;
        }
    }
    Ok(())
}

/// Runs one step of one contender. If another program fails, only its line fails; if pmx fails, the
/// command does.
fn take(
    contest: &mut Contest,
    version: &Version<'_>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let Some(contender) = &mut contest.contender else {
        return Ok(());
    };
    context.ui.detail(format!("  {}", contest.line.what));
    match contender.publish(version) {
        Ok(cost) => contest.line.costs.push(cost),
        Err(failure) => {
            context.interrupt.check()?;
            if !matches!(contest.line.how, How::Run) {
                return Err(failure);
            }
            contest.line.how = How::Absent(failure.message);
            contest.contender = None;
        }
    }
    Ok(())
}

fn contests(args: &BenchArgs, work: &Path, context: &Context<'_>) -> Result<Vec<Contest>, Failure> {
    let programs = Programs::of(&context.layers.env, work);
    let mut contests = Vec::new();
    for way in &args.ways() {
        let flat = |what, coding| computed(*way, what, flat::Flat::with(coding));
        contests.push(match way {
            Way::Pmx => {
                contests.extend(ours(args.compression, work, context)?);
                continue;
            }
            Way::Raw => flat("list, whole files", flat::FileCoding::Raw),
            Way::Base64 => flat("list, base64 in JSON", flat::FileCoding::Base64),
            Way::Gzip => flat("list, gzip -9 of each", flat::FileCoding::Gzip),
            Way::Zstd => flat("list, zstd -3 of each", flat::FileCoding::Zstd),
            Way::Chunks => computed(*way, "chunks, zstd -3 of each", chunks::Chunks::default()),
            Way::Git => ran(*way, "git push", git::Git::prepare(&programs)),
            Way::Restic => ran(*way, "restic backup", restic::Restic::prepare(&programs)),
            Way::Casync => ran(*way, "casync make", casync::Casync::prepare(&programs)),
            Way::Rsync => ran(*way, "rsync -az", rsync::Rsync::prepare(&programs)),
        });
    }
    Ok(contests)
}

fn computed(way: Way, what: &'static str, contender: impl Contender + 'static) -> Contest {
    Contest::of(way, what, How::Computed, Ok(Box::new(contender)))
}

fn ran<C: Contender + 'static>(
    way: Way,
    what: &'static str,
    contender: Result<C, String>,
) -> Contest {
    let contender = contender.map(|contender| Box::new(contender) as Box<dyn Contender>);
    Contest::of(way, what, How::Run, contender)
}

/// The client that published A, and a client on a machine that never saw the site.
fn ours(
    compression: Compression,
    work: &Path,
    context: &Context<'_>,
) -> Result<[Contest; 2], Failure> {
    let server = Rc::new(pmx::BenchServer::start(work)?);
    let client = |memory| pmx::Ours::new(&server, (memory, compression), work, context);
    let (kept, fresh) = (client(pmx::Memory::Kept)?, client(pmx::Memory::None)?);
    let contest = |what, ours| Contest::of(Way::Pmx, what, How::Measured, Ok(Box::new(ours)));
    Ok([
        contest("pmx", kept),
        contest("pmx, nothing kept here", fresh),
    ])
}

fn temporary(what: &str) -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("pmx-bench-").tempdir();
    made.map_err(|error| Failure::local("can't make a folder for", Path::new(what), &error))
}
