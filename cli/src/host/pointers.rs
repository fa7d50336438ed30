//! Which deploy of each site is active, and which each of its previews shows, for the read path.
//!
//! A table in the host's own database, with the pointers in use kept in memory before it: this is
//! the only process that writes them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use pmx_sync::channel::Channel;
use pmx_sync::serve::{BackendError, Lag, Pointer, Pointers};
use pmx_sync::sql::{Sql, SqlError, Value};

use super::error::HostError;
use super::sql::Ledger;

/// The pointers of all sites and previews.
pub struct PointerTable {
    table: Mutex<Ledger>,
    // Written only while `table` is held, so that it never falls behind what was read.
    known: RwLock<HashMap<Channel, Pointer>>,
    lag: Option<Lag>,
}

impl PointerTable {
    /// Opens the database, making it if there is none.
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let table = prepared(path).map_err(|error| HostError::Ledger {
            path: path.to_owned(),
            why: error.0,
        })?;
        Ok(Self {
            table: Mutex::new(table),
            known: RwLock::default(),
            lag: None,
        })
    }

    /// The same, showing what was active so long ago.
    pub(crate) fn lagging(self, by: Option<Duration>) -> Self {
        let lag = by.map(Lag::new);
        Self { lag, ..self }
    }

    fn shown(&self, channel: &Channel, newest: Pointer) -> Pointer {
        match &self.lag {
            None => newest,
            Some(lag) => lag.shown(channel, &newest, super::now()),
        }
    }

    fn known(&self, channel: &Channel) -> Option<Pointer> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(channel).cloned()
    }

    fn learn(&self, channel: &Channel, pointer: Pointer, _table: &MutexGuard<'_, Ledger>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(channel.clone(), pointer);
    }

    fn table(&self) -> MutexGuard<'_, Ledger> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pointers for PointerTable {
    async fn read(&self, channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        if let Some(pointer) = self.known(channel) {
            return Ok(Some(self.shown(channel, pointer)));
        }
        let failed = |why: &dyn std::fmt::Display| {
            BackendError::new(format!("reading the pointer of {channel}"), why)
        };
        let table = self.table();
        let rows = table.run(READ, &[channel.to_string().into()]);
        let Some(row) = rows.map_err(|error| failed(&error))?.pop() else {
            return Ok(None);
        };
        let [Value::Text(body)] = &row[..] else {
            return Err(failed(&"its body is no text"));
        };
        let pointer: Pointer = serde_json::from_str(body).map_err(|error| failed(&error))?;
        self.learn(channel, pointer.clone(), &table);
        Ok(Some(self.shown(channel, pointer)))
    }

    async fn write(&self, channel: &Channel, pointer: &Pointer) -> Result<(), BackendError> {
        let failed = |why: &dyn std::fmt::Display| {
            BackendError::new(format!("writing the pointer of {channel}"), why)
        };
        let body = serde_json::to_string(pointer).map_err(|error| failed(&error))?;
        let params = [
            channel.to_string().into(),
            pointer.order().into(),
            body.into(),
        ];
        let table = self.table();
        let written = table.run(WRITE, &params).map_err(|error| failed(&error))?;
        if !written.is_empty() {
            self.learn(channel, pointer.clone(), &table);
        }
        Ok(())
    }
}

/// Pointers kept in memory: one with its ten earlier deploys takes about a kilobyte.
const KNOWN_MAX: usize = 8_192;

/// `deploy` is the pointer's order, which is more than the deploy's number.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS pointer (
    name TEXT NOT NULL PRIMARY KEY,
    deploy INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID";

const READ: &str = "SELECT body FROM pointer WHERE name = ?";

const WRITE: &str = "INSERT INTO pointer (name, deploy, body) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET deploy = excluded.deploy, body = excluded.body
    WHERE excluded.deploy >= pointer.deploy
    RETURNING deploy";

fn prepared(path: &Path) -> Result<Ledger, SqlError> {
    let table = Ledger::open(path)?;
    table.run(TABLE, &[])?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use pmx_sync::id::{ObjectId, Root, SpaceId};
    use pmx_sync::location::Extent;

    use super::super::ready::block_on;
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
            gone: false,
        }
    }

    fn gone(deploy: u64) -> Pointer {
        Pointer {
            gone: true,
            ..pointer(deploy, 9)
        }
    }

    #[test]
    fn never_goes_back_and_survives() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("host.db");
        let docs = Channel::of_label("docs").unwrap();
        let blog = Channel::of_label("next--docs").unwrap();
        let mut table = PointerTable::open(&path).unwrap();
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
            table = PointerTable::open(&path).unwrap();
            assert_eq!(block_on(table.read(&docs)).unwrap(), Some(expected));
        }
        assert_eq!(block_on(table.read(&blog)).unwrap(), None);
    }

    #[test]
    fn a_stale_write_without_a_read_before_it_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("host.db");
        let docs = Channel::of_label("docs").unwrap();
        block_on(
            PointerTable::open(&path)
                .unwrap()
                .write(&docs, &pointer(2, 1)),
        )
        .unwrap();
        let table = PointerTable::open(&path).unwrap();
        block_on(table.write(&docs, &pointer(1, 2))).unwrap();
        assert_eq!(block_on(table.read(&docs)).unwrap(), Some(pointer(2, 1)));
    }
}
