//! kill -9 of server and client at random moments of publishes: readers see the old or the new
//! site, whole, and the next run resumes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use pmx_tests::rng::Rng;

use crate::world::{Host, World, on_both_hosts, sync_args};

on_both_hosts! {
    kills_leave_the_old_or_the_new_site_whole,
}

/// The number of kills. Each takes several seconds on a host that restarts three isolates.
const fn rounds(host: Host) -> u64 {
    match host {
        Host::Embedded | Host::Worker => 50,
        Host::Unkind => 12,
    }
}

const PAGES: u64 = 40;

/// The alarm runs after a second, and a machine may be busy.
const ALARM: Duration = Duration::from_secs(20);

/// A page that names its version and hardly compresses, so that a publish takes a while.
fn page(version: u64, number: u64) -> String {
    let mut rng = Rng::new(version * 1000 + number);
    let noise: String = (0..4000).map(|_| format!("{:016x}", rng.next())).collect();
    format!("version {version} page {number} {noise}")
}

fn write(world: &World, version: u64) {
    for number in 0..PAGES {
        world.write(&[(&format!("p/{number}.html"), &page(version, number))]);
    }
    world.write(&[("index.html", &format!("version {version}"))]);
}

/// The version that every page shows.
///
/// A server may finish the last request of a killed client. If a new deploy begins while the test
/// reads the pages, the test reads them again.
fn served(world: &World) -> u64 {
    (0..10)
        .find_map(|_| served_at_once(world))
        .expect("the site comes to rest")
}

/// The version, or `None` if the deploy changed during the reads.
fn served_at_once(world: &World) -> Option<u64> {
    let home = world.get("docs", "/");
    let deploy = home.header("x-pmx-deploy").map(str::to_owned);
    let text = home.text();
    let version = text
        .strip_prefix("version ")
        .and_then(|text| text.parse().ok());
    let version = version.unwrap_or_else(|| panic!("the home page says {text:?}"));
    for number in 0..PAGES {
        let answer = world.get("docs", &format!("/p/{number}"));
        if answer.header("x-pmx-deploy").map(str::to_owned) != deploy {
            return None;
        }
        assert!(
            answer.text() == page(version, number),
            "page {number} is not of {version}"
        );
    }
    Some(version)
}

/// The version that readers see once the space announced every acknowledged deploy.
///
/// A Worker announces one deploy per second, because KV accepts no more. The alarm announces a
/// deploy that the Worker had not announced before it was killed. Until then, readers see a
/// complete older deploy.
fn reported(world: &World, acknowledged: u64) -> u64 {
    let started = Instant::now();
    loop {
        let version = served(world);
        let is_late = version < acknowledged && world.server.host.is_worker();
        if !is_late || started.elapsed() > ALARM {
            return version;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn kills_leave_the_old_or_the_new_site_whole(mut world: World) {
    let seed = std::env::var("PMX_SEED");
    let seed = seed.map_or(11, |text| text.parse().expect("PMX_SEED is a number"));
    println!("PMX_SEED={seed}");
    // The seed determines the moment of each kill.
    let mut rng = Rng::new(seed);
    write(&world, 0);
    world.sync("docs", &[]).ok();
    let (mut live, mut hit, mut acknowledged) = (0, 0, 0);
    let rounds = rounds(world.server.host);
    for version in 1..=rounds {
        write(&world, version);
        let mut client = world.command(&sync_args("docs", &["--json"]));
        client.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rng.next() % 120));
        let victim = rng.below(3);
        if victim != 1 {
            world.server.kill();
        }
        if victim != 0 {
            let _gone = client.kill();
        } else {
            // A client without its server retries for a while.
            std::thread::sleep(Duration::from_millis(rng.next() % 30));
        }
        if victim != 1 {
            world.restart();
        }
        let output = client.wait_with_output().unwrap();
        let done = output.status.success();
        let now = reported(&world, if done { version } else { live });
        assert!(
            now == version || (now == live && !done),
            "round {version}: {now} is served"
        );
        hit += u64::from(!done);
        acknowledged += u64::from(done);
        world.sync("docs", &[]).ok();
        assert_eq!(served(&world), version, "the next run goes on");
        live = version;
    }
    println!("{hit} publishes were cut off, {acknowledged} were acknowledged, none was lost");
    assert!(
        hit >= rounds / 10,
        "the kills came too late to hit anything: {hit} of {rounds}"
    );
}
