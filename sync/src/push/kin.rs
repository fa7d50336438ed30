//! Which file of the base a new one resembles: what a pack refers to.
//!
//! A page resembles its own last version most. A new file may be an old one under a new name: build
//! tools put a hash of the content into names, so a file that went, of the same folder, stem and
//! extension, is taken for it. Otherwise it resembles its neighbour in the folder, of the same
//! extension: pages of a folder are made by one template. If it has none, a file of its name that
//! went from elsewhere will do.
//!
//! Blobs that travel in packs resemble such blobs, and big ones big ones: the one refers to bytes
//! that the client has kept, the other copies what it knows by its hash.

use std::collections::BTreeMap;

use pmx_core::id::{BlobId, Root};
use pmx_core::limits::PART_BYTES;

use crate::manifest::{Change, Cursor, Entry, ManifestError, NodeSource, Row};
use crate::path::SitePath;

/// A row of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kin {
    /// Its rank.
    pub rank: u64,
    /// Its blob.
    pub blob: BlobId,
    /// Its size.
    pub size: u64,
}

impl Kin {
    /// Media that is compressed has nothing in common with itself, unless it is copied.
    fn of(rank: u64, entry: &Entry) -> Option<Self> {
        let Entry { blob, size, .. } = *entry;
        let is_fit = match Way::of(size) {
            Way::Pack => size > 0 && !entry.media.is_compressed(),
            Way::Parts => true,
        };
        is_fit.then_some(Self { rank, blob, size })
    }

    /// Whether a blob of `size` bytes can make use of it.
    fn serves(&self, size: u64) -> bool {
        Way::of(self.size) == Way::of(size)
    }
}

/// How a blob travels.
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

/// What each of some new rows resembles.
pub(super) fn find(
    source: &impl NodeSource,
    base: Root,
    changes: &[Change],
    rows: &[Row],
) -> Result<Vec<Option<Kin>>, ManifestError> {
    let mut went: BTreeMap<(Way, Likeness<'_>), Kin> = BTreeMap::new();
    let mut moved: BTreeMap<(Way, &str), Kin> = BTreeMap::new();
    for change in changes {
        if let (Some(before), None) = (&change.before, &change.after)
            && let Some(kin) = Kin::of(change.rank, before)
        {
            let way = Way::of(kin.size);
            went.insert((way, likeness(&change.path)), kin);
            moved.insert((way, change.path.name()), kin);
        }
    }
    let mut folder = Neighbours::new(source, base)?;
    let mut found = Vec::with_capacity(rows.len());
    let mut rest = changes.iter();
    for row in rows {
        let change = rest.find(|change| change.path == row.path);
        let (size, way) = (row.entry.size, Way::of(row.entry.size));
        let renamed = || went.get(&(way, likeness(&row.path))).copied();
        let kin = match change {
            Some(Change {
                before: Some(before),
                rank,
                ..
            }) => Kin::of(*rank, before),
            Some(change) => match renamed() {
                None => folder
                    .of(change, size)?
                    .or_else(|| moved.get(&(way, row.path.name())).copied()),
                renamed => renamed,
            },
            None => None,
        };
        found.push(kin.filter(|kin| kin.serves(size)));
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

/// A stem without what may be a hash at its end. A wrong guess only makes a pack larger.
fn unhashed(stem: &str) -> &str {
    let Some((front, tail)) = stem.rsplit_once(['.', '-', '_']) else {
        return stem;
    };
    let is_hash = tail.len() >= HASH_CHARACTERS_MIN && tail.contains(|c: char| !c.is_lowercase());
    if is_hash { front } else { stem }
}

/// Shorter hashes are hardly used.
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

/// The rows of the base next to new ones, which come in order.
struct Neighbours<'a, S> {
    cursor: Cursor<'a, S>,
    /// The rank that the two stand around.
    at: Option<u64>,
    before: Option<(u64, Row)>,
    after: Option<(u64, Row)>,
}

impl<'a, S: NodeSource> Neighbours<'a, S> {
    fn new(source: &'a S, base: Root) -> Result<Self, ManifestError> {
        Ok(Self {
            cursor: Cursor::new(source, base)?,
            at: None,
            before: None,
            after: None,
        })
    }

    /// The row before the new one, or the one behind it.
    fn of(&mut self, change: &Change, size: u64) -> Result<Option<Kin>, ManifestError> {
        let rank = change.rank;
        if self.at != Some(rank) {
            self.at = Some(rank);
            if self.cursor.rank() < rank {
                self.cursor.seek_rank(rank - 1)?;
                self.before = self.cursor.next_row()?.map(|row| (rank - 1, row));
            } else {
                // The row behind the last new one is the one before this.
                self.before = self.after.take();
            }
            self.after = self.cursor.next_row()?.map(|row| (rank, row));
        }
        let near = [&self.before, &self.after].into_iter().flatten();
        let mut near = near.filter(|(_, row)| is_sibling(&row.path, &change.path));
        Ok(near.find_map(|(rank, row)| Kin::of(*rank, &row.entry).filter(|kin| kin.serves(size))))
    }
}
