//! Stream workload: the cost of an append, a catch-up and a live reader, here and on the reference
//! server of the protocol.
//!
//! A minimal Worker shows the least cost of any Worker: its Durable Object writes two rows. One
//! thread of this process sends all servers the same requests over open connections. The processor
//! time is the server's own. Durable data is on the disk of `/var/tmp`, because a flush to memory
//! costs nothing and would prove nothing. The bench checks every answer: a message that is missing
//! or arrives twice counts as not delivered.

use anyhow::{Result, anyhow};

use crate::bench::Bench;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::table::{Goal, Row, Unit};

mod append;
mod catch_up;
mod client;
mod event;
mod live;
mod stream_server;

use append::Writers;
use catch_up::Filling;
pub(crate) use stream_server::DISK;
use stream_server::StreamServer;

/// Rounds of each comparison: enough, because each repeats an operation thousands of times.
const ROUNDS: usize = 3;

/// Rounds of the reference server with files, which takes a minute for each.
const SLOW_ROUNDS: usize = 2;

/// Processor time of workerd for an append.
const APPEND_CPU: f64 = 1e-3;

/// Processor time of workerd for reading 20,000 messages.
const CATCH_UP_CPU: f64 = 25e-3;

/// Processor time of workerd for an append that 200 readers get at once.
const LIVE_CPU: f64 = 15e-3;

/// Processor time of an append, as a multiple of the bare object's.
const ALONE: f64 = 1.15;
const AMONG_MANY: f64 = 1.1;

/// The append rate of the embedded host, as a multiple of that of the reference server with files.
const APPEND_RATE: f64 = 10.0;

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let places = StreamServers::start(bench);
    let rounds = bench.rounds.min(ROUNDS);
    let mut rows = Vec::new();
    for writers in [Writers::One, Writers::SameStream, Writers::OwnStreams] {
        let all = places.compare(rounds, Ok, move |place| writers.append(place));
        rows.extend(appends(writers, &all));
    }
    for filling in [Filling::Batches, Filling::Singles] {
        let all = places.compare(
            rounds,
            move |place| filling.fill(place.readable()?),
            catch_up::read,
        );
        rows.extend(catch_ups(filling, &all));
    }
    let all = places.compare(rounds, StreamServer::followed, |place| live::deliver(place));
    rows.extend(deliveries(&all));
    Ok(rows)
}

/// All servers. One that can't be started has the reason in each of its rows.
struct StreamServers {
    worker: Result<StreamServer>,
    embedded: Result<StreamServer>,
    bare: Result<StreamServer>,
    files: Result<StreamServer>,
    memory: Result<StreamServer>,
}

/// Their measurements.
struct All {
    worker: Series,
    embedded: Series,
    bare: Series,
    files: Series,
    memory: Series,
}

impl StreamServers {
    fn start(bench: &Bench) -> Self {
        Self {
            worker: StreamServer::worker().and_then(append::warmed),
            embedded: StreamServer::embedded(bench),
            bare: StreamServer::bare().and_then(append::warmed),
            files: StreamServer::reference(stream_server::Keeping::Files),
            memory: StreamServer::reference(stream_server::Keeping::Memory),
        }
    }

    fn compare<'a, T: 'a>(
        &'a self,
        rounds: usize,
        set_up: impl Fn(&'a StreamServer) -> Result<T> + Copy + 'a,
        turn: impl Fn(&T) -> Result<Sample> + Copy + 'a,
    ) -> All {
        let contender = |name, place: &'a Result<StreamServer>| {
            let place = place.as_ref().map_err(|error| anyhow!("{error:#}"));
            Contender::from_setup(name, place.and_then(set_up), move |made, _| turn(made))
        };
        let [worker, embedded, bare, files, memory] = interleave(
            rounds,
            [
                contender("pmx on workerd", &self.worker),
                contender("pmx serve", &self.embedded),
                contender("a bare Durable Object", &self.bare),
                contender("reference, files", &self.files).at_most(SLOW_ROUNDS),
                contender("reference, memory", &self.memory),
            ],
        );
        All {
            worker,
            embedded,
            bare,
            files,
            memory,
        }
    }
}

/// Seconds of wall time for one operation.
const EACH: &str = "each";
/// Seconds of the server's processor time for one operation.
const CPU: &str = "cpu";
/// The share of messages that arrived exactly once at their readers.
const DELIVERED: &str = "delivered";
/// Requests of a catch-up.
const REQUESTS: &str = "requests";
const PERCENTILES: [&str; 3] = ["p50", "p95", "p99"];

fn appends(writers: Writers, all: &All) -> Vec<Row> {
    let what = format!("an append, {}", writers.named());
    let mut rows = vec![goal(&what, &all.worker, CPU, APPEND_CPU)];
    let text = format!("{what}: processor time, pmx on workerd");
    let most = match writers {
        Writers::One => ALONE,
        Writers::SameStream | Writers::OwnStreams => AMONG_MANY,
    };
    let goal = Goal::AtMost(most);
    rows.push(seconds(text, (&all.worker, &all.bare), CPU, goal));
    rows.extend(costs(&what, all, &[&all.files, &all.memory]));
    let rate = match writers {
        Writers::One => Goal::Known,
        Writers::SameStream | Writers::OwnStreams => Goal::TimesFaster(APPEND_RATE),
    };
    let text = format!("{what}: pmx serve, time for each, flushed");
    rows.push(seconds(text, (&all.embedded, &all.files), EACH, rate));
    let text = format!("{what}: pmx on workerd, time for each");
    rows.push(seconds(text, (&all.worker, &all.files), EACH, Goal::Known));
    rows.extend(latencies(&what, all, &all.files));
    rows
}

fn catch_ups(filling: Filling, all: &All) -> Vec<Row> {
    let what = format!("20,000 messages read, {}", filling.named());
    let mut rows = vec![goal(&what, &all.worker, CPU, CATCH_UP_CPU)];
    rows.extend(costs(&what, all, &[&all.files, &all.memory]));
    for (name, ours) in [
        ("pmx serve", &all.embedded),
        ("pmx on workerd", &all.worker),
    ] {
        let text = format!("{what}: {name}, time");
        rows.push(seconds(text, (ours, &all.memory), EACH, Goal::Known));
        let text = format!("{what}: {name}, requests");
        let measure = (Measure::Fact(REQUESTS), Unit::Count);
        rows.push(Row::limit(text, ours, measure, None));
    }
    rows
}

fn deliveries(all: &All) -> Vec<Row> {
    let what = "an append to 200 readers (SSE)";
    let mut rows = vec![goal(what, &all.worker, CPU, LIVE_CPU)];
    rows.extend(costs(what, all, &[&all.memory]));
    rows.extend(latencies(what, all, &all.memory));
    for (name, series) in [
        ("pmx on workerd", &all.worker),
        ("pmx serve", &all.embedded),
        ("reference, memory", &all.memory),
    ] {
        let least = series.least(Measure::Fact(DELIVERED));
        let share = least.map(|share| share >= 1.0);
        rows.push(Row::claim(
            format!("{what}: {name}, all delivered, once and in order"),
            least.map_or_else(|| "–".to_owned(), |share| format!("{:.2} %", share * 100.0)),
            "",
            share.ok_or(series.absent().unwrap_or("no numbers")),
        ));
    }
    rows
}

fn goal(what: &str, ours: &Series, fact: &'static str, most: f64) -> Row {
    let measure = (Measure::Fact(fact), Unit::Seconds);
    let text = format!("{what}: processor time of workerd");
    Row::limit(text, ours, measure, Some(most))
}

/// Rows of the processor time, compared with that of the peers.
fn costs(what: &str, all: &All, peers: &[&Series]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, ours) in [
        ("pmx on workerd", &all.worker),
        ("pmx serve", &all.embedded),
    ] {
        for peer in peers {
            let text = format!("{what}: processor time, {name}");
            rows.push(seconds(text, (ours, peer), CPU, Goal::Known));
        }
    }
    rows
}

fn latencies(what: &str, all: &All, peer: &Series) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, ours) in [
        ("pmx on workerd", &all.worker),
        ("pmx serve", &all.embedded),
    ] {
        let text = format!("{what}: {name}, p50 / p95 / p99");
        let measures = PERCENTILES.map(Measure::Fact);
        rows.push(Row::beside(text, (ours, peer), Unit::Seconds, &measures));
    }
    rows
}

fn seconds(text: String, series: (&Series, &Series), fact: &'static str, goal: Goal) -> Row {
    Row::compare_in(Unit::Seconds, text, series, Measure::Fact(fact), goal)
}

/// Adds the percentiles of latencies in seconds to a sample.
fn with_percentiles(sample: Sample, mut latencies: Vec<f64>) -> Sample {
    latencies.sort_by(f64::total_cmp);
    let at = |per_cent: usize| {
        let last = latencies.len().saturating_sub(1);
        let rank = (latencies.len() * per_cent).div_ceil(100).saturating_sub(1);
        latencies.get(rank.min(last)).copied()
    };
    let mut sample = sample;
    for (name, per_cent) in PERCENTILES.into_iter().zip([50, 95, 99]) {
        if let Some(value) = at(per_cent) {
            sample = sample.with(name, value);
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let latencies = (1..=100).rev().map(f64::from).collect();
        let sample = with_percentiles(Sample::default(), latencies);
        for (name, expected) in PERCENTILES.into_iter().zip([50.0, 95.0, 99.0]) {
            assert!((sample.facts[name] - expected).abs() < 1e-9, "{name}");
        }
        let nothing = with_percentiles(Sample::default(), Vec::new());
        assert!(nothing.facts.is_empty());
        let one = with_percentiles(Sample::default(), vec![7.0]);
        assert_eq!(one.facts.len(), 3);
    }
}
