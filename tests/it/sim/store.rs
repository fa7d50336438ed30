//! Store check: compares what a ledger records about objects with the objects themselves.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use pmx_core::backend::ObjectKey;
use pmx_core::codec::{Bounds, Decoder};
use pmx_core::encode::ByteReader;
use pmx_core::id::{BlobId, NodeId, ObjectId, SpaceId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_core::name::SpaceName;
use pmx_core::sql::Value;
use pmx_sync::index::IndexNode;
use pmx_sync::pack::stored::open_object;

use super::check::{bytes, integer, rows, text};
use super::world::World;

/// Checks that everything that the ledger records about objects is true.
pub(crate) fn check_store(world: &World, space: &SpaceName) -> Result<(), String> {
    let Some(store) = Store::of(world, space) else {
        return Ok(());
    };
    for row in rows(world, space, "SELECT blobs FROM have") {
        store.check_bucket(bytes(&row[0]))?;
    }
    let select = "SELECT id, object, at, length FROM node WHERE object IS NOT NULL";
    for row in rows(world, space, select) {
        let id = NodeId::from_bytes(bytes(&row[0]).try_into().unwrap());
        let at = integer(&row[2]);
        let index_node = store.read(object(&row[1]), at..at + integer(&row[3]))?;
        IndexNode::decode(&index_node, id)
            .map_err(|error| format!("the index node of {id}: {error}"))?;
    }
    for row in rows(world, space, "SELECT object FROM pack") {
        let key = store.key(object(&row[0]));
        let objects = world.blobs.all();
        let pack = objects
            .get(&key)
            .ok_or_else(|| format!("the pack {key} is missing"))?;
        open_object(pack).map_err(|error| format!("the pack {key}: {error}"))?;
    }
    Ok(())
}

/// The objects of one space.
pub(crate) struct Store<'a> {
    world: &'a World,
    space: SpaceId,
}

impl Store<'_> {
    fn key(&self, object: ObjectId) -> ObjectKey {
        ObjectKey {
            space: self.space,
            object,
        }
    }

    fn read(&self, object: ObjectId, range: Range<u64>) -> Result<bytes::Bytes, String> {
        let key = self.key(object);
        let found = self.world.blobs.slice(key, range.clone());
        found.ok_or_else(|| format!("{key} is missing, or ends before {range:?}"))
    }

    fn check_bucket(&self, bucket: &[u8]) -> Result<(), String> {
        let mut reader = ByteReader::new(bucket);
        let mut decoder = Decoder::new();
        while reader.remaining() > 0 {
            let blob = BlobId::from_bytes(reader.array().unwrap());
            let raw = reader.varint().unwrap();
            let Location { extent, codec } = Location::decode(&mut reader).unwrap();
            let range = extent.offset..extent.offset + extent.len;
            let stored = self.read(extent.object, range)?;
            let found = match codec {
                Codec::Stored => stored.to_vec(),
                Codec::Zstd => decoder.frame(&stored, raw, Bounds::STORED).unwrap(),
                Codec::Parts | Codec::ZstdParts => return Err(format!("{blob} is in parts")),
            };
            if BlobId::of(&found) != blob {
                return Err(format!("the ledger believes that {found:?} is {blob}"));
            }
        }
        Ok(())
    }
}

impl<'a> Store<'a> {
    /// The objects of the space of a name, if there is one.
    pub(crate) fn of(world: &'a World, space: &SpaceName) -> Option<Self> {
        let row = rows(world, space, "SELECT value FROM meta WHERE key = 'space'").pop()?;
        let space = SpaceId::from_hex(&text(&row[0])).unwrap();
        Some(Self { world, space })
    }

    /// Every object of the space.
    pub(crate) fn objects(&self) -> BTreeSet<ObjectId> {
        let all = self.world.blobs.all();
        let own = all.keys().filter(|key| key.space == self.space);
        own.map(|key| key.object).collect()
    }

    /// Whether everything beneath an index node can be read, as readers of a pointer do. Objects
    /// never change and their ids are never used twice, so what was read once need only exist.
    pub(crate) fn check_root(&self, id: NodeId, at: Extent) -> Result<(), String> {
        let known = self.world.walks.borrow().get(&(id, at)).cloned();
        if let Some(objects) = known {
            let is_lost = |object: &&ObjectId| !self.world.blobs.contains(self.key(**object));
            return match objects.iter().find(is_lost) {
                Some(lost) => Err(format!("{} is missing", self.key(*lost))),
                None => Ok(()),
            };
        }
        let (mut seen, mut objects) = (BTreeSet::new(), BTreeSet::new());
        self.walk(id, at, &mut seen, &mut objects)?;
        let mut walks = self.world.walks.borrow_mut();
        walks.insert((id, at), Rc::new(objects));
        Ok(())
    }

    /// Reads everything beneath an index node, as readers of a pointer do; returns the objects.
    pub(crate) fn walk(
        &self,
        id: NodeId,
        at: Extent,
        seen: &mut BTreeSet<(NodeId, ObjectId)>,
        objects: &mut BTreeSet<ObjectId>,
    ) -> Result<(), String> {
        if !seen.insert((id, at.object)) {
            return Ok(());
        }
        objects.insert(at.object);
        let bytes = self.read(at.object, at.offset..at.offset + at.len)?;
        let node = IndexNode::decode(&bytes, id);
        match node.map_err(|error| format!("the index node of {id}: {error}"))? {
            IndexNode::Leaf(files) => {
                for (_, Location { extent, .. }) in files {
                    objects.insert(extent.object);
                    self.read(extent.object, extent.offset..extent.offset + extent.len)?;
                }
            }
            IndexNode::Interior { children, .. } => {
                for (child, extent) in children {
                    self.walk(child.id, extent, seen, objects)?;
                }
            }
        }
        Ok(())
    }
}

fn object(value: &Value) -> ObjectId {
    ObjectId::from_bytes(bytes(value).try_into().unwrap())
}
