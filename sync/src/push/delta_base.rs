//! Delta base selection: picks, for each new blob, the blob of the base deploy that its pack uses
//! as zstd reference prefix.
//!
//! A page resembles its own last version most. A new file may be an old one under a new name: build
//! tools put a hash of the content into names. So a removed file of the same folder, stem and
//! extension counts as its last version. The next candidate is the neighbour in the folder with the
//! same extension, because one template makes the pages of a folder. The last candidate is a
//! removed file of the same name in another folder.
//!
//! A blob in a pack gets a base that fits a pack, and a blob in parts gets one in parts. The pack
//! refers to bytes that the client has stored, and the part copies chunks that it finds by hash.

use std::collections::BTreeMap;

use pmx_core::id::{BlobId, Root};
use pmx_core::limits::PART_BYTES;

use crate::manifest::{Change, Cursor, Entry, ManifestError, NodeSource, Row};
use crate::path::SitePath;

/// A row of the base, chosen as delta base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeltaBase {
    /// Its rank in the base manifest.
    pub rank: u64,
    /// The blob that serves as prefix.
    pub blob: BlobId,
    /// Uncompressed size in bytes.
    pub size: u64,
}

impl DeltaBase {
    /// `None` for compressed media in packs: zstd finds no matches in them.
    fn of(rank: u64, entry: &Entry) -> Option<Self> {
        let Entry { blob, size, .. } = *entry;
        let is_fit = match Way::of(size) {
            Way::Pack => size > 0 && !entry.media.is_compressed(),
            Way::Parts => true,
        };
        is_fit.then_some(Self { rank, blob, size })
    }

    /// Whether a blob of `size` bytes is uploaded in the same way.
    fn serves(&self, size: u64) -> bool {
        Way::of(self.size) == Way::of(size)
    }
}

/// Upload format of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Pack,
    Parts,
}

impl Way {
    const fn of(size: u64) -> Self {
        if size > PART_BYTES {
            Self::Parts
        } else {
            Self::Pack
        }
    }
}

/// Finds a delta base for each new row.
pub(super) fn find(
    source: &impl NodeSource,
    base: Root,
    changes: &[Change],
    rows: &[Row],
) -> Result<Vec<Option<DeltaBase>>, ManifestError> {
    let mut went: BTreeMap<(Way, Likeness<'_>), DeltaBase> = BTreeMap::new();
    let mut moved: BTreeMap<(Way, &str), DeltaBase> = BTreeMap::new();
    for change in changes {
        if let (Some(before), None) = (&change.before, &change.after)
            && let Some(candidate) = DeltaBase::of(change.rank, before)
        {
            let way = Way::of(candidate.size);
            went.insert((way, likeness(&change.path)), candidate);
            moved.insert((way, change.path.name()), candidate);
        }
    }
    let mut folder = AdjacentRows::new(source, base)?;
    let mut found = Vec::with_capacity(rows.len());
    let mut rest = changes.iter();
    for row in rows {
        let change = rest.find(|change| change.path == row.path);
        let (size, way) = (row.entry.size, Way::of(row.entry.size));
        let renamed = || went.get(&(way, likeness(&row.path))).copied();
        let candidate = match change {
            Some(Change {
                before: Some(before),
                rank,
                ..
            }) => DeltaBase::of(*rank, before),
            Some(change) => match renamed() {
                None => folder
                    .of(change, size)?
                    .or_else(|| moved.get(&(way, row.path.name())).copied()),
                renamed => renamed,
            },
            None => None,
        };
        found.push(candidate.filter(|candidate| candidate.serves(size)));
    }
    Ok(found)
}

/// Folder, stem without a hash, and extension.
type Likeness<'a> = (&'a str, &'a str, &'a str);

fn likeness(path: &SitePath) -> Likeness<'_> {
    let (folder, name) = split(path.as_str());
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    (folder, unhashed(stem), extension)
}

/// Cuts a probable hash off the end of a stem. A wrong guess only makes a pack larger.
fn unhashed(stem: &str) -> &str {
    let Some((front, tail)) = stem.rsplit_once(['.', '-', '_']) else {
        return stem;
    };
    let is_hash = tail.len() >= HASH_CHARACTERS_MIN && tail.contains(|c: char| !c.is_lowercase());
    if is_hash { front } else { stem }
}

/// Build tools hardly use shorter hashes.
const HASH_CHARACTERS_MIN: usize = 6;

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn is_sibling(one: &SitePath, other: &SitePath) -> bool {
    let parts = |path| {
        let (folder, name): (&str, &str) = split(path);
        (
            folder,
            name.rsplit_once('.').map(|(_, extension)| extension),
        )
    };
    parts(one.as_str()) == parts(other.as_str())
}

/// Cursor over the rows of the base that surround each new row; new rows are in path order.
struct AdjacentRows<'a, S> {
    cursor: Cursor<'a, S>,
    /// The rank between `before` and `after`.
    at: Option<u64>,
    before: Option<(u64, Row)>,
    after: Option<(u64, Row)>,
}

impl<'a, S: NodeSource> AdjacentRows<'a, S> {
    fn new(source: &'a S, base: Root) -> Result<Self, ManifestError> {
        Ok(Self {
            cursor: Cursor::new(source, base)?,
            at: None,
            before: None,
            after: None,
        })
    }

    /// The row before the new one, or the one after it.
    fn of(&mut self, change: &Change, size: u64) -> Result<Option<DeltaBase>, ManifestError> {
        let rank = change.rank;
        if self.at != Some(rank) {
            self.at = Some(rank);
            if self.cursor.rank() < rank {
                self.cursor.seek_rank(rank - 1)?;
                self.before = self.cursor.next_row()?.map(|row| (rank - 1, row));
            } else {
                // The row after the last new one is the row before this one.
                self.before = self.after.take();
            }
            self.after = self.cursor.next_row()?.map(|row| (rank, row));
        }
        let near = [&self.before, &self.after].into_iter().flatten();
        let mut near = near.filter(|(_, row)| is_sibling(&row.path, &change.path));
        Ok(near.find_map(|(rank, row)| {
            DeltaBase::of(*rank, &row.entry).filter(|candidate| candidate.serves(size))
        }))
    }
}
