//! Stored names of ledgers, for an object that the platform wakes without a name.

use pmx_core::id::SpaceId;
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;
use pmx_streams::{Engine, StreamName};
use pmx_sync::space::{Command, execute, name_of};
use pmx_sync::testing::MemoryBlobs;
use pmx_tests::sql::Sqlite;

use crate::sim::platform::space;
use pmx_sync::testing::host::block_on;

#[test]
fn space_name_is_the_last_that_opened_its_ledger() {
    let (sql, blobs) = (Sqlite::new(), MemoryBlobs::default());
    let open = |name: &str| {
        let fresh = SpaceId::from_bytes([1; 16]);
        let open = Command::Open { fresh };
        block_on(execute(
            &sql,
            &blobs,
            &space(name),
            open,
            Timestamp::from_millis(1),
        ))
        .unwrap();
    };
    assert_eq!(name_of(&sql).unwrap(), None, "no space");
    open("docs");
    assert_eq!(name_of(&sql).unwrap(), Some(space("docs")));
    // As an earlier release left the ledger.
    sql.run("DELETE FROM meta WHERE key = 'name'", &[]).unwrap();
    assert_eq!(name_of(&sql).unwrap(), None);
    open("docs");
    assert_eq!(name_of(&sql).unwrap(), Some(space("docs")));
    open("docs-2");
    assert_eq!(name_of(&sql).unwrap(), Some(space("docs-2")));
}

#[test]
fn stream_name_is_kept_in_its_database() {
    let sql = Sqlite::new();
    Engine::install(&sql).unwrap();
    assert_eq!(Engine::name_of(&sql).unwrap(), None);
    let name = StreamName::parse("a/b").unwrap();
    Engine::save_name(&sql, &name).unwrap();
    Engine::save_name(&sql, &name).unwrap();
    assert_eq!(Engine::name_of(&sql).unwrap(), Some(name));
    // The schema versions are in the same database.
    Engine::install(&sql).unwrap();
}
