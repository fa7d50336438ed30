//! Object store as a port: what `Blobs` promises, against a real server.

use std::sync::Arc;

use pmx::host::{Log, ObjectStore, StoreConfig, StoreVariables};
use pmx_core::backend::{Blobs as _, ObjectKey};
use pmx_core::id::{ObjectId, SpaceId};
use tokio::runtime::Runtime;

use super::PLACE;
use super::bucket::{Bucket, SECRET};
use crate::world::or_skip;

fn open(bucket: &Bucket, data: &std::path::Path) -> Arc<ObjectStore> {
    let settings = bucket.settings(PLACE);
    let env = settings.iter().map(|(name, value)| (&**name, &**value));
    let config = StoreConfig {
        url: PLACE.parse().unwrap(),
        variables: StoreVariables::of(&env.collect()),
        takes_over: false,
    };
    assert!(!format!("{config:?}").contains(SECRET));
    ObjectStore::open(&config, data, Log::Quiet).unwrap()
}

fn key(space: u8, object: u8) -> ObjectKey {
    ObjectKey {
        space: SpaceId::from_bytes([space; 16]),
        object: ObjectId::from_bytes([object; 16]),
    }
}

/// Runs work with a store in the bucket.
fn with_store(bucket: &Bucket, work: impl AsyncFnOnce(Arc<ObjectStore>)) {
    let home = tempfile::tempdir().unwrap();
    let store = open(bucket, home.path());
    Runtime::new().unwrap().block_on(work(store));
}

#[test]
fn ranges_are_read_as_from_a_folder() {
    let bucket = or_skip!(Bucket::start());
    with_store(&bucket, async |store| {
        store.write(key(1, 1), "0123456789".into()).await.unwrap();
        store.write(key(1, 2), "".into()).await.unwrap();
        for (object, range, expected) in [
            (1, 0..10, Some("0123456789")),
            (1, 3..5, Some("34")),
            (1, 10..10, Some("")),
            (1, 0..0, Some("")),
            (1, 9..11, None),
            (1, 11..11, None),
            (1, 20..30, None),
            (1, 0..u64::MAX, None),
            (2, 0..0, Some("")),
            (2, 0..1, None),
            (3, 0..0, None),
            (3, 0..1, None),
        ] {
            let found = store.read(key(1, object), range.clone()).await.unwrap();
            let found = found.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
            assert_eq!(found.as_deref(), expected, "{object} {range:?}");
        }
        let backwards = std::ops::Range { start: 5, end: 3 };
        assert_eq!(store.read(key(1, 1), backwards).await.unwrap(), None);
    });
}

#[test]
fn objects_are_written_once_and_deleted_in_bulk() {
    let bucket = or_skip!(Bucket::start());
    with_store(&bucket, async |store| {
        for (space, object) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
            store.write(key(space, object), "one".into()).await.unwrap();
        }
        store.write(key(1, 1), "one".into()).await.unwrap();
        let refused = store.write(key(1, 1), "two".into()).await.unwrap_err();
        assert!(refused.to_string().contains("other bytes"), "{refused}");
        assert_eq!(store.read(key(1, 1), 0..3).await.unwrap().unwrap(), "one");
        store.delete(&[key(1, 1), key(1, 9)]).await.unwrap();
        assert_eq!(store.read(key(1, 1), 0..3).await.unwrap(), None);
        let space = key(1, 0).space;
        for expected in [1, 1, 0] {
            assert_eq!(store.delete_some(space, 1).await.unwrap(), expected);
        }
        assert!(store.read(key(2, 1), 0..3).await.unwrap().is_some());
    });
}
