//! Live readers (server-sent events): cost of an append that is sent to all of them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

use super::append;
use super::client::{self, Lines};
use super::event::{event, numbers};
use super::stream_server::StreamServer;
use super::{CPU, DELIVERED, EACH, with_percentiles};
use crate::round::Sample;

/// Readers of the stream.
const READERS: usize = 200;

/// Appends of a turn. Each waits until all readers have the one before.
const APPENDS: u64 = 40;

/// How long a reader may wait for a message until it counts as lost.
const LOST: Duration = Duration::from_secs(5);

/// How long a reader waits for a surplus message.
const SURPLUS: Duration = Duration::from_millis(100);

/// Message of a reader's thread.
enum Report {
    /// The reader receives every later append.
    Ready,
    /// The expected message arrived.
    Got { number: u64, at: Instant },
    /// Another message arrived.
    Wrong,
}

/// Appends to a new stream that all readers follow.
pub(crate) fn deliver(place: &StreamServer) -> Result<Sample> {
    client::runtime()?.block_on(async {
        let target = append::create(place).await?;
        let mut reports = readers(place, &target).await?;
        let mut writer = place.connect().await?;
        let (cpu, started) = (place.cpu()?, Instant::now());
        let mut latencies = Vec::new();
        for number in 0..APPENDS {
            let message = event(number);
            let sent = Instant::now();
            writer.ask("POST", &target, &message).await?;
            let came = delivered(&mut reports, number).await;
            latencies.extend(came.iter().map(|at| (*at - sent).as_secs_f64()));
            if came.len() < READERS {
                // The other readers count as lost too; waiting for each would take too long.
                break;
            }
        }
        let wall = started.elapsed().as_secs_f64();
        let cpu = place.cpu()? - cpu;
        let all = (READERS as u64 * APPENDS) as f64;
        // By now, a surplus message has reached its reader.
        tokio::time::sleep(SURPLUS).await;
        let share = match reports.try_recv() {
            Ok(_) => 0.0,
            Err(_) => latencies.len() as f64 / all,
        };
        let sample = Sample {
            wall,
            cpu,
            ..Sample::default()
        };
        let sample = sample
            .with(EACH, wall / APPENDS as f64)
            .with(CPU, cpu / APPENDS as f64)
            .with(DELIVERED, share);
        Ok(with_percentiles(sample, latencies))
    })
}

/// Readers that have reported that they are ready. They end with the runtime.
async fn readers(place: &StreamServer, target: &str) -> Result<UnboundedReceiver<Report>> {
    let (sender, mut reports) = mpsc::unbounded_channel();
    for _ in 0..READERS {
        let connection = place.connect().await?;
        let target = format!("{target}?offset=-1&live=sse");
        let lines = connection.listen(&target).await?;
        tokio::spawn(follow(lines, sender.clone()));
    }
    for count in 0..READERS {
        let report = timeout(LOST, reports.recv()).await;
        let is_ready = matches!(report, Ok(Some(Report::Ready)));
        ensure!(is_ready, "only {count} of {READERS} readers were answered");
    }
    Ok(reports)
}

async fn follow(mut lines: Lines, reports: UnboundedSender<Report>) {
    let mut expected = 0;
    let mut is_ready = false;
    while let Ok(Some(text)) = lines.next().await {
        if !is_ready && text.contains("event: control") {
            is_ready = true;
            let _sent = reports.send(Report::Ready);
        }
        for number in numbers(&text) {
            let at = Instant::now();
            let is_next = number == expected;
            expected = number + 1;
            let report = if is_next {
                Report::Got { number, at }
            } else {
                Report::Wrong
            };
            let _sent = reports.send(report);
        }
    }
}

/// The time at which each reader got the message, if it did.
async fn delivered(reports: &mut UnboundedReceiver<Report>, number: u64) -> Vec<Instant> {
    let mut came = Vec::with_capacity(READERS);
    while came.len() < READERS {
        match timeout(LOST, reports.recv()).await {
            Ok(Some(Report::Got { number: got, at })) if got == number => came.push(at),
            Ok(Some(Report::Got { .. } | Report::Ready | Report::Wrong)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    came
}
