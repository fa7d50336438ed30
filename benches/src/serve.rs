//! Serving workload: how fast a published page and a published asset are served, compared with
//! nginx and the same folder. `wrk` requests both. Before that, the bench compares both answers
//! with the file byte by byte.
//!
//! nginx sends files unchanged. The host does the same for a client that accepts zstd, as browsers
//! do, and decodes for one that accepts no coding. The table shows both.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};

use crate::bench::Bench;
use crate::get;
use crate::nginx::Nginx;
use crate::noop::Site;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::table::{Goal, Row, Unit};
use crate::{peer_programs, run};

/// The load: one thread of `wrk`, because the servers share its cores.
const LOAD: [&str; 4] = [
    "--threads=1",
    "--connections=16",
    "--duration=1s",
    "--latency",
];

const PAGE: &str = "std/vec/index.html";

/// A requested path, and the file that the server must send.
struct Target {
    what: &'static str,
    url: String,
    file: PathBuf,
}

/// Content coding that a client accepts.
#[derive(Clone, Copy, Debug)]
enum Takes {
    Zstd,
    Nothing,
}

impl Takes {
    fn header(self) -> &'static str {
        match self {
            Self::Zstd => "Accept-Encoding: gzip, deflate, br, zstd",
            Self::Nothing => "Accept-Encoding: identity",
        }
    }

    fn named(self) -> &'static str {
        match self {
            Self::Zstd => "to a browser (zstd)",
            Self::Nothing => "to a client without zstd",
        }
    }
}

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    peer_programs::find("wrk")?;
    let nginx = Nginx::serving(bench.v1.folder());
    let site = Site::of(bench, bench.v1.folder());
    let mut rows = Vec::new();
    for target in targets(bench)? {
        for takes in [Takes::Zstd, Takes::Nothing] {
            let ours = site.as_ref().map_err(|error| anyhow!("{error:#}"));
            let ours = ours.map(|site| ("bench.localhost", site.host.port()));
            let peer = nginx.as_ref().map_err(|error| anyhow!("{error:#}"));
            let peer = peer.map(|nginx| ("localhost", nginx.port()));
            let load = |name, server: Result<(&'static str, u16)>| {
                let server = server.and_then(|server| checked(&target, takes, server));
                Contender::from_setup(name, server, |server, _| ask(&target, takes, *server))
            };
            let contenders = [load("pmx serve", ours), load("nginx", peer)];
            let [ours, nginx] = interleave(bench.rounds, contenders);
            rows.extend(about(&target, takes, &ours, &nginx));
        }
    }
    Ok(rows)
}

fn about(target: &Target, takes: Takes, ours: &Series, nginx: &Series) -> [Row; 2] {
    let what = format!("{} {}", target.what, takes.named());
    let row = |text, unit, name| {
        let measure = Measure::Fact(name);
        Row::compare_in(
            unit,
            format!("{what}: {text}"),
            (ours, nginx),
            measure,
            Goal::Known,
        )
    };
    [
        row("requests", Unit::PerSecond, "requests a second"),
        row("p99", Unit::Seconds, "p99"),
    ]
}

/// Applies the same load to another server that has v1 at `bench`.
pub(crate) fn load(bench: &Bench, (name, port): (&'static str, u16)) -> Result<Vec<Row>> {
    peer_programs::find("wrk")?;
    let mut rows = Vec::new();
    for target in targets(bench)? {
        for takes in [Takes::Zstd, Takes::Nothing] {
            let server = checked(&target, takes, ("bench.localhost", port));
            let turn = |server: &mut _, _| ask(&target, takes, *server);
            let [ours] = interleave(3, [Contender::from_setup(name, server, turn)]);
            let what = format!("{name}: {} {}", target.what, takes.named());
            for (text, unit, fact) in [
                ("requests", Unit::PerSecond, "requests a second"),
                ("p99", Unit::Seconds, "p99"),
            ] {
                let measure = (Measure::Fact(fact), unit);
                rows.push(Row::limit(format!("{what}: {text}"), &ours, measure, None));
            }
        }
    }
    Ok(rows)
}

fn targets(bench: &Bench) -> Result<[Target; 2]> {
    let folder = bench.v1.folder();
    let style = bench.v1.files().iter().find_map(|file| {
        let name = file.path.strip_prefix(folder).ok()?.to_str()?;
        let hash = name.strip_prefix("static.files/rustdoc-")?;
        hash.strip_suffix(".css").map(|_| name.to_owned())
    });
    let style = style.context("v1 has no style sheet")?;
    Ok([
        Target {
            what: "a page",
            url: format!("/{}", PAGE.trim_end_matches("index.html")),
            file: folder.join(PAGE),
        },
        Target {
            what: "an asset",
            url: format!("/{style}"),
            file: folder.join(style),
        },
    ])
}

/// Returns the server after it has answered with the right bytes.
fn checked(
    target: &Target,
    takes: Takes,
    server: (&'static str, u16),
) -> Result<(&'static str, u16)> {
    let answer = get::get(server.1, server.0, &target.url, &[takes.header()])?;
    ensure!(
        answer.status == 200,
        "{} answered {}",
        target.url,
        answer.status
    );
    let expected = fs::read(&target.file)?;
    let body = match answer.header("content-encoding") {
        None => answer.body,
        Some("zstd") => decode(&answer.body, expected.len())?,
        Some(other) => anyhow::bail!("{} came encoded as {other}", target.url),
    };
    ensure!(
        body == expected,
        "{} is not the file that was published",
        target.url
    );
    Ok(server)
}

fn decode(frame: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut body = vec![0; len];
    let decoded = zstd_safe::decompress(body.as_mut_slice(), frame);
    let decoded = decoded.map_err(|code| anyhow!("zstd: {}", zstd_safe::get_error_name(code)))?;
    body.truncate(decoded);
    Ok(body)
}

/// Runs one second of load.
fn ask(target: &Target, takes: Takes, (host, port): (&str, u16)) -> Result<Sample> {
    let mut command = Command::new("wrk");
    command
        .args(LOAD)
        .args(["--header", &format!("Host: {host}:{port}")])
        .args(["--header", takes.header()])
        .arg(format!("http://127.0.0.1:{port}{}", target.url));
    let run = run::whole(&command)?;
    let report = String::from_utf8_lossy(&run.stdout).into_owned();
    ensure!(
        !report.contains("Non-2xx"),
        "not all answers were good: {report}"
    );
    let (rate, p99) = parse(&report).with_context(|| format!("wrk said {report}"))?;
    Ok(Sample::from(&run)
        .with("requests a second", rate)
        .with("p99", p99))
}

/// The rate and the 99th percentile in seconds.
fn parse(report: &str) -> Option<(f64, f64)> {
    let after = |label: &str| {
        let lines = &mut report.lines().map(str::trim);
        lines
            .find_map(|line| line.strip_prefix(label))
            .map(str::trim)
    };
    Some((
        after("Requests/sec:")?.parse().ok()?,
        seconds(after("99%")?)?,
    ))
}

/// `1.50ms` as seconds; wrk uses `us`, `ms`, `s` and `m`.
fn seconds(text: &str) -> Option<f64> {
    let unit = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let value: f64 = text[..unit].parse().ok()?;
    let scale = match &text[unit..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(value * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_wrk_is_read() {
        let report = "  Latency Distribution\n     50%  350.00us\n     99%    1.50ms\n\
                      Requests/sec:  43210.50\nTransfer/sec:      1.2GB\n";
        let (rate, p99) = parse(report).unwrap();
        assert!((rate - 43210.5).abs() < 1e-9 && (p99 - 0.0015).abs() < 1e-12);
        assert!(parse("unable to connect").is_none());
    }

    #[test]
    fn latencies_have_units() {
        for (text, expected) in [("2.00s", 2.0), ("1.00m", 60.0)] {
            assert_eq!(seconds(text), Some(expected));
        }
        assert_eq!(seconds("3.0h"), None);
    }
}
