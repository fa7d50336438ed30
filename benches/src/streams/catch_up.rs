//! Catch-up benchmark: reads a stream from its beginning to its tail.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::append;
use super::client::{self, Answer, Connection};
use super::event::{event, numbers};
use super::stream_server::StreamServer;
use super::{CPU, EACH, REQUESTS};
use crate::round::Sample;

/// Messages of the stream.
const MESSAGES: usize = 20_000;

/// Messages of a batch append.
const BATCH: usize = 100;

/// Reads of a turn.
const READS: usize = 20;

/// Time for a server to move the stream to its final storage.
const SETTLED: Duration = Duration::from_secs(3);

/// How the messages were appended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Filling {
    /// In batches.
    Batches,
    /// One by one.
    Singles,
}

/// A filled stream.
pub(crate) struct Full<'a> {
    place: &'a StreamServer,
    target: String,
}

impl Filling {
    pub(crate) fn named(self) -> &'static str {
        match self {
            Self::Batches => "appended by hundreds",
            Self::Singles => "appended one by one",
        }
    }

    /// Creates and fills the stream.
    pub(crate) fn fill(self, place: &StreamServer) -> Result<Full<'_>> {
        client::runtime()?.block_on(async {
            let target = append::create(place).await?;
            match self {
                Self::Batches => batches(place, &target).await?,
                Self::Singles => append::fill(place, &target, MESSAGES).await?,
            }
            tokio::time::sleep(SETTLED).await;
            Ok(Full { place, target })
        })
    }
}

async fn batches(place: &StreamServer, target: &str) -> Result<()> {
    let mut connection = place.connect().await?;
    for first in (0..MESSAGES).step_by(BATCH) {
        let batch: Vec<_> = (first..first + BATCH)
            .map(|number| event(number as u64))
            .collect();
        let body = format!("[{}]", batch.join(","));
        connection.ask("POST", target, &body).await?;
    }
    Ok(())
}

/// Reads the stream repeatedly.
pub(crate) fn read(full: &Full<'_>) -> Result<Sample> {
    client::runtime()?.block_on(async {
        let mut connection = full.place.connect().await?;
        let (cpu, started) = (full.place.cpu()?, Instant::now());
        let mut pages = Vec::new();
        for _ in 0..READS {
            pages = whole(&mut connection, &full.target).await?;
        }
        let wall = started.elapsed().as_secs_f64();
        let cpu = full.place.cpu()? - cpu;
        check(&pages)?;
        let sample = Sample {
            wall,
            cpu,
            ..Sample::default()
        };
        let reads = READS as f64;
        Ok(sample
            .with(EACH, wall / reads)
            .with(CPU, cpu / reads)
            .with(REQUESTS, pages.len() as f64))
    })
}

/// All pages, up to the one that reports the end.
async fn whole(connection: &mut Connection, target: &str) -> Result<Vec<Answer>> {
    let mut pages = Vec::new();
    let mut offset = "-1".to_owned();
    loop {
        let target = format!("{target}?offset={offset}");
        let page = connection.ask("GET", &target, "").await?;
        let next = page.header("stream-next-offset");
        offset.replace_range(.., next.context("a page says no next offset")?);
        let is_last = page.header("stream-up-to-date").is_some();
        pages.push(page);
        if is_last {
            return Ok(pages);
        }
    }
}

fn check(pages: &[Answer]) -> Result<()> {
    let mut count = 0;
    for page in pages {
        count += numbers(std::str::from_utf8(&page.body)?).count();
    }
    ensure!(
        count == MESSAGES,
        "{count} messages came back of {MESSAGES}"
    );
    Ok(())
}
