//! Local packs: the bytes of the last publish, so that the next publish can send the difference.
//!
//! The next build of a site overwrites its old files. So this module stores the bytes that packs
//! refer to: wire packs without a prefix, each a file, and an index of their blobs. A pack's name
//! is the hash of its file, and each access to a blob hashes it. So an invalid file can only make a
//! publish larger, never wrong.
//!
//! ```text
//! index = magic (8 bytes), sum (32 bytes, BLAKE3 of all that follows), pack*
//! pack  = 32 bytes id, u32 bytes of its file, u32 number of blobs, 16 bytes of each blob's id
//! ```
//!
//! Integers are little-endian. Once unused blobs (absent from the last deploy) outweigh the others,
//! a sweep removes them. It also merges many small packs.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pmx_core::codec::{Encoder, Level};
use pmx_core::id::{BlobId, PackId};
use pmx_sync::pack::PackCoding;
use pmx_sync::pack::wire::{PackBuilder, WirePack};

use super::decoded_packs::{DecodedPacks, Slot};
use super::{Signatures, keep, read, sealed, unsealed};

const MAGIC: [u8; 8] = *b"pmxpack\x02";

/// Bytes that local packs of one site may take: several times the compressed size of large sites.
const BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Files below this size are worth merging if there are many. A pack of 4 MiB of pages has three
/// times as much, and each publish would pack it again.
const SMALL_BYTES: u64 = 64 * 1024;

/// Small files that remain unmerged.
const SMALL_MAX: usize = 32;

/// Unused bytes that remain, whatever the size of the rest.
const IDLE_BYTES: u64 = 8 * 1024 * 1024;

/// The first bytes of a blob's id: enough to make a collision infeasible.
type Short = [u8; 16];

fn short(blob: &BlobId) -> Short {
    let (first, _) = blob.as_bytes().split_at(size_of::<Short>());
    first.try_into().unwrap_or_default()
}

/// The local packs of a site.
#[derive(Debug)]
pub struct LocalPacks {
    folder: Option<PathBuf>,
    signatures: Signatures,
    known: OnceLock<Vec<IndexedPack>>,
    positions: OnceLock<HashMap<Short, BlobPosition>>,
    decoded: DecodedPacks,
    added: Mutex<Vec<IndexedPack>>,
}

/// Position of a blob: the number of its pack, and its number in that pack.
type BlobPosition = (u32, u32);

/// A pack, as the index describes it.
#[derive(Debug, Clone)]
struct IndexedPack {
    id: PackId,
    bytes: u64,
    blobs: Vec<Short>,
}

impl LocalPacks {
    /// Opens the packs of the folder, which the first access reads.
    pub fn open(folder: Option<PathBuf>) -> Self {
        Self {
            signatures: Signatures::open(folder.clone()),
            folder,
            known: OnceLock::new(),
            positions: OnceLock::new(),
            decoded: DecodedPacks::default(),
            added: Mutex::default(),
        }
    }

    fn known(&self) -> &[IndexedPack] {
        self.known.get_or_init(|| {
            let folder = self.folder.as_deref();
            let index = folder.and_then(|folder| read(&index_of(folder)));
            index.and_then(|bytes| parse(&bytes)).unwrap_or_default()
        })
    }

    /// Whether there is a folder to store packs in.
    pub const fn is_kept(&self) -> bool {
        self.folder.is_some()
    }

    /// The signatures, in the same folder, of blobs that are too big for packs.
    pub const fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// Whether no pack is stored.
    pub fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    /// Whether a blob is likely stored.
    pub fn has(&self, blob: &BlobId) -> bool {
        self.positions().contains_key(&short(blob))
    }

    /// Calls `read` with the bytes of a blob, if they are stored.
    pub fn with<T>(&self, blob: &BlobId, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let (pack, at) = *self.positions().get(&short(blob))?;
        let slot = self.slot(&self.known().get(pack as usize)?.id);
        let bytes = slot.pack()?.blob(at as usize)?;
        (BlobId::of(bytes) == *blob).then(|| read(bytes))
    }

    fn positions(&self) -> &HashMap<Short, BlobPosition> {
        self.positions.get_or_init(|| {
            let mut positions = HashMap::new();
            for (pack, known) in (0..).zip(self.known()) {
                let within = known.blobs.iter().zip(0..);
                positions.extend(within.map(|(blob, at)| (*blob, (pack, at))));
            }
            positions
        })
    }

    fn slot(&self, id: &PackId) -> Arc<Slot> {
        let folder = self.folder.as_deref();
        let wire = || {
            let bytes = read(&file_of(folder?, id))?;
            (PackId::of(&bytes) == *id).then_some(bytes)
        };
        self.decoded.slot(id, wire)
    }

    /// Adds a pack without a prefix that holds these blobs.
    pub fn add(&self, pack: &WirePack, blobs: impl IntoIterator<Item = BlobId>) {
        self.keep(pack, blobs.into_iter().map(|blob| short(&blob)).collect());
    }

    fn keep(&self, pack: &WirePack, blobs: Vec<Short>) {
        let Some(folder) = &self.folder else { return };
        let id = pack.id();
        keep(Some(&file_of(folder, &id)), pack.bytes());
        let known = IndexedPack {
            id,
            bytes: pack.bytes().len() as u64,
            blobs,
        };
        self.added().push(known);
    }

    /// Adds the blobs of a builder with light compression: the disk is near.
    pub fn add_raw(
        &self,
        builder: &PackBuilder,
        encoder: &mut Encoder,
        blobs: impl IntoIterator<Item = BlobId>,
    ) {
        let blobs = blobs.into_iter().map(|blob| short(&blob)).collect();
        self.keep_raw(builder, encoder, blobs);
    }

    fn keep_raw(&self, builder: &PackBuilder, encoder: &mut Encoder, blobs: Vec<Short>) {
        if self.is_kept()
            && let Some(pack) = builder.plain(encoder, PackCoding::Zstd(Level::STORED))
        {
            self.keep(&pack, blobs);
        }
    }

    fn added(&self) -> std::sync::MutexGuard<'_, Vec<IndexedPack>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the new packs to the index, and sweeps out unused ones. `live` returns the blobs of the
    /// active deploy; it is called only if a sweep may be due.
    pub fn settle(&self, live: impl FnOnce() -> Vec<BlobId>) {
        if let Some(folder) = &self.folder {
            self.settle_in(folder, live);
        }
        self.decoded.close();
    }

    fn settle_in(&self, folder: &Path, live: impl FnOnce() -> Vec<BlobId>) {
        let mut added = std::mem::take(&mut *self.added());
        if added.is_empty() {
            return;
        }
        let mut fresh = HashSet::new();
        added.retain(|known| fresh.insert(known.id));
        let news: u64 = added.iter().map(|known| known.bytes).sum();
        let mut known = self.known().to_vec();
        let is_first = known.is_empty();
        known.retain(|known| !fresh.contains(&known.id));
        known.extend(added);
        let small = known.iter().filter(|known| known.is_small()).count();
        if !is_first && (small > SMALL_MAX || news > IDLE_BYTES / 8) {
            let live = live().iter().map(short).collect();
            known = self.swept(known, &live);
        }
        keep(Some(&index_of(folder)), &encode(&known));
        drop_unknown(folder, &known);
    }

    /// Repacks the live blobs of packs that are mostly unused, or small, if that pays.
    fn swept(&self, all: Vec<IndexedPack>, live: &HashSet<Short>) -> Vec<IndexedPack> {
        let shares = shares(&all, live);
        let total: u64 = all.iter().map(|known| known.bytes).sum();
        let weighed = all.iter().zip(&shares);
        let used: u64 = weighed.map(|(known, share)| share.of(known.bytes)).sum();
        let is_idle = total > 2 * used + IDLE_BYTES;
        let small = all.iter().filter(|known| known.is_small()).count();
        let (mut kept, mut spread) = (Vec::new(), Vec::new());
        for (known, share) in all.into_iter().zip(shares) {
            let is_spread =
                is_idle && 2 * share.live < share.all || small > SMALL_MAX && known.is_small();
            // Unused blobs may be the site's while a preview is published, or return with a
            // rollback. They stay until space is short.
            match (is_spread, share.live) {
                (false, _) => kept.push(known),
                (true, 0) => {}
                (true, _) => spread.push(known),
            }
        }
        self.gather(&spread, live);
        kept.extend(std::mem::take(&mut *self.added()));
        let mut total: u64 = kept.iter().map(|known| known.bytes).sum();
        kept.retain(|known| {
            let fits = total <= BYTES_MAX;
            total -= if fits { 0 } else { known.bytes };
            fits
        });
        kept
    }

    /// Adds the live blobs of some packs as new packs.
    fn gather(&self, from: &[IndexedPack], live: &HashSet<Short>) {
        let (mut builder, mut encoder) = (PackBuilder::new(), Encoder::new());
        let (mut blobs, mut seen): (Vec<Short>, HashSet<Short>) = Default::default();
        for known in from {
            let slot = self.slot(&known.id);
            let Some(pack) = slot.pack() else { continue };
            for (at, blob) in known.blobs.iter().enumerate() {
                if !live.contains(blob) || !seen.insert(*blob) {
                    continue;
                }
                let bytes = pack.blob(at);
                let genuine = bytes.filter(|bytes| short(&BlobId::of(bytes)) == *blob);
                let Some(bytes) = genuine else { continue };
                if builder.push(bytes).is_err() {
                    self.keep_raw(&builder, &mut encoder, std::mem::take(&mut blobs));
                    builder.clear();
                    if builder.push(bytes).is_err() {
                        continue;
                    }
                }
                blobs.push(*blob);
            }
        }
        self.keep_raw(&builder, &mut encoder, blobs);
    }
}

/// How many of a pack's blobs are live.
struct Share {
    live: u64,
    all: u64,
}

impl Share {
    /// The share of `bytes` that is live.
    const fn of(&self, bytes: u64) -> u64 {
        bytes * self.live / if self.all == 0 { 1 } else { self.all }
    }
}

/// The live bytes of each pack. A blob of several packs counts in the newest.
fn shares(all: &[IndexedPack], live: &HashSet<Short>) -> Vec<Share> {
    let mut seen = HashSet::new();
    let mut shares: Vec<Share> = Vec::with_capacity(all.len());
    for known in all.iter().rev() {
        let is_live = |blob: &&Short| live.contains(*blob) && seen.insert(**blob);
        shares.push(Share {
            live: known.blobs.iter().filter(is_live).count() as u64,
            all: known.blobs.len() as u64,
        });
    }
    shares.reverse();
    shares
}

/// Deletes files that the index does not name: those of unfinished publishes.
fn drop_unknown(folder: &Path, known: &[IndexedPack]) {
    let files = known.iter().map(|known| file_of(folder, &known.id));
    let files: HashSet<PathBuf> = files.collect();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|it| it == EXTENSION) && !files.contains(&path) {
            let _gone = std::fs::remove_file(path);
        }
    }
}

impl IndexedPack {
    const fn is_small(&self) -> bool {
        self.bytes < SMALL_BYTES
    }
}

const EXTENSION: &str = "pack";

fn file_of(folder: &Path, id: &PackId) -> PathBuf {
    folder.join(id.to_string()).with_extension(EXTENSION)
}

fn index_of(folder: &Path) -> PathBuf {
    folder.join("index")
}

fn encode(known: &[IndexedPack]) -> Vec<u8> {
    let mut body = Vec::new();
    for known in known {
        body.extend_from_slice(known.id.as_bytes());
        body.extend_from_slice(&(known.bytes as u32).to_le_bytes());
        body.extend_from_slice(&(known.blobs.len() as u32).to_le_bytes());
        body.extend_from_slice(known.blobs.as_flattened());
    }
    sealed(MAGIC, &body)
}

/// Reads an index; `None` if it is invalid.
fn parse(bytes: &[u8]) -> Option<Vec<IndexedPack>> {
    let mut rest = unsealed(MAGIC, bytes)?;
    let mut known = Vec::new();
    while !rest.is_empty() {
        let (id, after) = rest.split_first_chunk::<32>()?;
        let (bytes, after) = after.split_first_chunk::<4>()?;
        let (count, after) = after.split_first_chunk::<4>()?;
        let len = (u32::from_le_bytes(*count) as usize).checked_mul(size_of::<Short>())?;
        let (blobs, after) = after.split_at_checked(len)?;
        known.push(IndexedPack {
            id: PackId::from_bytes(*id),
            bytes: u32::from_le_bytes(*bytes).into(),
            blobs: blobs.as_chunks().0.to_vec(),
        });
        rest = after;
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use pmx_core::hash::Hash;

    use super::*;

    /// A pack of pages whose contents follow from their numbers.
    fn pages(numbers: std::ops::Range<u32>) -> (PackBuilder, Vec<BlobId>) {
        let mut builder = PackBuilder::new();
        let mut ids = Vec::new();
        for number in numbers {
            let page = page(number);
            builder.push(&page).unwrap();
            ids.push(BlobId::of(&page));
        }
        (builder, ids)
    }

    /// A hardly compressible page, so that files have a size.
    fn page(number: u32) -> Vec<u8> {
        let seed = number.to_le_bytes();
        (0..640)
            .flat_map(|at: u32| *Hash::of(&[seed, at.to_le_bytes()].concat()).as_bytes())
            .collect()
    }

    fn publish(folder: &Path, numbers: std::ops::Range<u32>, live: std::ops::Range<u32>) {
        let local = LocalPacks::open(Some(folder.to_owned()));
        let (builder, ids) = pages(numbers);
        local.add_raw(&builder, &mut Encoder::new(), ids);
        local.settle(|| live.map(|number| BlobId::of(&page(number))).collect());
    }

    fn held(folder: &Path, numbers: std::ops::Range<u32>) -> usize {
        let local = LocalPacks::open(Some(folder.to_owned()));
        let found = numbers.filter(|number| {
            let page = page(*number);
            let found = local.with(&BlobId::of(&page), |bytes| {
                assert!(bytes == page, "page {number} has other bytes");
            });
            found.is_some()
        });
        found.count()
    }

    fn bytes(folder: &Path) -> u64 {
        let entries = folder.read_dir().unwrap();
        entries
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    }

    #[test]
    fn cached_packs_hold_what_was_published_and_drop_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("packs");
        // Each version has 300 pages of 20 KiB. The next version keeps ten of them.
        for version in 0..8 {
            let first = version * 290;
            let new = if version == 0 { first } else { first + 10 };
            publish(&folder, new..first + 300, first..first + 300);
            assert_eq!(held(&folder, first..first + 300), 300, "version {version}");
        }
        let one = 300 * 640 * 32;
        let all = bytes(&folder);
        assert!(
            all < 2 * one + IDLE_BYTES + one / 10,
            "{all} bytes for {one}"
        );
        assert_eq!(held(&folder, 0..290), 0);
    }

    #[test]
    fn cached_packs_of_many_small_publishes_are_merged() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("packs");
        for number in 0..100 {
            publish(&folder, number..number + 1, 0..100);
        }
        assert_eq!(held(&folder, 0..100), 100);
        let files = folder.read_dir().unwrap().count();
        assert!(files <= SMALL_MAX + 4, "{files} files");
    }

    #[test]
    fn invalid_pack_file_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("packs");
        publish(&folder, 0..10, 0..10);
        let local = LocalPacks::open(Some(folder.clone()));
        let file = file_of(&folder, &local.known()[0].id);
        let good = std::fs::read(&file).unwrap();
        for spoilt in [Vec::new(), good[..good.len() - 1].to_vec(), {
            let mut bent = good.clone();
            *bent.last_mut().unwrap() ^= 1;
            bent
        }] {
            std::fs::write(&file, spoilt).unwrap();
            assert!(held(&folder, 0..10) < 10);
        }
        std::fs::write(&file, good).unwrap();
        assert_eq!(held(&folder, 0..10), 10);
        let index = index_of(&folder);
        let mut bytes = std::fs::read(&index).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&index, bytes).unwrap();
        assert_eq!(held(&folder, 0..10), 0);
        publish(&folder, 20..21, 20..21);
        assert!(!file.exists(), "a file that no index names stays for ever");
    }
}
