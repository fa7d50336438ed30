//! Faulty environments of `pmx` and its host: each has its own message and exit code, and the site
//! stays live.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::world::{
    Ran, World, eventually, http, on_both_hosts, pmx_path, sync_args, without_store,
};

on_both_hosts!(control_characters_are_published_and_reach_no_terminal);

fn run(command: &mut Command) -> Ran {
    command.output().unwrap().into()
}

fn live() -> World {
    let world = World::published("kept");
    world.write(&[("index.html", "changed")]);
    world
}

type Spoil = fn(&mut Command, &World);

#[test]
fn environment_faults_have_their_own_message_and_exit_code() {
    let world = live();
    let cases: [(&str, i32, &str, Spoil); 6] = [
        ("no token", 4, "token", |command, world| {
            command.env("PMX_DATA", world.temp.path().join("elsewhere"));
        }),
        ("a token that is no header", 4, "token", |command, _| {
            command.env("PMX_TOKEN", "a\nb");
        }),
        (
            "a name that does not exist",
            5,
            "nowhere.invalid",
            |command, _| {
                command.env("PMX_SERVER", "http://nowhere.invalid");
            },
        ),
        (
            "TLS where there is none",
            5,
            "127.0.0.1",
            |command, world| {
                let port = world.server.port;
                command.env("PMX_SERVER", format!("https://127.0.0.1:{port}"));
            },
        ),
        (
            "a port without a listener",
            5,
            "127.0.0.1:9",
            |command, _| {
                command.env("PMX_SERVER", "http://127.0.0.1:9");
            },
        ),
        ("no such folder", 3, "nothing-here", |command, _| {
            command.arg("nothing-here");
        }),
    ];
    for (story, exit, said, spoil) in cases {
        let args = ["sync", "--space", "docs"];
        let mut command = world.command(&args);
        spoil(&mut command, &world);
        if story != "no such folder" {
            command.arg("site");
        }
        let ran = run(&mut command);
        assert_eq!(ran.code, exit, "{story}: {ran:?}");
        assert!(ran.stderr.contains(said), "{story}: {ran:?}");
        assert!(ran.stdout.is_empty(), "{story}: {ran:?}");
        assert_eq!(world.get("docs", "/").text(), "kept", "{story}");
    }
    // A fault that only costs time does not fail the command.
    for (story, spoil) in [
        (
            "no home",
            (|command, _| {
                command.env_remove("HOME").env_remove("PMX_CACHE");
            }) as Spoil,
        ),
        ("a cache that can't be written", |command, _| {
            command.env("PMX_CACHE", "/proc/nothing");
        }),
        ("a folder of its own that is read-only", |command, _| {
            command.current_dir("/proc");
        }),
    ] {
        let site = world.site();
        let mut command = world.command(&["sync", "--space", "docs"]);
        spoil(command.arg(site), &world);
        let ran = run(&mut command);
        assert_eq!(ran.code, 0, "{story}: {ran:?}");
    }
    assert_eq!(world.get("docs", "/").text(), "changed");
}

#[test]
fn full_disk_loses_nothing() {
    let mut world = live();
    let (data, port) = (world.temp.path().join("data"), world.server.port);
    world.server.kill();
    // No file may grow beyond 400 KiB, so that the disk is full for the server.
    let script = "trap '' XFSZ; ulimit -f 800; exec \"$0\" serve --data \"$1\" --listen \"$2\"";
    let mut full = Command::new("sh");
    without_store(&mut full);
    let mut full = full
        .args(["-c", script])
        .arg(pmx_path())
        .arg(&data)
        .arg(format!("127.0.0.1:{port}"))
        .process_group(0)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the server answers", || {
        let healthy = http::get(port, &format!("127.0.0.1:{port}"), "/healthz");
        healthy.is_some_and(|answer| answer.status == 200)
    });
    let noise: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    world.write_bytes("large.png", &noise);
    let refused = world.sync("docs", &[]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(world.get("docs", "/").text(), "kept");
    full.kill().unwrap();
    full.wait().unwrap();

    world.server = crate::world::Server::start(crate::world::Host::Embedded, &data, port);
    assert_eq!(world.get("docs", "/").text(), "kept");
    world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/large.png").body, noise);
    assert_eq!(world.get("docs", "/").text(), "changed");
}

#[test]
fn slow_senders_are_cut_off_and_delay_no_other_client() {
    let world = live();
    let port = world.server.port;
    let begin = |text: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(90)))
            .unwrap();
        stream
    };
    let id = "ab".repeat(32);
    let token = world.token();
    let slow = [
        "GET / HTTP/1.1\r\nHost: docs.loc".to_owned(),
        format!(
            "PUT /api/publish/packs/{id}?space=docs HTTP/1.1\r\nHost: 127.0.0.1\r\n\
             Authorization: {token}\r\nContent-Length: 500\r\n\r\nabc"
        ),
    ];
    let waiting = slow.map(|text| {
        let mut stream = begin(&text);
        thread::spawn(move || {
            let mut said = Vec::new();
            // The server may answer and close, or only close. It must not let the client time out.
            stream.read_to_end(&mut said).map(|_| said)
        })
    });
    assert_eq!(world.get("docs", "/").text(), "kept");
    for waiting in waiting {
        let said = waiting.join().unwrap().unwrap();
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408"),
            "{said}"
        );
    }
    assert_eq!(world.get("docs", "/").text(), "kept");
}

fn control_characters_are_published_and_reach_no_terminal(world: World) {
    let names = [
        "\u{1f600}.html",
        "<script>.html",
        "${jndi}.html",
        "a\u{202e}b.html",
    ];
    for name in names {
        world.write(&[(name, "odd")]);
    }
    let message = "\u{1b}[2J<script>\u{202e}${jndi}\u{1f600}\r\nmore";
    let ran = world.pmx(&sync_args("docs", &["-m", message])).ok();
    let listed = world.pmx(&["deploys", "--space", "docs"]).ok();
    world.write(&[("c\u{202e}d.html", "even")]);
    world.sync("docs", &[]).ok();
    let differs = world.pmx(&["diff", "1", "2", "--space", "docs"]).ok();
    assert!(differs.stdout.contains("d.html"), "{differs:?}");
    for shown in [&ran, &listed, &differs] {
        for text in [&shown.stdout, &shown.stderr] {
            assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']), "{shown:?}");
        }
    }
    assert!(listed.stdout.contains("<script>"), "{listed:?}");
    let json = world.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    assert!(!json.stdout.contains('\u{1b}'), "{json:?}");
    for path in [
        "/%F0%9F%98%80",
        "/%3Cscript%3E",
        "/$%7Bjndi%7D",
        "/a%E2%80%AEb",
    ] {
        let answer = world.get("docs", path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "odd"),
            "{path}"
        );
    }
}
