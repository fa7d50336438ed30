//! Reference prefix of a pack: reads and hashes the base's blobs that the pack refers to.
//!
//! The base is nearly always one of the deploys that readers see, so the serving index locates its
//! blobs. The server asks the space for a preview's base, or where the pointer is older. Blobs that
//! were published together are stored side by side, so few reads bring many. Every failure has one
//! code, [`Code::PrefixMissing`], because the client works around all failures in one way.

use bytes::Bytes;
use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::codec::Bounds;
use pmx_core::id::{BlobId, Root, SpaceId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::{Backend, Pointers, Spaces};
use super::body::Check;
use super::server::Server;
use super::stored::Scope;
use crate::limits::{PREFIX_RAW_BYTES_MAX, PREFIX_READS_MAX};
use crate::manifest::Row;
use crate::pack::wire::{Prefix, Reference};
use crate::pointer::Pointer;
use crate::space::{Command, Reply};
use crate::wire::Ranges;

/// Bytes between two blobs that one read includes: a second read would cost as much.
const GAP_MAX: u64 = 64 * 1024;

impl<B: Backend> Server<B> {
    /// Reads the reference prefix of a pack.
    pub(super) async fn prefix(
        &self,
        reference: Reference,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<Prefix, Problem> {
        let (id, rows) = self
            .base_rows(space, reference.base, &reference.rows, now)
            .await?;
        if rows.len() as u64 != reference.rows.len() {
            return Err(missing("the base has fewer rows"));
        }
        let (pieces, total) = pieces(&rows)?;
        let mut raw = vec![0; total];
        for group in grouped(&pieces)? {
            let stored = self.read_group(id, group).await?;
            for piece in group {
                let placed = stored.as_ref().map_or(Err(()), |stored| {
                    self.place(piece, group[0].stored.offset, stored, &mut raw)
                });
                if placed.is_err() {
                    let scope = Scope {
                        name: space,
                        id,
                        now,
                    };
                    self.place_again(scope, piece, &mut raw).await?;
                }
            }
        }
        Ok(Prefix::read(reference, raw))
    }

    /// The rows of a base with these ranks, and the locations of their blobs.
    pub(super) async fn base_rows(
        &self,
        space: &SpaceName,
        base: Root,
        ranks: &Ranges,
        now: Timestamp,
    ) -> Result<(SpaceId, Vec<(Row, Location)>), Problem> {
        let (id, at) = self.base(space, base, now).await?;
        let blobs = self.backend().blobs();
        match self.index().rows(blobs, id, at, ranks).await {
            Ok(rows) => Ok((id, rows)),
            Err(error) => {
                let scope = Scope {
                    name: space,
                    id,
                    now,
                };
                Err(or_missing(self.index_failed(scope, error).await))
            }
        }
    }

    /// Locates the serving index of a base.
    async fn base(
        &self,
        space: &SpaceName,
        base: Root,
        now: Timestamp,
    ) -> Result<(SpaceId, (Root, Extent)), Problem> {
        let shown = |pointer: &Pointer| {
            let active = (pointer.root, pointer.index);
            let mut all = std::iter::once(&active).chain(&pointer.earlier);
            let found = all.find(|(root, _)| *root == base).copied();
            found.map(|at| (pointer.space, at))
        };
        let read = self
            .backend()
            .pointers()
            .read(&space.clone().into())
            .await?;
        if let Some(found) = read.as_ref().and_then(shown) {
            return Ok(found);
        }
        let command = Command::Index { root: base };
        match self.backend().spaces().call(space, command, now).await {
            Ok(Reply::Index { space, index }) => Ok((space, (base, index))),
            Ok(_) => Err(missing("the space says nothing of its base")),
            Err(problem) if matches!(problem.code, Code::NotFound | Code::MissingObjects) => {
                Err(missing("the space has no such base"))
            }
            Err(problem) => Err(problem),
        }
    }

    /// Reads the bytes from the first of some pieces to the last.
    async fn read_group(
        &self,
        space: SpaceId,
        group: &[PrefixBlob],
    ) -> Result<Option<Bytes>, Problem> {
        let object = group[0].stored.object;
        let key = ObjectKey { space, object };
        let range = group[0].stored.offset..end(&group[group.len() - 1].stored);
        Ok(self.backend().blobs().read(key, range).await?)
    }

    /// Reads one piece alone; the read marks the piece in the ledger if it is lost.
    async fn place_again(
        &self,
        scope: Scope<'_>,
        piece: &PrefixBlob,
        raw: &mut [u8],
    ) -> Result<(), Problem> {
        let extent = piece.stored;
        let at = Location {
            extent,
            codec: piece.codec,
        };
        let check = Check::of_blob(scope, piece.blob, piece.raw as u64, at);
        let blob = self.raw(scope, &check).await.map_err(or_missing)?;
        raw[piece.at..piece.at + piece.raw].copy_from_slice(&blob);
        Ok(())
    }

    /// Decodes one piece of a group read from `start` on, hashes it, and copies it to its place.
    fn place(
        &self,
        piece: &PrefixBlob,
        start: u64,
        read: &Bytes,
        raw: &mut [u8],
    ) -> Result<(), ()> {
        let from = (piece.stored.offset - start) as usize;
        let stored = read.get(from..from + piece.stored.len as usize);
        let stored = stored.ok_or(())?;
        let place = &mut raw[piece.at..piece.at + piece.raw];
        if piece.codec == Codec::Zstd {
            let decode = |decoder: &mut pmx_core::codec::Decoder| {
                decoder.frame(stored, piece.raw as u64, Bounds::STORED)
            };
            let decoded = self.codecs().decode(decode).map_err(drop)?;
            place.copy_from_slice(&decoded);
        } else if stored.len() == place.len() {
            place.copy_from_slice(stored);
        }
        if BlobId::of(place) == piece.blob {
            Ok(())
        } else {
            Err(())
        }
    }
}

/// A blob of the prefix: its stored location, and its place in the prefix.
struct PrefixBlob {
    blob: BlobId,
    stored: Extent,
    codec: Codec,
    at: usize,
    raw: usize,
}

/// The pieces of the prefix in stored order, and the prefix's length.
fn pieces(rows: &[(Row, Location)]) -> Result<(Vec<PrefixBlob>, usize), Problem> {
    let mut pieces = Vec::with_capacity(rows.len());
    let mut total = 0;
    for (row, location) in rows {
        let is_whole = matches!(location.codec, Codec::Stored | Codec::Zstd);
        if !is_whole || row.entry.size > PREFIX_RAW_BYTES_MAX - total {
            return Err(missing("a row of it is too large"));
        }
        pieces.push(PrefixBlob {
            blob: row.entry.blob,
            stored: location.extent,
            codec: location.codec,
            at: total as usize,
            raw: row.entry.size as usize,
        });
        total += row.entry.size;
    }
    pieces.sort_by_key(|piece| (piece.stored.object, piece.stored.offset));
    Ok((pieces, total as usize))
}

/// Groups pieces for one read each: near each other, and together no longer than a prefix.
fn grouped(pieces: &[PrefixBlob]) -> Result<Vec<&[PrefixBlob]>, Problem> {
    let (mut groups, mut first) = (Vec::new(), 0);
    for at in 1..=pieces.len() {
        let is_near = pieces.get(at).is_some_and(|next| {
            let (start, before, next) = (&pieces[first], &pieces[at - 1], &next.stored);
            next.object == start.stored.object
                && next.offset <= end(&before.stored).saturating_add(GAP_MAX)
                && end(next) - start.stored.offset <= PREFIX_RAW_BYTES_MAX
        });
        if !is_near {
            groups.push(&pieces[first..at]);
            first = at;
        }
    }
    let (count, max) = (groups.len(), PREFIX_READS_MAX);
    if count > max {
        return Err(missing(format!(
            "it is stored in {count} places; the limit is {max}"
        )));
    }
    Ok(groups)
}

const fn end(extent: &Extent) -> u64 {
    extent.offset.saturating_add(extent.len)
}

/// Turns a problem with a base into the one code that the client works around.
pub(super) fn or_missing(problem: Problem) -> Problem {
    match problem.code {
        Code::Corrupt => missing(problem.detail),
        _ => problem,
    }
}

pub(super) fn missing(why: impl std::fmt::Display) -> Problem {
    let detail = format!("reading what is referred to: {why}");
    Problem::new(Code::PrefixMissing, detail)
}
