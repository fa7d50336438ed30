//! Ledger schema versions of a space: the code migrates older ones, and uses or refuses newer ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pmx_core::code::Code;
use pmx_core::id::{NodeId, SpaceId};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::sql::Sql as _;
use pmx_core::time::Timestamp;
use pmx_sync::space::{Command, Reply, execute};
use pmx_sync::testing::MemoryBlobs;
use pmx_tests::sql::Sqlite;
use rusqlite::Connection;

use crate::world::World;
use pmx_sync::testing::host::block_on;

/// The tables of version 1, as that version made them.
const FIRST: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE node (id BLOB PRIMARY KEY, bytes BLOB NOT NULL, claimed INTEGER NOT NULL,
        object BLOB, at INTEGER, length INTEGER) STRICT, WITHOUT ROWID;
    CREATE TABLE have (bucket INTEGER PRIMARY KEY, blobs BLOB NOT NULL) STRICT;
    CREATE TABLE pack (id BLOB PRIMARY KEY, object BLOB NOT NULL, toc BLOB) STRICT, WITHOUT ROWID;
    CREATE TABLE part (blob BLOB NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL,
        chaining_value BLOB NOT NULL, location BLOB NOT NULL,
        PRIMARY KEY (blob, number)) STRICT, WITHOUT ROWID;
    CREATE TABLE deploy (number INTEGER PRIMARY KEY, root BLOB NOT NULL, parent INTEGER NOT NULL,
        kind TEXT NOT NULL, restores INTEGER, at INTEGER NOT NULL,
        files INTEGER NOT NULL, bytes INTEGER NOT NULL, new_bytes INTEGER NOT NULL,
        added INTEGER NOT NULL, modified INTEGER NOT NULL, removed INTEGER NOT NULL,
        unchanged INTEGER NOT NULL, order_kind TEXT, order_value INTEGER,
        key TEXT NOT NULL, meta TEXT NOT NULL) STRICT;
    CREATE TABLE outbox (kind TEXT PRIMARY KEY, deploy INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('schema', '1'), ('space', 'ID');
    INSERT INTO deploy VALUES (1, x'ROOT', 0, 'publish', NULL, 5, 1, 1, 1, 1, 0, 0, 0,
        'run', 7, 'k', '{}');";

/// Tables and columns that version 2 added.
const SECOND: &str = "
    ALTER TABLE deploy ADD COLUMN alias TEXT;
    CREATE INDEX deploy_alias ON deploy (alias, number);
    CREATE TABLE alias (name TEXT PRIMARY KEY, deploy INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    UPDATE meta SET value = '2' WHERE key = 'schema';";

fn ledger(statements: &[&str]) -> Sqlite {
    let ledger = Sqlite::new();
    let id = SpaceId::from_bytes([7; 16]).to_string();
    let root = NodeId::of(b"root").to_hex();
    for statement in statements.iter().flat_map(|all| all.split(';')) {
        let statement = statement.replace("ID'", &format!("{id}'"));
        let statement = statement.replace("ROOT", &root);
        if !statement.trim().is_empty() {
            ledger.run(&statement, &[]).unwrap();
        }
    }
    ledger
}

fn ask(ledger: &Sqlite, command: Command) -> Result<Reply, Problem> {
    let docs = SpaceName::parse("docs").unwrap();
    let blobs = MemoryBlobs::default();
    let now = Timestamp::from_millis(9);
    block_on(execute(ledger, &blobs, &docs, command, now))
}

fn active(ledger: &Sqlite) -> Result<u64, Code> {
    let command = Command::Deploys {
        before: None,
        limit: 9,
        backup: false,
    };
    match ask(ledger, command) {
        Ok(Reply::Deploys { active, .. }) => Ok(active),
        Ok(other) => panic!("{other:?}"),
        Err(problem) => Err(problem.code),
    }
}

fn everything(ledger: &Sqlite) -> String {
    let tables = "SELECT name, sql FROM sqlite_master ORDER BY name";
    // A ledger stores its space's name when it is opened.
    let numbers = "SELECT key, value FROM meta WHERE key <> 'name' ORDER BY key";
    [tables, numbers]
        .map(|select| format!("{:?}", ledger.run(select, &[]).unwrap()))
        .concat()
}

fn set(ledger: &Sqlite, schema: &str, readable_by: &str) {
    let update = "UPDATE meta SET value = ? WHERE key = ?";
    for (key, value) in [("schema", schema), ("readable_by", readable_by)] {
        ledger.run(update, &[value.into(), key.into()]).unwrap();
    }
}

#[test]
fn ledgers_of_versions_1_and_2_are_migrated_once() {
    let fresh = ledger(&[]);
    let open = |ledger: &Sqlite| {
        let fresh = SpaceId::from_bytes([7; 16]);
        ask(ledger, Command::Open { fresh }).unwrap()
    };
    open(&fresh);
    for statements in [&[FIRST][..], &[FIRST, SECOND]] {
        let old = ledger(statements);
        assert_eq!(active(&old), Ok(1));
        let once = everything(&old);
        for part in [
            "readable_by",
            "Text(\"6\")",
            "hold",
            "build",
            "deploy_order",
        ] {
            assert!(once.contains(part), "{part} is not in {once}");
        }
        open(&old);
        assert_eq!(active(&old), Ok(1));
        assert_eq!(everything(&old), once);
        let names = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'stream%' ORDER BY name";
        assert_eq!(
            old.run(names, &[]).unwrap(),
            fresh.run(names, &[]).unwrap(),
            "a migrated ledger and a new one have the same tables"
        );
    }
}

#[test]
fn ledger_of_a_newer_version_is_used_if_readable_or_refused_untouched() {
    let newer = ledger(&[FIRST, SECOND]);
    assert_eq!(active(&newer), Ok(1));
    newer
        .run("CREATE TABLE later (x BLOB) STRICT", &[])
        .unwrap();
    for (schema, readable_by, expected) in [
        ("7", "3", Ok(1)),
        ("9", "1", Ok(1)),
        ("7", "7", Err(Code::SchemaTooNew)),
        ("9", "7", Err(Code::SchemaTooNew)),
        ("x", "3", Err(Code::Corrupt)),
    ] {
        set(&newer, schema, readable_by);
        let before = everything(&newer);
        assert_eq!(active(&newer), expected, "{schema}, {readable_by}");
        let fresh = SpaceId::from_bytes([8; 16]);
        let opened = ask(&newer, Command::Open { fresh });
        assert_eq!(opened.map_err(|p| p.code).map(drop), expected.map(drop));
        assert_eq!(everything(&newer), before, "{schema}, {readable_by}");
    }
}

#[test]
fn ledger_that_is_too_new_closes_its_space_only() {
    let mut world = World::new();
    world.write(&[("index.html", "x")]);
    world.sync("docs", &[]).ok();
    world.sync("other", &[]).ok();
    world.server.kill();
    let path: PathBuf = world.temp.path().join("data/spaces/docs.db");
    let ledger = rusqlite::Connection::open(path).unwrap();
    let newer = "UPDATE meta SET value = '99' WHERE key IN ('schema', 'readable_by')";
    ledger.execute_batch(newer).unwrap();
    drop(ledger);
    world.restart();
    world.write(&[("index.html", "y")]);
    let refused = world.sync("docs", &[]).fails(1, "E_SCHEMA_TOO_NEW");
    assert!(refused.at("/message").to_string().contains("99"));
    world.sync("other", &[]).ok();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.unwrap(), to.to_owned());
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Sites, previews, history and orders of a data folder that an earlier version wrote.
#[test]
fn data_folder_of_an_earlier_version_is_served_and_published_to() {
    let mut world = World::new();
    world.server.kill();
    let data = world.temp.path().join("data");
    fs::remove_dir_all(&data).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data-2026-11");
    copy(&fixture, &data);
    // The server refuses a secret that others can read, and git does not store such modes.
    let secret = data.join("secret");
    fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
    world.restart();
    for (host, path, text) in [
        ("docs", "/", "home\n"),
        ("docs", "/p3", "<h1>page 3</h1>\n"),
        ("2--docs", "/", "home 2\n"),
        ("pr-7--docs", "/p7", "feature\n"),
    ] {
        let answer = world.get(host, path);
        // Pages of previews get the live script.
        assert_eq!(answer.status, 200, "{host}{path}");
        assert!(
            answer.text().starts_with(text),
            "{host}{path}: {}",
            answer.text()
        );
    }
    let other = world.get("other", "/");
    assert!(other.text().contains("home 2"), "{}", other.text());
    world.write(&[("index.html", "home 3")]);
    let older = world.sync("docs", &["--order", "run:4"]);
    older.fails(6, "E_OLDER_BUILD");
    let newer = world.sync("docs", &["--order", "run:6"]).ok();
    assert_eq!(newer.number("/deploy"), 5);
    assert_eq!(world.get("docs", "/").text(), "home 3");
    assert_eq!(world.get("4--docs", "/").text(), "home\n");
    // Each database now records which versions of the code can read it.
    for (file, table) in [("spaces/docs.db", "meta"), ("host.db", "meta")] {
        let file = Connection::open(data.join(file)).unwrap();
        let select = format!("SELECT count(*) FROM {table} WHERE key IN ('schema', 'readable_by')");
        let count: i64 = file.query_row(&select, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2, "{table}");
    }
}
