//! Pack plan: assigns each blob to a solid pack, a stored pack, or parts.
//!
//! The client knows size and media type of all blobs to upload before it reads a byte of them. So
//! it plans first, and then reads, compresses and sends several packs at once. The plan keeps path
//! order, because neighbours resemble each other. It fills packs, because larger ones compress
//! better. Only the last two share the rest, so that the last pack is never tiny. A site a little
//! above one pack becomes two packs of the same size.

use std::collections::HashSet;

use pmx_core::id::BlobId;
use pmx_core::limits::{PACK_RAW_BYTES_MAX, PART_BYTES};

use crate::limits::PACK_BLOBS_MAX;
use crate::media::Media;
use crate::pack::PackKind;

/// A blob to upload, as the manifest describes it.
#[derive(Debug, Clone, Copy)]
pub struct BlobToUpload<'a> {
    /// Its id.
    pub blob: BlobId,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type, which decides whether the client compresses it.
    pub media: &'a Media,
}

/// The properties that decide the upload format of a blob.
#[derive(Debug, Clone, Copy)]
pub struct BlobShape<'a> {
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media: &'a Media,
}

impl BlobShape<'_> {
    fn kind(&self) -> PackKind {
        if self.media.is_compressed() {
            PackKind::Stored
        } else {
            PackKind::Solid
        }
    }
}

/// One planned pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPlan {
    /// The body's kind.
    pub kind: PackKind,
    /// The pack's blobs: ascending indices of the blobs to upload.
    pub members: Vec<usize>,
    /// Raw bytes of its blobs.
    pub raw: u64,
}

/// Upload plan of all blobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadPlan {
    /// The packs, solid ones first.
    pub packs: Vec<PackPlan>,
    /// Blobs to upload in parts: ascending indices of the blobs to upload.
    pub big: Vec<usize>,
}

impl UploadPlan {
    /// Plans for blobs in path order. A blob that occurs several times travels once, at its first
    /// place.
    pub fn of(wanted: &[BlobToUpload<'_>]) -> Self {
        Self::within(PACK_RAW_BYTES_MAX, wanted)
    }

    /// Like [`Self::of`], with packs of at most about `raw_bytes`, which must not exceed the limit
    /// of a pack. A single larger blob is a pack of its own.
    pub fn within(raw_bytes: u64, wanted: &[BlobToUpload<'_>]) -> Self {
        let mut seen = HashSet::new();
        let distinct = wanted.iter().map(|blob| {
            let BlobToUpload { size, media, .. } = *blob;
            seen.insert(blob.blob).then_some(BlobShape { size, media })
        });
        Self::planned(raw_bytes, distinct)
    }

    /// Plans for blobs in path order whose ids are not known yet. `None` stands for a blob that is
    /// not uploaded.
    pub fn of_pieces<'a>(pieces: impl IntoIterator<Item = Option<BlobShape<'a>>>) -> Self {
        Self::planned(PACK_RAW_BYTES_MAX, pieces)
    }

    fn planned<'a>(
        raw_bytes: u64,
        pieces: impl IntoIterator<Item = Option<BlobShape<'a>>>,
    ) -> Self {
        let (mut solid, mut stored, mut big) = (Vec::new(), Vec::new(), Vec::new());
        for (index, piece) in pieces.into_iter().enumerate() {
            let Some(piece) = piece else { continue };
            match piece.kind() {
                _ if piece.size > PART_BYTES => big.push(index),
                PackKind::Solid => solid.push((index, piece.size)),
                PackKind::Stored => stored.push((index, piece.size)),
            }
        }
        let mut packs = cut(PackKind::Solid, raw_bytes, &solid);
        packs.extend(cut(PackKind::Stored, PACK_RAW_BYTES_MAX, &stored));
        Self { packs, big }
    }
}

/// Cuts members, with their sizes, into packs in order.
fn cut(kind: PackKind, raw_bytes: u64, members: &[(usize, u64)]) -> Vec<PackPlan> {
    let mut remaining: u64 = members.iter().map(|(_, size)| size).sum();
    let mut target = fair_share(remaining, raw_bytes);
    let mut packs = Vec::new();
    let mut pack = PackPlan {
        kind,
        members: Vec::new(),
        raw: 0,
    };
    for &(index, size) in members {
        if is_full(&pack, size, target) {
            remaining -= pack.raw;
            target = fair_share(remaining, raw_bytes);
            let next = PackPlan {
                kind,
                members: Vec::new(),
                raw: 0,
            };
            packs.push(std::mem::replace(&mut pack, next));
        }
        pack.members.push(index);
        pack.raw += size;
    }
    if !pack.members.is_empty() {
        packs.push(pack);
    }
    packs
}

/// The target size of the next pack, if `remaining` bytes are left.
fn fair_share(remaining: u64, raw_bytes: u64) -> u64 {
    match remaining.div_ceil(raw_bytes) {
        0 | 1 => remaining,
        2 => remaining.div_ceil(2),
        _ => raw_bytes,
    }
}

/// Whether a blob of `size` bytes goes to the next pack. Either this pack has no room for it, or
/// this pack is closer to its target without it.
fn is_full(pack: &PackPlan, size: u64, target: u64) -> bool {
    let beyond_limits =
        pack.members.len() == PACK_BLOBS_MAX || pack.raw + size > PACK_RAW_BYTES_MAX;
    let beyond_share = size > 0 && pack.raw + size / 2 >= target;
    !pack.members.is_empty() && (beyond_limits || beyond_share)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn html() -> Media {
        Media::parse("text/html").unwrap()
    }

    fn png() -> Media {
        Media::parse("image/png").unwrap()
    }

    fn blob(number: u64) -> BlobId {
        BlobId::of(&number.to_le_bytes())
    }

    fn sizes_of(sizes: &[u64]) -> Vec<u64> {
        let html = html();
        let wanted: Vec<_> = sizes
            .iter()
            .zip(0..)
            .map(|(size, number)| BlobToUpload {
                blob: blob(number),
                size: *size,
                media: &html,
            })
            .collect();
        let plan = UploadPlan::of(&wanted);
        plan.packs.iter().map(|pack| pack.raw).collect()
    }

    #[test]
    fn plan_balances_its_cuts() {
        let mib = 1 << 20;
        for (sizes, packs) in [
            (vec![], vec![]),
            (vec![0], vec![0]),
            (vec![0, 0, 0], vec![0]),
            (vec![1; 100], vec![100]),
            (vec![mib; 8], vec![8 * mib]),
            (vec![mib; 9], vec![4 * mib, 5 * mib]),
            (vec![mib; 17], vec![8 * mib, 4 * mib, 5 * mib]),
            (vec![8 * mib, 1], vec![8 * mib, 1]),
            (vec![1, 8 * mib], vec![1, 8 * mib]),
            (vec![5 * mib; 3], vec![5 * mib; 3]),
        ] {
            assert_eq!(sizes_of(&sizes), packs, "{sizes:?}");
        }
        let small = vec![1; PACK_BLOBS_MAX + 1];
        assert_eq!(sizes_of(&small), [PACK_BLOBS_MAX as u64, 1]);
    }

    #[test]
    fn plan_separates_compressed_and_big_blobs() {
        let (html, png) = (html(), png());
        let wanted: Vec<_> = [
            (1, 10, &html),
            (2, 10, &png),
            (3, PART_BYTES, &html),
            (4, PART_BYTES + 1, &png),
            (1, 10, &png),
            (5, PART_BYTES + 1, &html),
            (6, 10, &png),
        ]
        .map(|(number, size, media)| BlobToUpload {
            blob: blob(number),
            size,
            media,
        })
        .into();
        let plan = UploadPlan::of(&wanted);
        let members: Vec<_> = plan
            .packs
            .iter()
            .map(|pack| (pack.kind, pack.members.as_slice()))
            .collect();
        assert_eq!(
            members,
            [
                (PackKind::Solid, [0].as_slice()),
                (PackKind::Solid, &[2]),
                (PackKind::Stored, &[1, 6]),
            ]
        );
        assert_eq!(plan.big, [3, 5]);
    }

    proptest! {
        #[test]
        fn plan_sends_each_blob_once_in_order_within_bounds(
            blobs in prop::collection::vec(
                (
                    0u64..200,
                    prop_oneof![0u64..5_000, 0u64..4_000_000, 0..=2 * PART_BYTES],
                    any::<bool>(),
                ),
                0..120,
            ),
        ) {
            let (html, png) = (html(), png());
            let wanted: Vec<_> = blobs.iter().map(|(number, size, compressed)| BlobToUpload {
                blob: blob(*number),
                size: *size,
                media: if *compressed { &png } else { &html },
            }).collect();
            let plan = UploadPlan::of(&wanted);
            let mut all: Vec<usize> = plan.big.clone();
            for kind in [PackKind::Solid, PackKind::Stored] {
                let packs = plan.packs.iter().filter(|pack| pack.kind == kind);
                let members: Vec<_> = packs.flat_map(|pack| pack.members.clone()).collect();
                prop_assert!(members.is_sorted());
                all.extend(members);
            }
            prop_assert!(plan.big.is_sorted());
            prop_assert!(plan.big.iter().all(|index| wanted[*index].size > PART_BYTES));
            for pack in &plan.packs {
                let raw: u64 = pack.members.iter().map(|index| wanted[*index].size).sum();
                prop_assert_eq!(raw, pack.raw);
                prop_assert!(raw <= PACK_RAW_BYTES_MAX);
                prop_assert!((1..=PACK_BLOBS_MAX).contains(&pack.members.len()));
                for index in &pack.members {
                    prop_assert!(wanted[*index].size <= PART_BYTES);
                    let BlobToUpload { size, media, .. } = wanted[*index];
                    prop_assert_eq!(BlobShape { size, media }.kind(), pack.kind);
                }
            }
            // Each distinct id occurs once, at its first place.
            all.sort_unstable();
            let mut seen = BTreeSet::new();
            let firsts: Vec<_> =
                (0..wanted.len()).filter(|index| seen.insert(wanted[*index].blob)).collect();
            prop_assert_eq!(all, firsts);
        }

        #[test]
        fn packs_of_small_blobs_are_full_and_the_last_two_are_alike(
            sizes in prop::collection::vec(0u64..100_000, 0..2_000),
        ) {
            let packs = sizes_of(&sizes);
            let total: u64 = sizes.iter().sum();
            prop_assert!(packs.len() as u64 <= total.div_ceil(PACK_RAW_BYTES_MAX).max(1) + 1);
            if let [full @ .., a, b] = packs.as_slice() {
                prop_assert!(full.iter().all(|raw| *raw > PACK_RAW_BYTES_MAX - 100_000));
                prop_assert!(a.abs_diff(*b) <= 100_000, "{packs:?}");
            }
        }
    }
}
