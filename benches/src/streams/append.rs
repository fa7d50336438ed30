//! Append benchmark: one message each, sent in sequence or by many writers at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::client::{self, Connection};
use super::event::event;
use super::stream_server::StreamServer;
use super::{CPU, EACH, with_percentiles};
use crate::round::Sample;

/// Appends until V8 has compiled their code, which it does during the first thousands.
const WARM: usize = 250 * PARALLEL;

/// Concurrent writers.
const PARALLEL: usize = 32;

/// Appends of a turn. The system counts processor time in hundredths of a second, which is then a
/// small error.
const ONE_AFTER_THE_OTHER: usize = 1000;
const AT_ONCE: usize = 62 * PARALLEL;

/// Time for deferred work of a server, which belongs to the appends as well.
const DEFERRED_WORK: Duration = Duration::from_millis(500);

/// Writers and their streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Writers {
    /// One writer, to one stream.
    One,
    /// Many, all to one stream.
    SameStream,
    /// Many, each to a stream of its own.
    OwnStreams,
}

impl Writers {
    pub(crate) fn named(self) -> &'static str {
        match self {
            Self::One => "one after the other",
            Self::SameStream => "32 writers, one stream",
            Self::OwnStreams => "32 writers, 32 streams",
        }
    }

    /// Appends to new streams.
    pub(crate) fn append(self, place: &StreamServer) -> Result<Sample> {
        let (count, appends) = match self {
            Self::One => (1, ONE_AFTER_THE_OTHER),
            Self::SameStream | Self::OwnStreams => (PARALLEL, AT_ONCE),
        };
        client::runtime()?.block_on(async {
            let mut writers = Vec::new();
            let shared = create(place).await?;
            for _ in 0..count {
                let target = match self {
                    Self::One | Self::SameStream => shared.clone(),
                    Self::OwnStreams => create(place).await?,
                };
                writers.push((place.connect().await?, target));
            }
            measure(place, writers, appends).await
        })
    }
}

/// A server after a warm-up, as a deployed one is.
pub(crate) fn warmed(place: StreamServer) -> Result<StreamServer> {
    client::runtime()?.block_on(async {
        let target = create(&place).await?;
        fill(&place, &target, WARM).await
    })?;
    Ok(place)
}

/// Creates a stream of JSON and returns its target.
pub(crate) async fn create(place: &StreamServer) -> Result<String> {
    let target = client::fresh();
    place.connect().await?.ask("PUT", &target, "").await?;
    Ok(target)
}

async fn measure(
    place: &StreamServer,
    writers: Vec<(Connection, String)>,
    appends: usize,
) -> Result<Sample> {
    let (cpu, started) = (place.cpu()?, Instant::now());
    let each = appends / writers.len();
    let latencies = all(writers, each).await?;
    let wall = started.elapsed().as_secs_f64();
    tokio::time::sleep(DEFERRED_WORK).await;
    let cpu = place.cpu()? - cpu;
    let count = latencies.len() as f64;
    let sample = Sample {
        wall,
        cpu,
        ..Sample::default()
    };
    let sample = sample.with(EACH, wall / count).with(CPU, cpu / count);
    Ok(with_percentiles(sample, latencies))
}

/// Lets each writer append `each` messages, and returns the duration of each append.
async fn all(writers: Vec<(Connection, String)>, each: usize) -> Result<Vec<f64>> {
    let tasks: Vec<_> = writers
        .into_iter()
        .map(|(connection, target)| tokio::spawn(write(connection, target, each)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.context("a writer ended")??);
    }
    Ok(latencies)
}

async fn write(mut connection: Connection, target: String, count: usize) -> Result<Vec<f64>> {
    let mut latencies = Vec::with_capacity(count);
    for number in 0..count {
        let message = event(number as u64);
        let started = Instant::now();
        connection.ask("POST", &target, &message).await?;
        latencies.push(started.elapsed().as_secs_f64());
    }
    Ok(latencies)
}

/// Appends `count` messages to a stream, by many writers at once.
pub(crate) async fn fill(place: &StreamServer, target: &str, count: usize) -> Result<()> {
    let mut writers = Vec::new();
    for _ in 0..PARALLEL {
        writers.push((place.connect().await?, target.to_owned()));
    }
    all(writers, count / PARALLEL).await.map(drop)
}
