//! Part delta application: fills in the runs that a part copies from a blob of the base.
//!
//! The server reads only the parts of that blob that the runs touch. It reads one after the other,
//! because each takes as much memory as the result. It verifies both input and result. As with a
//! pack's reference prefix, every failure has one code, which the client works around.

use pmx_core::limits::PART_BYTES;
use pmx_core::location::{Codec, Location};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::Backend;
use super::body::Check;
use super::parts::check_of_part;
use super::reference::{missing, or_missing};
use super::server::Server;
use super::site::check_of;
use super::stored::Scope;
use crate::manifest::Row;
use crate::pack::PackKind;
use crate::pack::part::{BlobParts, PendingPart, VerifiedPart};
use crate::site::LocatedFile;
use crate::wire::Ranges;

impl<B: Backend> Server<B> {
    /// Copies the runs into a pending part, and hashes it.
    pub(super) async fn apply_part_delta(
        &self,
        mut pending: PendingPart,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<VerifiedPart, Problem> {
        let copies = pending.copies();
        let rank: Ranges = std::iter::once(copies.rank()).collect();
        let rows = self.base_rows(space, copies.base(), &rank, now).await;
        let (id, rows) = rows?;
        let Some(row) = rows.into_iter().next() else {
            return Err(missing("the base has fewer rows"));
        };
        let scope = Scope {
            name: space,
            id,
            now,
        };
        for place in self.source_ranges(scope, row, copies.touched()).await? {
            let SourceRange { start, len, check } = place;
            let needed = pending.needs(start..start + len);
            if needed.is_empty() {
                continue;
            }
            let within = needed.start - start..needed.end - start;
            let bytes = self.raw(scope, &check).await.map_err(or_missing)?;
            let bytes = bytes.get(within.start as usize..within.end as usize);
            let bytes = bytes.ok_or_else(|| missing("a part of the base is shorter"))?;
            pending.fill(needed.start, bytes, kind_of(check.at.codec));
        }
        Ok(pending.finish()?)
    }

    /// The stored ranges of these parts of a blob.
    async fn source_ranges(
        &self,
        scope: Scope<'_>,
        (row, at): (Row, Location),
        numbers: &[u64],
    ) -> Result<Vec<SourceRange>, Problem> {
        let size = row.entry.size;
        let entry = row.entry;
        let held = LocatedFile { entry, at };
        if matches!(at.codec, Codec::Stored | Codec::Zstd) {
            let (start, len) = (0, size);
            let check = check_of(scope, &held);
            return Ok(vec![SourceRange { start, len, check }]);
        }
        let parts = BlobParts::of(size).map_err(missing)?;
        let table = self.part_table(scope, &held, parts).await;
        let table = table.map_err(or_missing)?;
        let place = |number: &u64| {
            let part = parts.part(u32::try_from(*number).ok()?).ok()?;
            let check = check_of_part(scope, &held, &table, part)?;
            let (start, len) = (u64::from(part.number()) * PART_BYTES, part.len());
            Some(SourceRange { start, len, check })
        };
        let places: Option<Vec<_>> = numbers.iter().map(place).collect();
        places.ok_or_else(|| missing("the row of the base is shorter"))
    }
}

/// A contiguous stored range of a blob.
struct SourceRange {
    /// Offset of the range in the blob.
    start: u64,
    len: u64,
    check: Check,
}

const fn kind_of(codec: Codec) -> PackKind {
    match codec {
        Codec::Stored | Codec::Parts => PackKind::Stored,
        Codec::Zstd | Codec::ZstdParts => PackKind::Solid,
    }
}
