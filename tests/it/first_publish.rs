//! First publishes: the client sends files as it reads them, and reads each file once.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use crate::access_log::AccessLog;
use crate::interrupts::progress::throttled;
use crate::world::{World, eventually, noise, on_both_hosts};

on_both_hosts!(
    first_publish_reads_each_file_once_and_sends_each_blob_once,
    first_publish_resumes_after_a_kill,
);

/// Longer than the age up to which the client expects further writes to a file. The client compares
/// the modification time, so a file settles only by waiting.
const SETTLED: Duration = Duration::from_millis(200);

fn page(number: u64) -> String {
    let words = format!(
        "page {number} has words of its own, such as {}. ",
        number * 7919
    );
    format!(
        "<!doctype html><title>{number}</title><p>{}</p>",
        words.repeat(300)
    )
}

fn first_publish_reads_each_file_once_and_sends_each_blob_once(world: World) {
    const LARGE: usize = 9 * 1024 * 1024;
    for number in 0..60 {
        world.write(&[(&format!("p/{number}.html"), &page(number))]);
        world.write(&[(&format!("copy/{number}.html"), &page(number))]);
    }
    let image = noise(1, 50_000);
    world.write_bytes("image.png", &image);
    world.write_bytes("large.bin", &noise(2, LARGE));
    world.write(&[("empty.txt", "")]);
    sleep(SETTLED);

    let first = world.sync("docs", &["--verbose"]).ok();
    // The initial upload skips blobs in parts, and files that change during it.
    assert!(first.stderr.contains(" 1 read"), "{first:?}");
    assert_eq!(first.number("/files/added"), 123);
    let distinct: usize = (0..60).map(|number| page(number).len()).sum();
    assert_eq!(
        first.number("/bytes/new"),
        (distinct + image.len() + LARGE) as u64
    );
    let sent = first.number("/bytes/sent");
    let incompressible = (image.len() + LARGE) as u64;
    assert!(
        (incompressible..incompressible + 20_000).contains(&sent),
        "{sent} bytes sent"
    );
    for number in 0..60 {
        assert_eq!(
            world.get("docs", &format!("/p/{number}")).text(),
            page(number)
        );
        assert_eq!(
            world.get("docs", &format!("/copy/{number}")).text(),
            page(number)
        );
    }
    assert_eq!(world.get("docs", "/image.png").body, image);
    assert_eq!(world.get("docs", "/large.bin").body.len(), LARGE);
    assert_eq!(world.sync("docs", &[]).ok().at("/outcome"), "unchanged");
}

/// Bytes of the smallest pack of the site below: the last one, with the remaining files.
const LAST_PACK: u64 = 8 * 500_000;

/// More bytes than the heads of its packs and its other requests have.
const BESIDE_PACKS: u64 = 100_000;

fn first_publish_resumes_after_a_kill(world: World) {
    for number in 0..40 {
        world.write_bytes(&format!("{number}.bin"), &noise(1 + number, 500_000));
    }
    sleep(SETTLED);
    let all = 40 * 500_000;
    // On this line, the three packs take times proportional to their sizes, side by side.
    let passed = Arc::new(Mutex::new(0));
    let line = throttled(world.server.port, 8_000_000, Arc::clone(&passed));
    let url = line.url("http", "127.0.0.1");
    let mut log = AccessLog::new(&world);
    for (round, (bytes, packs)) in [(0, 0), (1_000_000, 0), (0, 1), (0, 2)]
        .into_iter()
        .enumerate()
    {
        let space = format!("space-{round}");
        let args = [
            "sync",
            "site",
            "--space",
            &space,
            "--no-cache",
            "--server",
            &url,
        ];
        log.lines(&world);
        *passed.lock().unwrap() = 0;
        let mut child = world
            .command(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acknowledged = 0;
        eventually("the publish gets so far", || {
            acknowledged += packs_of(&mut log, &world);
            *passed.lock().unwrap() >= bytes && acknowledged >= packs
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let again = world.sync(&space, &["--no-cache"]).ok();
        // Acknowledged packs are not sent again, and no other is sent twice.
        let most = all - acknowledged * LAST_PACK + BESIDE_PACKS;
        assert!(
            again.number("/bytes/sent") < most,
            "{acknowledged} packs: {again:?}"
        );
        for number in [0, 17, 39] {
            let body = world.get(&space, &format!("/{number}.bin")).body;
            assert!(body == noise(1 + number, 500_000), "{space}, {number}");
        }
        assert_eq!(world.sync(&space, &[]).ok().at("/outcome"), "unchanged");
    }
}

/// The number of packs that the server acknowledged since the last read of the log.
fn packs_of(log: &mut AccessLog, world: &World) -> u64 {
    let lines = log.lines(world).into_iter();
    let packs = lines.filter(|line| {
        let path = line["path"].as_str().unwrap_or_default();
        path.starts_with("/api/publish/packs/") && line["status"] == 200
    });
    packs.count() as u64
}
