//! Backup check: hashes every node and every blob that snapshots need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId};
use pmx_sync::manifest::{Node, NodeSource as _};
use rayon::prelude::*;

use super::{BackupDir, Snapshot};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::Bar;

/// Damaged files that a failure names.
const NAMED: usize = 100;

/// A file of a backup that is damaged or absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its place below the folder.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// Nodes that were read.
    pub nodes: u64,
    /// Blobs that were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged, in the order of the names.
    pub damaged: Vec<Damage>,
}

impl From<Damage> for Checked {
    fn from(damage: Damage) -> Self {
        Self {
            damaged: vec![damage],
            ..Self::default()
        }
    }
}

impl Checked {
    /// Fails if something is damaged, and names it.
    pub fn whole(self, dir: &Path) -> Result<Self, Failure> {
        if self.damaged.is_empty() {
            return Ok(self);
        }
        Err(self.failure(dir))
    }

    pub(super) fn failure(&self, dir: &Path) -> Failure {
        let all = self.damaged.iter();
        let items = all.map(|damage| format!("{}: {}", damage.name, damage.why));
        let mut items: Vec<_> = items.take(NAMED).collect();
        let first = if items.is_empty() {
            String::new()
        } else {
            items.remove(0)
        };
        let more = match self.damaged.len() {
            0 | 1 => String::new(),
            files => format!(" and {} more", files - 1),
        };
        let message = format!("the backup in {} is damaged: {first}{more}", dir.display());
        let hint = "Delete the damaged files; `pmx backup` fetches them again while the server \
                    has them. An older snapshot may be whole: `--snapshot N`.";
        Failure {
            items,
            ..Failure::new(Code::Corrupt, message).with_hint(hint)
        }
    }
}

/// The content that snapshots need.
#[derive(Default)]
struct Needed {
    nodes: BTreeSet<NodeId>,
    /// Blobs, with their sizes.
    blobs: BTreeMap<BlobId, u64>,
    damaged: Vec<Damage>,
}

impl BackupDir {
    /// Reads and hashes everything that snapshots need.
    pub fn check<'a>(
        &self,
        snapshots: impl IntoIterator<Item = &'a Snapshot>,
        bar: impl FnOnce(u64) -> Bar,
        interrupt: &Interrupt,
    ) -> Result<Checked, Failure> {
        let mut needed = Needed::default();
        for deploy in snapshots.into_iter().flat_map(Snapshot::kept) {
            interrupt.check()?;
            self.add_needed(deploy.root, &mut needed);
        }
        let bytes = needed.blobs.values().sum();
        let bar = bar(bytes);
        let checked = needed.blobs.par_iter().map(|(id, size)| {
            interrupt.check()?;
            let why = self.fault_of(id, *size);
            bar.add(*size);
            Ok(why.map(|why| Damage {
                name: Self::blob_name(id),
                why,
            }))
        });
        let checked: Vec<_> = checked.collect::<Result<_, Failure>>()?;
        let mut damaged = needed.damaged;
        damaged.extend(checked.into_iter().flatten());
        Ok(Checked {
            nodes: needed.nodes.len() as u64,
            blobs: needed.blobs.len() as u64,
            bytes,
            damaged,
        })
    }

    /// Adds the nodes and blobs beneath a root.
    fn add_needed(&self, root: NodeId, needed: &mut Needed) {
        let mut wanted = vec![root];
        while let Some(id) = wanted.pop() {
            if !needed.nodes.insert(id) {
                continue;
            }
            match self.node(&id).as_deref() {
                Ok(Node::Leaf(rows)) => {
                    let blobs = rows.iter().map(|row| (row.entry.blob, row.entry.size));
                    needed.blobs.extend(blobs);
                }
                Ok(Node::Interior { children, .. }) => {
                    wanted.extend(children.iter().map(|child| child.id));
                }
                Err(_) => needed.damaged.push(Damage {
                    name: Self::node_name(&id),
                    why: "it is absent, or its bytes have another hash".to_owned(),
                }),
            }
        }
    }

    /// What is wrong with a blob.
    fn fault_of(&self, id: &BlobId, size: u64) -> Option<String> {
        let place = self.dir().join(Self::blob_name(id));
        match hash(&place) {
            Err(error) => Some(error.to_string()),
            Ok((_, found)) if found != size => Some(format!("it has {found} bytes, not {size}")),
            Ok((found, _)) if found != *id => Some(format!("its bytes have the hash {found}")),
            Ok(_) => None,
        }
    }
}

/// The hash and the size of a file.
fn hash(place: &Path) -> io::Result<(BlobId, u64)> {
    let (mut file, mut hasher, mut size) = (File::open(place)?, blake3::Hasher::new(), 0);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((BlobId::from_bytes(*hasher.finalize().as_bytes()), size)),
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}
