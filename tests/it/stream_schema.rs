//! Stream schema versions: the code reads a database that the first version wrote.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::streaming::ask;
use crate::world::{Host, Server, pmx_command};

/// Copies the data folder of a host of the first version.
fn first_version(home: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data-2026-11/streams.db");
    fs::create_dir_all(home).unwrap();
    fs::copy(from, home.join("streams.db")).unwrap();
}

fn numbers(data: &Path) -> Vec<(String, String)> {
    let file = Connection::open(data.join("streams.db")).unwrap();
    let mut select = file
        .prepare("SELECT key, value FROM stream_schema ORDER BY key")
        .unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn streams_of_the_first_version_are_read_and_appended_to() {
    let temp = TempDir::new().unwrap();
    let data = temp.path().join("data");
    first_version(&data);
    let server = Server::start(Host::Embedded, &data, 0);
    let get = |path: &str| ask(server.port, "GET", path, &[], b"").unwrap();
    let chat = get("chat?offset=-1");
    assert_eq!(chat.text(), r#"[{"n":1},{"n":2},{"n":3}]"#);
    let notes = get("notes?offset=-1");
    assert_eq!(notes.text(), "hello world");
    // A reader resumes from an old offset.
    let kept = format!("{:016}_{:016}", 0, 2);
    assert_eq!(get(&format!("chat?offset={kept}")).text(), r#"[{"n":3}]"#);
    let subscription = get("__ds/subscriptions/all");
    assert_eq!(subscription.json()["target_stream"], "everything");
    // New messages use the new columns.
    let text = [("content-type", "text/plain")];
    let more = ask(server.port, "POST", "notes", &text, b"!").unwrap();
    assert_eq!(more.status, 204);
    assert_eq!(get("notes?offset=-1").text(), "hello world!");
    drop(server);
    let known = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        numbers(&data),
        [known("readable_by", "1"), known("schema", "3")]
    );
}

#[test]
fn streams_of_a_newer_version_are_used_or_refused_by_name() {
    let temp = TempDir::new().unwrap();
    let data = temp.path().join("data");
    first_version(&data);
    drop(Server::start(Host::Embedded, &data, 0));
    let record = |schema: &str, readable_by: &str| {
        let file = Connection::open(data.join("streams.db")).unwrap();
        for (key, value) in [("schema", schema), ("readable_by", readable_by)] {
            let update = "UPDATE stream_schema SET value = ? WHERE key = ?";
            assert_eq!(file.execute(update, [value, key]).unwrap(), 1);
        }
    };
    // A newer version that only added to the tables: this code still reads them.
    record("99", "2");
    let server = Server::start(Host::Embedded, &data, 0);
    let chat = ask(server.port, "GET", "chat?offset=-1", &[], b"").unwrap();
    assert_eq!(chat.status, 200);
    drop(server);
    record("99", "98");
    let mut pmx = pmx_command();
    pmx.args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data);
    let ended = pmx.output().unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    for part in ["streams.db", "schema version 99", "version 98", "version 3"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}
