//! Ledger: the SQL state of a space and its queries (its tables are in [`tables`]).
//!
//! A Durable Object is billed by rows, so the ledger has no row per path or per blob. Manifest
//! nodes hold about 64 paths each, and the blob index is in 1,024 buckets (see
//! [`blob_index`](super::blob_index)).

mod deploys;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId, ObjectId, SpaceId};
use pmx_core::location::Extent;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::schema::{Compatibility, SchemaError};
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::collect::{Collector, References};
use super::columns::{array, blob, extent, integer, optional_integer, text};
use super::{event_log, tables};
use crate::manifest::{ManifestError, NewNode, Node, NodeSource, RecentNodes};

pub(crate) use deploys::DeployWithKey;

/// State of a node in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeState {
    /// The ledger has no such node.
    Absent,
    /// The ledger has the node's bytes.
    Pending {
        /// Whether a client sent the bytes, and the space did not build them itself.
        claimed: bool,
    },
    /// The node has an index node at this extent: the space has everything beneath it.
    Indexed(Extent),
    /// Indexed, but the index node or content beneath is lost: a commit must write it anew.
    Damaged(Extent),
}

/// A part that arrived: its number, its chaining value and its encoded location.
pub(crate) type KeptPart = (u64, [u8; 32], Vec<u8>);

/// The ledger of one space, while it carries out one command.
pub(crate) struct Ledger<'a, S> {
    sql: &'a S,
    nodes: RecentNodes,
    damaged: OnceCell<BTreeSet<NodeId>>,
    lost: OnceCell<BTreeSet<BlobId>>,
    expired_before: Cell<u64>,
    base: Cell<Option<u64>>,
    collector: RefCell<Option<Rc<Collector>>>,
    doomed: RefCell<BTreeMap<ObjectId, bool>>,
    now: Timestamp,
}

/// Records the name of a space, for a platform that wakes its object without one.
pub(super) fn keep_name<S: Sql>(sql: &S, name: &SpaceName) -> Result<(), SqlError> {
    let upsert = "INSERT INTO meta (key, value) VALUES ('name', ?)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value";
    sql.run(upsert, &[name.as_str().into()]).map(drop)
}

/// The number that `meta` has as text.
fn parsed(base: Option<&str>) -> Result<u64, SqlError> {
    let base = base.map_or(Ok(0), str::parse);
    base.map_err(|_| SqlError("the last number of earlier spaces is no number".into()))
}

impl<'a, S: Sql> Ledger<'a, S> {
    pub(crate) fn new(sql: &'a S) -> Self {
        Self {
            sql,
            nodes: RecentNodes::default(),
            damaged: OnceCell::new(),
            lost: OnceCell::new(),
            expired_before: Cell::new(0),
            base: Cell::new(None),
            collector: RefCell::default(),
            doomed: RefCell::default(),
            now: Timestamp::from_millis(0),
        }
    }

    /// The ledger as it is at a time: previews that ended before are none.
    pub(crate) fn at(self, now: Timestamp) -> Self {
        Self { now, ..self }
    }

    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    /// The database, which also has the space's event log.
    pub(crate) const fn sql(&self) -> &'a S {
        self.sql
    }

    /// Creates the tables and the space's id, unless they exist.
    pub(crate) fn open(&self, name: &SpaceName, fresh: SpaceId) -> Result<SpaceId, SchemaError> {
        if let Some(id) = self.space()? {
            keep_name(self.sql, name)?;
            return Ok(id);
        }
        self.sql.atomically(|sql| {
            if !self.has_tables()? {
                tables::make(sql)?;
            }
            let insert = "INSERT OR IGNORE INTO meta (key, value) VALUES ('space', ?)";
            sql.run(insert, &[fresh.to_string().into()])?;
            keep_name(sql, name)?;
            event_log::install(sql, fresh)
        })?;
        let made = self.space()?;
        made.ok_or_else(|| SqlError("the space has no id after it was made".into()).into())
    }

    /// The space's id, if the space exists. A ledger without tables is no failure. A failure of the
    /// storage is one, and must not look like an absent space.
    pub(crate) fn space(&self) -> Result<Option<SpaceId>, SchemaError> {
        let select = "SELECT key, value FROM meta
             WHERE key IN ('schema', 'readable_by', 'space', 'base')";
        let rows = match self.sql.run(select, &[]) {
            Ok(rows) => rows,
            Err(error) if self.has_tables()? => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let mut found = BTreeMap::new();
        for row in &rows {
            found.insert(text(row, 0)?, text(row, 1)?);
        }
        let of = |key| found.get(key).map(String::as_str);
        let recorded = tables::SCHEMA.parse(of("schema"), of("readable_by"))?;
        let Some(recorded) = recorded else {
            return Ok(None);
        };
        self.base.set(Some(parsed(of("base"))?));
        if let Compatibility::Migrate { from } = tables::SCHEMA.check(recorded)? {
            self.sql.atomically(|sql| tables::migrate(sql, from))?;
        }
        let id = of("space").map(SpaceId::from_hex).transpose();
        id.map_err(|error| SqlError(error.to_string()).into())
    }

    /// Refuses to go on if the space was deleted while a command waited. Its name may have another
    /// space now.
    pub(crate) fn check_same(&self, space: SpaceId) -> Result<(), Problem> {
        if self.space()? == Some(space) {
            return Ok(());
        }
        let detail = "the space was deleted while something was published to it";
        Err(Problem::new(Code::Unavailable, detail))
    }

    /// The number of the last deploy of the spaces that had the name before; 0 if there were none.
    pub(crate) fn base(&self) -> Result<u64, SqlError> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let rows = self
            .sql
            .run("SELECT value FROM meta WHERE key = 'base'", &[])?;
        let base = rows.first().map(|row| text(row, 0)).transpose()?;
        let base = parsed(base.as_deref())?;
        self.base.set(Some(base));
        Ok(base)
    }

    /// Sets that number, in a space without deploys.
    pub(crate) fn set_base(&self, base: u64) -> Result<(), SqlError> {
        let upsert = "INSERT INTO meta (key, value) VALUES ('base', ?)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.sql.run(upsert, &[base.to_string().into()])?;
        self.base.set(Some(base));
        tables::keep_readable(self.sql)
    }

    /// The name under which the space was last opened, if that release recorded it.
    pub(crate) fn name(&self) -> Result<Option<SpaceName>, SchemaError> {
        if self.space()?.is_none() && !self.has_tables()? {
            return Ok(None);
        }
        let rows = self
            .sql
            .run("SELECT value FROM meta WHERE key = 'name'", &[])?;
        let name = rows.first().map(|row| text(row, 0)).transpose()?;
        Ok(name.and_then(|name| SpaceName::parse(&name).ok()))
    }

    /// Whether the ledger has tables: those of a space, or of a removed one.
    pub(super) fn has_tables(&self) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'";
        Ok(!self.sql.run(select, &[])?.is_empty())
    }

    /// The state of the space's collection.
    pub(crate) fn collector(&self) -> Result<Rc<Collector>, SqlError> {
        if let Some(collector) = &*self.collector.borrow() {
            return Ok(Rc::clone(collector));
        }
        let collector = Rc::new(Collector::read(self.sql)?);
        *self.collector.borrow_mut() = Some(Rc::clone(&collector));
        Ok(collector)
    }

    /// Writes the state of the collection.
    pub(super) fn write_collector(&self, collector: &Collector) -> Result<(), SqlError> {
        *self.collector.borrow_mut() = None;
        self.doomed.borrow_mut().clear();
        collector.write(self.sql)
    }

    /// Objects that were looked up, and whether they are garbage.
    pub(super) const fn doomed_objects(&self) -> &RefCell<BTreeMap<ObjectId, bool>> {
        &self.doomed
    }

    pub(crate) fn node_state(&self, id: &NodeId) -> Result<NodeState, SqlError> {
        let select = "SELECT claimed, object, at, length, kept, mark FROM node WHERE id = ?";
        let rows = self.sql.run(select, &[id.as_bytes()[..].into()])?;
        let Some(row) = rows.first() else {
            return Ok(NodeState::Absent);
        };
        Ok(match extent(row, 1)? {
            Some(_) if self.is_garbage(integer(row, 5)?)? => NodeState::Absent,
            Some(extent) if self.damaged()?.contains(id) => NodeState::Damaged(extent),
            Some(extent) => NodeState::Indexed(extent),
            None if optional_integer(row, 4)?.is_some_and(|at| at < self.expired_before()) => {
                NodeState::Absent
            }
            None => NodeState::Pending {
                claimed: integer(row, 0)? != 0,
            },
        })
    }

    /// Whether the row of an indexed node with this mark is about to be deleted.
    fn is_garbage(&self, mark: u64) -> Result<bool, SqlError> {
        let collector = self.collector()?;
        Ok(collector.is_sweeping() && mark < collector.swept)
    }

    /// The nodes whose index nodes must be rewritten: usually none.
    pub(crate) fn damaged(&self) -> Result<&BTreeSet<NodeId>, SqlError> {
        if let Some(damaged) = self.damaged.get() {
            return Ok(damaged);
        }
        let collector = self.collector()?;
        let select = "SELECT node FROM damaged
             WHERE NOT EXISTS (SELECT 1 FROM node WHERE id = damaged.node AND mark < ?)";
        let live = if collector.is_sweeping() {
            collector.swept
        } else {
            0
        };
        let rows = self.sql.run(select, &[live.into()])?;
        let nodes = rows
            .iter()
            .map(|row| Ok(NodeId::from_bytes(array(row, 0)?)));
        let nodes = nodes.collect::<Result<_, SqlError>>()?;
        Ok(self.damaged.get_or_init(|| nodes))
    }

    /// The blobs whose content is lost: usually none.
    pub(crate) fn lost(&self) -> Result<&BTreeSet<BlobId>, SqlError> {
        if let Some(lost) = self.lost.get() {
            return Ok(lost);
        }
        let rows = self.sql.run("SELECT blob FROM lost_blob", &[])?;
        let blobs = rows
            .iter()
            .map(|row| Ok(BlobId::from_bytes(array(row, 0)?)));
        let blobs = blobs.collect::<Result<_, SqlError>>()?;
        Ok(self.lost.get_or_init(|| blobs))
    }

    /// Time before which arrived uploads have expired, in milliseconds.
    pub(crate) const fn expired_before(&self) -> u64 {
        self.expired_before.get()
    }

    /// See [`lease`](super::lease).
    pub(crate) fn expire_before(&self, before: u64) {
        self.expired_before.set(before);
    }

    /// Stores nodes whose index nodes are not written yet.
    pub(crate) fn keep_nodes(
        &self,
        nodes: impl IntoIterator<Item = NewNode>,
        claimed: bool,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let insert = "INSERT INTO node (id, bytes, claimed, kept) VALUES (?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET kept = excluded.kept WHERE object IS NULL";
        let delete = "DELETE FROM node WHERE id = ? AND object IS NOT NULL AND mark < ?";
        let damage = "DELETE FROM damaged WHERE node IN
             (SELECT id FROM node WHERE id = ? AND object IS NOT NULL AND mark < ?)";
        let collector = self.collector()?;
        self.sql.atomically(|sql| {
            for node in nodes {
                let id = || node.id.as_bytes()[..].into();
                if collector.is_sweeping() {
                    sql.run(damage, &[id(), collector.swept.into()])?;
                    sql.run(delete, &[id(), collector.swept.into()])?;
                }
                let (bytes, claimed) = (node.bytes[..].into(), u64::from(claimed).into());
                sql.run(insert, &[id(), bytes, claimed, now.as_millis().into()])?;
            }
            Ok(())
        })
    }

    /// Records the extent of a node's index node, and stores the node if it is new.
    pub(crate) fn record_indexed_node(
        &self,
        node: &NewNode,
        index_node: &Extent,
        references: &References,
    ) -> Result<(), SqlError> {
        // The mark is that of the last sweep: a collection that is marking walks new nodes.
        let upsert = "INSERT INTO node (id, bytes, claimed, object, at, length, refs, mark)
             VALUES (?, ?, 0, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
             SET object = excluded.object, at = excluded.at, length = excluded.length,
                 refs = excluded.refs, mark = excluded.mark
             WHERE object IS NULL OR mark < excluded.mark
                 OR EXISTS (SELECT 1 FROM damaged WHERE damaged.node = node.id)";
        let params = [
            node.id.as_bytes()[..].into(),
            node.bytes[..].into(),
            index_node.object.as_bytes()[..].into(),
            index_node.offset.into(),
            index_node.len.into(),
            references.encode().into(),
            self.collector()?.swept.into(),
        ];
        self.sql.run(upsert, &params)?;
        if self.damaged()?.contains(&node.id) {
            let delete = "DELETE FROM damaged WHERE node = ?";
            self.sql.run(delete, &[node.id.as_bytes()[..].into()])?;
        }
        Ok(())
    }

    pub(crate) fn bucket(&self, bucket: u16) -> Result<Vec<u8>, SqlError> {
        let select = "SELECT blobs FROM have WHERE bucket = ?";
        let rows = self.sql.run(select, &[u64::from(bucket).into()])?;
        rows.first().map_or(Ok(Vec::new()), |row| blob(row, 0))
    }

    pub(crate) fn put_bucket(&self, bucket: u16, blobs: Vec<u8>) -> Result<(), SqlError> {
        let upsert = "INSERT INTO have (bucket, blobs) VALUES (?, ?)
             ON CONFLICT (bucket) DO UPDATE SET blobs = excluded.blobs";
        self.sql
            .run(upsert, &[u64::from(bucket).into(), blobs.into()])
            .map(drop)
    }

    /// Runs a transaction: all of its statements take effect, or none does.
    pub(crate) fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Ledger<'_, S>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.sql.atomically(|sql| {
            let ledger = Ledger::new(sql).at(self.now);
            ledger.base.set(self.base.get());
            body(&ledger)
        })
    }

    /// The bytes of a node.
    pub(crate) fn node_bytes(&self, id: &NodeId) -> Result<Option<Vec<u8>>, SqlError> {
        let select = "SELECT bytes FROM node WHERE id = ?";
        let rows = self.sql.run(select, &[id.as_bytes()[..].into()])?;
        rows.first().map(|row| blob(row, 0)).transpose()
    }
}

impl<S: Sql> NodeSource for Ledger<'_, S> {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        self.nodes.find_or(id, || {
            let bytes = self.node_bytes(id);
            let bytes = bytes.map_err(|e| ManifestError::Source {
                id: *id,
                why: e.to_string(),
            })?;
            let bytes = bytes.ok_or(ManifestError::Missing(*id))?;
            Ok(Arc::new(Node::decode(&bytes)?))
        })
    }
}
