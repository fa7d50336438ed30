//! Pack workload: the Worker's cost to verify a pack of 4 MiB and to store it as frames. It also
//! decodes the pack with the pages of the base as prefix. All in the Worker's own module on
//! workerd, in processor time of workerd.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use pmx_core::codec::{Encoder, Level};
use pmx_sync::limits::PREFIX_RAW_BYTES_MAX;
use pmx_sync::pack::PackCoding;
use pmx_sync::pack::wire::PackBuilder;

use crate::bench::Bench;
use crate::round::{Contender, Measure, Sample, interleave};
use crate::table::{Row, Unit};
use crate::workerd::{Build, Workerd};

/// Raw bytes of the pack.
const PACK: usize = 4 << 20;

/// Repetitions of a step: the system counts processor time in hundredths of a second.
const TIMES: u32 = 50;

/// Seconds to verify a pack.
const VERIFY: f64 = 0.030;

/// Seconds to decode new versions with the old ones as prefix.
const DECODE: f64 = 0.015;

/// Seconds to store it as frames.
const REST: f64 = 0.060;

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let made = || {
        let workerd = Workerd::start(&Build::Measured.make()?)?;
        Ok((workerd, pack(bench)?, upgrade(bench)?))
    };
    let [series] = interleave(
        bench.rounds,
        [Contender::from_setup(
            "a pack",
            made(),
            |(workerd, pack, upgrade), _| {
                Ok(Sample::default()
                    .with("verify", step(workerd, pack, "verify")?)
                    .with("rest", step(workerd, pack, "rest")?)
                    .with("unpatch", step(workerd, upgrade, "unpatch")?))
            },
        )],
    );
    let steps = [
        ("verified", "verify", VERIFY),
        ("laid down", "rest", REST),
        ("decoded behind its base", "unpatch", DECODE),
    ];
    let row = |(what, name, most)| {
        Row::limit(
            format!("Worker: a pack of 4 MiB {what}, the slowest"),
            &series,
            (Measure::Fact(name), Unit::Seconds),
            Some(most),
        )
    };
    Ok(steps.map(row).into())
}

/// A pack of files from the middle of the corpus, as a client builds it.
fn pack(bench: &Bench) -> Result<Vec<u8>> {
    let mut builder = PackBuilder::new();
    let mut raw = 0;
    let files = bench.v1.files();
    for file in &files[files.len() / 2..] {
        raw += file.len as usize;
        if raw > PACK {
            break;
        }
        builder.push(&fs::read(&file.path)?)?;
    }
    let coding = PackCoding::Zstd(Level::WIRE);
    let pack = builder.finish(&mut Encoder::new(), coding);
    Ok(pack.context("the corpus is empty")?.into_bytes())
}

/// The new versions of files from the middle of the corpus, 4 MiB of them, with the old ones as
/// prefix: the input of `worker/src/pack_bench.rs`.
fn upgrade(bench: &Bench) -> Result<Vec<u8>> {
    let (old, new) = (
        &bench.v1,
        bench.v2.as_ref().context("this machine has no v2")?,
    );
    let files = old.files();
    let (mut prefix, mut raw) = (Vec::new(), Vec::new());
    for file in &files[files.len() / 2..] {
        let path = new.folder().join(file.path.strip_prefix(old.folder())?);
        if let Ok(bytes) = fs::read(path) {
            prefix.extend(fs::read(&file.path)?);
            raw.extend(bytes);
        }
        if raw.len() >= PACK {
            break;
        }
    }
    prefix.truncate(PREFIX_RAW_BYTES_MAX as usize);
    raw.truncate(PACK);
    let frame = Encoder::new().compress_with_prefix(&prefix, &raw, Level::WIRE);
    let length = u32::try_from(prefix.len())?.to_le_bytes();
    Ok([&length[..], &prefix, &frame].concat())
}

/// Seconds of processor time that workerd takes for one step.
fn step(workerd: &Workerd, pack: &[u8], step: &str) -> Result<f64> {
    let before = workerd.cpu()?;
    let mut server = TcpStream::connect(("127.0.0.1", workerd.port()))?;
    let head = format!(
        "POST /measured/{step}/{TIMES} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        pack.len()
    );
    server.write_all(&[head.as_bytes(), pack].concat())?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1);
    ensure!(status == Some("200"), "measuring {step}: {answer}");
    Ok((workerd.cpu()? - before) / f64::from(TIMES))
}
