use pmx_core::id::{ObjectId, Root, SpaceId};
use pmx_core::location::Extent;

use super::super::blocking::block_on;
use super::*;

fn pointer(deploy: u64, mark: u8) -> Pointer {
    let root = Root::from_bytes([mark; 32]);
    let index = Extent {
        object: ObjectId::from_bytes([mark; 16]),
        offset: 0,
        len: 9,
    };
    Pointer {
        space: SpaceId::from_bytes([1; 16]),
        deploy,
        root,
        index,
        earlier: vec![(root, index)],
        live: false,
        rules: false,
        events: false,
        gone: false,
        base: 0,
        expires: None,
        revision: 0,
    }
}

fn gone(deploy: u64) -> Pointer {
    Pointer {
        gone: true,
        base: 0,
        ..pointer(deploy, 9)
    }
}

#[test]
fn pointer_never_goes_back_and_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("host.db");
    let docs = Channel::of_label("docs").unwrap();
    let blog = Channel::of_label("next--docs").unwrap();
    let mut table = PointerTable::open(&path).unwrap().0;
    assert_eq!(block_on(table.read(&docs)).unwrap(), None);
    for (written, expected) in [
        (pointer(5, 1), pointer(5, 1)),
        (pointer(4, 2), pointer(5, 1)),
        (pointer(5, 3), pointer(5, 3)),
        (pointer(10, 4), pointer(10, 4)),
        (pointer(9, 5), pointer(10, 4)),
        (gone(10), gone(10)),
        (pointer(10, 6), gone(10)),
        (pointer(11, 7), pointer(11, 7)),
    ] {
        block_on(table.write(&docs, &written)).unwrap();
        assert_eq!(
            block_on(table.read(&docs)).unwrap().as_ref(),
            Some(&expected)
        );
        drop(table);
        table = PointerTable::open(&path).unwrap().0;
        assert_eq!(block_on(table.read(&docs)).unwrap(), Some(expected));
    }
    assert_eq!(block_on(table.read(&blog)).unwrap(), None);
}

#[test]
fn space_replaces_the_pointers_of_one_whose_ledger_was_lost() {
    let home = tempfile::tempdir().unwrap();
    let docs = Channel::of_label("docs").unwrap();
    let table = PointerTable::open(&home.path().join("host.db")).unwrap().0;
    let of_space = |space: u8, deploy: u64, base: u64| Pointer {
        space: SpaceId::from_bytes([space; 16]),
        base,
        ..pointer(deploy, 1)
    };
    for (written, expected) in [
        (of_space(1, 35, 0), of_space(1, 35, 0)),
        (of_space(2, 30, 0), of_space(2, 30, 0)),
        (of_space(3, 31, 30), of_space(3, 31, 30)),
        // Late, from the space before.
        (of_space(2, 30, 0), of_space(3, 31, 30)),
    ] {
        block_on(table.write(&docs, &written)).unwrap();
        assert_eq!(block_on(table.read(&docs)).unwrap(), Some(expected));
    }
}

#[test]
fn stale_write_without_a_read_before_it_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("host.db");
    let docs = Channel::of_label("docs").unwrap();
    block_on(
        PointerTable::open(&path)
            .unwrap()
            .0
            .write(&docs, &pointer(2, 1)),
    )
    .unwrap();
    let table = PointerTable::open(&path).unwrap().0;
    block_on(table.write(&docs, &pointer(1, 2))).unwrap();
    assert_eq!(block_on(table.read(&docs)).unwrap(), Some(pointer(2, 1)));
}

#[test]
fn open_replaces_a_damaged_database() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("host.db");
    for _ in 0..2 {
        let (table, found) = PointerTable::open(&path).unwrap();
        assert_eq!(found, TableState::New);
        drop(table);
    }
    PointerTable::open(&path).unwrap().0.complete().unwrap();
    assert_eq!(PointerTable::open(&path).unwrap().1, TableState::Whole);
    for damaged in [&b"no database"[..], &[7; 5_000]] {
        std::fs::write(&path, damaged).unwrap();
        let (table, found) = PointerTable::open(&path).unwrap();
        assert!(matches!(found, TableState::Damaged(_)), "{found:?}");
        let docs = Channel::of_label("docs").unwrap();
        block_on(table.write(&docs, &pointer(1, 1))).unwrap();
        table.complete().unwrap();
        drop(table);
        assert_eq!(PointerTable::open(&path).unwrap().1, TableState::Whole);
    }
}

#[test]
fn restore_keeps_pointers_in_memory_where_the_disk_takes_none() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("missing/host.db");
    let (table, found) = PointerTable::open(&path).unwrap();
    assert!(matches!(found, TableState::Unwritable(_)), "{found:?}");
    let docs = Channel::of_label("docs").unwrap();
    assert!(block_on(table.write(&docs, &pointer(1, 1))).is_err());
    table.restore(&docs, &pointer(1, 1));
    assert_eq!(block_on(table.read(&docs)).unwrap(), Some(pointer(1, 1)));
    // The disk takes writes again.
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    block_on(table.write(&docs, &pointer(2, 1))).unwrap();
    assert_eq!(block_on(table.read(&docs)).unwrap(), Some(pointer(2, 1)));
}

#[test]
fn open_refuses_a_newer_database_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("host.db");
    // A table of a release before schema versions.
    let old = Database::open(&path).unwrap();
    old.run(TABLE, &[]).unwrap();
    let row = "INSERT INTO pointer (name, deploy, body) VALUES ('docs', 2, '{}')";
    old.run(row, &[]).unwrap();
    drop(old);
    assert_eq!(PointerTable::open(&path).unwrap().1, TableState::Whole);
    let record = |key: &str, value: &str| {
        let update = "UPDATE meta SET value = ? WHERE key = ?";
        let table = Database::open(&path).unwrap();
        table.run(update, &[value.into(), key.into()]).unwrap();
    };
    record("schema", "9");
    assert_eq!(PointerTable::open(&path).unwrap().1, TableState::Whole);
    record("readable_by", "9");
    let refused = PointerTable::open(&path).map(|_| ()).unwrap_err();
    assert!(
        refused.to_string().contains("schema version 9"),
        "{refused}"
    );
}

#[test]
fn read_does_not_wait_for_a_write() {
    let home = tempfile::tempdir().unwrap();
    let (table, _) = PointerTable::open(&home.path().join("host.db")).unwrap();
    let docs = Channel::of_label("docs").unwrap();
    block_on(table.write(&docs, &pointer(1, 1))).unwrap();
    table.memory_mut().known.clear();
    let _flushing = table.writer.lock().unwrap();
    assert_eq!(block_on(table.read(&docs)).unwrap(), Some(pointer(1, 1)));
    let blog = Channel::of_label("blog").unwrap();
    assert_eq!(block_on(table.read(&blog)).unwrap(), None);
}
