//! The ledger of a deleted space: what stays, when its objects go, and faults at every statement.

use std::cell::Cell;
use std::rc::Rc;

use pmx_core::backend::BackendError;
use pmx_core::id::SpaceId;
use pmx_core::sql::SqlError;
use pmx_core::time::Timestamp;
use pmx_sync::serve::Spaces as _;
use pmx_sync::space::{Command, Reply};
use pmx_sync::testing::host::block_on;
use pmx_sync::testing::{Faulty, Hook, MemoryBlobs, MemorySpaces, ServerEffect};
use pmx_tests::sql::Sqlite;

use crate::sim::platform::space;

const HOUR: u64 = 3_600_000;

type Spaces = MemorySpaces<Sqlite, MemoryBlobs>;

fn call(spaces: &Spaces, command: Command, hours: u64) -> Reply {
    let now = Timestamp::from_millis(hours * HOUR);
    block_on(spaces.call(&space("docs"), command, now)).unwrap()
}

fn opened(spaces: &Spaces, fresh: u8) -> SpaceId {
    let fresh = SpaceId::from_bytes([fresh; 16]);
    match call(spaces, Command::Open { fresh }, 0) {
        Reply::Space(id) => id,
        other => panic!("{other:?}"),
    }
}

fn due(spaces: &Spaces, hours: u64) -> (Option<u64>, Option<SpaceId>) {
    match call(spaces, Command::ExpirePreviews, hours) {
        Reply::Expired { next, purge, .. } => (next.map(|at| at.as_millis() / HOUR), purge),
        other => panic!("{other:?}"),
    }
}

#[test]
fn objects_of_a_deleted_space_go_after_a_day_and_late_ones_a_day_later() {
    let spaces = Spaces::new(MemoryBlobs::default(), |_| Sqlite::new());
    let first = opened(&spaces, 1);
    let delete = |purge| Command::DeleteSpace { expect: 0, purge };
    let forget = |space| Command::ForgetRemoved { space };
    call(&spaces, delete(false), 1);
    assert_eq!(due(&spaces, 24), (Some(25), None));
    assert_eq!(due(&spaces, 25), (Some(25), Some(first)));
    // The name was taken again, and given up again with its content.
    let second = opened(&spaces, 2);
    assert_ne!(second, first);
    call(&spaces, delete(true), 26);
    call(&spaces, forget(first), 26);
    assert_eq!(due(&spaces, 26), (Some(26), Some(second)));
    call(&spaces, forget(second), 27);
    let mut left = Vec::new();
    for hours in 28..80 {
        if let (_, Some(id)) = due(&spaces, hours) {
            left.push((hours, id));
            call(&spaces, forget(id), hours);
        }
    }
    assert_eq!(left, [(49, first), (50, second)]);
    assert_eq!(due(&spaces, 1_000), (None, None));
}

/// Fails the statement after as many others as the cell says; none without a number.
#[derive(Clone, Default)]
struct FailAt(Rc<Cell<Option<usize>>>);

impl Hook for FailAt {
    async fn before(&self, _: ServerEffect<'_>) -> Result<(), BackendError> {
        Ok(())
    }

    async fn after(&self, _: ServerEffect<'_>) -> Result<(), BackendError> {
        Ok(())
    }

    fn statement(&self, _: &str) -> Result<(), SqlError> {
        match self.0.get() {
            Some(0) => Err(SqlError("on purpose".into())),
            left => {
                self.0.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }
}

#[test]
fn deletion_happens_whole_or_not_at_all() {
    let now = Timestamp::from_millis(1);
    let name = space("docs");
    let open = |fresh: u8| Command::Open {
        fresh: SpaceId::from_bytes([fresh; 16]),
    };
    for n in 0.. {
        let hook = FailAt::default();
        let (blobs, inner) = (MemoryBlobs::default(), hook.clone());
        let spaces = MemorySpaces::new(blobs, move |_| Faulty::new(Sqlite::new(), inner.clone()));
        let ask = |command| block_on(spaces.call(&name, command, now));
        ask(open(1)).unwrap();
        hook.0.set(Some(n));
        let delete = Command::DeleteSpace {
            expect: 0,
            purge: false,
        };
        let deleted = ask(delete);
        let was_hit = hook.0.replace(None) == Some(0) && deleted.is_err();
        let Ok(Reply::Space(id)) = ask(open(2)) else {
            panic!("statement {n}: the name cannot be opened");
        };
        let expected = if was_hit { 1 } else { 2 };
        assert_eq!(id, SpaceId::from_bytes([expected; 16]), "statement {n}");
        if !was_hit {
            assert!(deleted.is_ok(), "statement {n}: {deleted:?}");
            assert!(n > 40, "a deletion of {n} statements");
            return;
        }
    }
}
