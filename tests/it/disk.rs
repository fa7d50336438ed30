//! Disk faults of the embedded host: lost and damaged databases, a full disk, files that others may
//! read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::namespaces::{Own, within};
use crate::world::{
    Ran, Running, World, eventually, noise, on_both_hosts, pmx_path, try_raw, without_store,
};

on_both_hosts! {
    errors_have_an_id,
}

fn published() -> World {
    let world = World::published("home");
    world.write(&[("index.html", "draft")]);
    world.sync("docs", &["--preview", "next"]).ok();
    world
}

#[test]
fn pointers_are_restored_from_the_ledgers() {
    let mut world = published();
    let table = world.temp.path().join("data/host.db");
    for damage in ["lost", "damaged", "empty"] {
        world.server.kill();
        for end in ["-wal", "-shm"] {
            let _none = fs::remove_file(table.with_file_name(format!("host.db{end}")));
        }
        match damage {
            "lost" => fs::remove_file(&table).unwrap(),
            "damaged" => fs::write(&table, [7; 9_000]).unwrap(),
            _ => fs::write(&table, b"").unwrap(),
        }
        world.restart();
        assert_eq!(world.get("docs", "/").text(), "home", "{damage}");
        let preview = world.get("next--docs", "/").text();
        assert!(preview.starts_with("draft"), "{damage}: {preview}");
    }
    let after = world.sync("docs", &["--expect", "1"]).ok();
    assert_eq!(after.at("/outcome"), "published");
    assert_eq!(world.get("docs", "/").text(), "draft");
}

/// Starts a server by a command that prints its address, and checks that it serves the sites.
fn served(mut serve: Command, when: &str) -> Running {
    serve.stderr(Stdio::null());
    let server = Running::start(serve);
    for (host, text) in [("docs", "home"), ("next--docs", "draft")] {
        let answer = server.get(host, "/").unwrap();
        assert_eq!(answer.status, 200, "{when} {host}: {answer:?}");
        assert!(answer.text().starts_with(text), "{when} {host}: {answer:?}");
    }
    server
}

/// Every file write fails, as on a full disk.
#[test]
fn sites_are_served_from_a_disk_that_takes_no_writes() {
    let mut world = published();
    for kept in [true, false] {
        world.server.kill();
        if !kept {
            for end in ["", "-wal", "-shm"] {
                let _none = fs::remove_file(world.temp.path().join(format!("data/host.db{end}")));
            }
        }
        let serve = "trap '' XFSZ; ulimit -f 0; exec \"$0\" serve --data data --listen 127.0.0.1:0";
        let mut command = Command::new("sh");
        command.args(["-c", serve]).arg(pmx_path());
        without_store(&mut command);
        command.current_dir(world.temp.path());
        served(command, if kept { "kept" } else { "lost" });
    }
    world.restart();
    world.write(&[("index.html", "room again")]);
    world.sync("blog", &[]).ok();
    assert_eq!(world.get("blog", "/").text(), "room again");
}

/// How the server of a data folder ended, before the folder is mounted read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Killed, with write-ahead logs beside the databases.
    Killed,
    /// Stopped by a signal for an orderly shutdown.
    Stopped,
    /// Killed, and copied without the lock and without files that the ledgers contain too.
    Sparse,
}

fn leave(world: &mut World, left: Left) {
    if left == Left::Stopped {
        let id = world.server.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        let process = format!("/proc/{id}/cmdline");
        eventually("the server ends", || {
            fs::read(&process).is_ok_and(|line| line.is_empty())
        });
    }
    world.server.kill();
    let data = world.temp.path().join("data");
    let lost: &[&str] = match left {
        Left::Killed | Left::Stopped => &[],
        Left::Sparse => &["host.db", "host.db-wal", "host.db-shm", "lock"],
    };
    for name in lost {
        let _none = fs::remove_file(data.join(name));
    }
}

#[test]
fn sites_are_served_from_a_read_only_mount() {
    for left in [Left::Killed, Left::Stopped, Left::Sparse] {
        let mut world = published();
        leave(&mut world, left);
        let serve = world.command(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
        let mount = "mount --bind data data
            mount -o remount,bind,ro data
            if touch data/x 2>/dev/null; then exit 1; fi";
        let Some(serve) = within(Own::Mounts, mount, &serve) else {
            return;
        };
        let server = served(serve, &format!("{left:?}"));
        let port = server.port;
        let head = format!("PUT /v1/stream/a HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        let put = format!("{head}Content-Type: text/plain\r\n\r\n");
        let refused = try_raw(port, put.as_bytes(), false).unwrap();
        assert!(refused.status >= 500, "{left:?}: {refused:?}");
        drop(server);
        world.restart();
        assert_eq!(world.get("docs", "/").text(), "home", "{left:?}");
    }
}

/// A disk without a free block, first with `host.db`, then without. Once there is room, the server
/// takes publishes again.
#[test]
fn sites_are_served_from_a_full_disk() {
    for lost in [&[][..], &["host.db", "host.db-wal", "host.db-shm"]] {
        let mut world = published();
        world.server.kill();
        for name in lost {
            let _none = fs::remove_file(world.temp.path().join("data").join(name));
        }
        let serve = world.command(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
        let mount = "mkdir full
            mount -t tmpfs -o size=24m tmpfs full
            cp -a data/. full/
            mount --bind full data
            dd if=/dev/zero of=data/fill bs=4k 2>/dev/null || true
            if echo x > data/x 2>/dev/null && test -s data/x; then exit 1; fi
            rm -f data/x";
        let Some(serve) = within(Own::Mounts, mount, &serve) else {
            return;
        };
        let server = served(serve, &format!("without {lost:?}"));
        let sync = || {
            let mut sync = world.command(&["sync", "site", "--space", "docs", "--json"]);
            sync.env("PMX_SERVER", format!("http://127.0.0.1:{}", server.port));
            Ran::from(sync.output().unwrap())
        };
        world.write_bytes("index.html", &noise(1, 100_000));
        let refused = sync();
        assert!(
            refused.code != 0 && refused.stdout.contains("E_STORAGE"),
            "{refused:?}"
        );
        assert_eq!(server.get("docs", "/").unwrap().text(), "home");
        let data = world.temp.path().join("data");
        let inside = format!("/proc/{}/root{}", server.id(), data.join("fill").display());
        fs::remove_file(inside).unwrap();
        sync().ok();
        assert_eq!(server.get("docs", "/").unwrap().body, noise(1, 100_000));
    }
}

fn modes(folder: &Path, found: &mut Vec<(String, u32)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        // The cache that this world gives the server.
        if entry.file_name() == "no-cache" {
            continue;
        }
        found.push((entry.path().display().to_string(), mode));
        if entry.path().is_dir() {
            modes(&entry.path(), found);
        }
    }
}

#[test]
fn data_files_are_readable_by_their_owner_only() {
    let mut world = published();
    let data = world.temp.path().join("data");
    let text = [("Content-Type", "text/plain")];
    assert_eq!(
        world.request("PUT", "", "/v1/stream/a", &text, b"x").status,
        201
    );
    let check = |when: &str| {
        let mut found = vec![(
            "data".to_owned(),
            fs::metadata(&data).unwrap().permissions().mode() & 0o777,
        )];
        modes(&data, &mut found);
        assert!(found.len() > 5, "{when}: {found:?}");
        found.retain(|(_, mode)| mode & 0o077 != 0);
        assert!(found.is_empty(), "{when}: {found:?}");
    };
    // The world made the folder before the server started.
    check("a new folder");
    world.server.kill();
    for name in ["host.db", "streams.db", "spaces/docs.db", "lock"] {
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(data.join("spaces"), fs::Permissions::from_mode(0o755)).unwrap();
    world.restart();
    check("files of an earlier version");
}

fn errors_have_an_id(world: World) {
    let id = |path: &str, headers: &[(&str, &str)]| {
        let answer = world.get_with("", path, headers);
        assert!(answer.status >= 400, "{answer:?}");
        let json = answer.json();
        let id = json["id"].as_str().unwrap_or_default().to_owned();
        assert_eq!(id.len(), 16, "{path}: {json}");
        id
    };
    let ids = [
        id("/api/none", &[]),
        id("/api/deploys?space=docs", &[]),
        id(
            "/api/deploys?space=docs",
            &[("Authorization", "Bearer wrong")],
        ),
        id("/v1/stream/none", &[]),
    ];
    let log = world.temp.path().join("data.log");
    eventually("the log has the ids", || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        ids.iter().all(|id| log.contains(id))
    });
}

#[test]
fn failure_cause_is_in_the_log_only() {
    let mut world = published();
    world.server.kill();
    fs::remove_dir_all(world.temp.path().join("data/objects/spaces")).unwrap();
    world.restart();
    let failed = world.get("docs", "/");
    assert_eq!(failed.status, 500);
    let text = failed.text();
    let answer = failed.json();
    let temp = world.temp.path().display().to_string();
    assert!(!text.contains("spaces/") && !text.contains(&temp), "{text}");
    let id = answer["id"].as_str().unwrap().to_owned();
    let log = world.temp.path().join("data.log");
    eventually("the log has the cause", || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        let mut lines = log.lines().filter(|line| line.contains(&id));
        lines.any(|line| line.contains("fault") && line.contains("spaces/"))
    });
}
