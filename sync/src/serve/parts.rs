//! Big blob bodies: reads the part table, and maps parts to pieces of a body.

use bytes::Bytes;
use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::coding::Coding;
use pmx_core::problem::Problem;

use super::backend::Backend;
use super::body::{BodyRange, Check, Expected};
use super::server::Server;
use super::site::{check_of, piece};
use super::stored::Scope;
use crate::pack::part::{BlobParts, Part, PartTable};
use crate::site::LocatedFile;
use crate::space::{Loss, Lost};

impl<B: Backend> Server<B> {
    /// The pieces of a body that is a range of a big blob.
    pub(super) async fn parts(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
        coding: Coding,
        keep: std::ops::Range<u64>,
    ) -> Result<Vec<BodyRange>, Problem> {
        let parts = BlobParts::of(held.entry.size)?;
        let table = self.part_table(scope, held, parts).await?;
        let pieces = parts.touching(keep).filter_map(|(part, within)| {
            let location = table.location(part)?;
            let piece = piece(scope.id, location, within, part.len(), coding);
            Some(piece.checked(check_of_part(scope, held, &table, part)?))
        });
        Ok(pieces.collect())
    }

    pub(super) async fn part_table(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
        parts: BlobParts,
    ) -> Result<PartTable, Problem> {
        let extent = held.at.extent;
        let key = ObjectKey {
            space: scope.id,
            object: extent.object,
        };
        let range = extent.offset..extent.offset.saturating_add(extent.len);
        let blobs = self.backend().blobs();
        let read = blobs.read(key, range.clone()).await?;
        if let Ok(table) = table_of(read, held, parts) {
            return Ok(table);
        }
        let read = blobs.read_again(key, range).await?;
        let is_absent = read.is_none();
        match table_of(read, held, parts) {
            Ok(table) => Ok(table),
            Err(why) => {
                let (blob, at) = (held.entry.blob, held.at);
                let lost = Lost::Blob { blob, at };
                let object = extent.object;
                let loss = Loss {
                    lost,
                    object,
                    is_absent,
                };
                self.mark(scope, loss).await;
                let detail = format!("reading the parts of blob {blob} in {key}: {why}");
                Err(Problem::new(Code::Corrupt, detail))
            }
        }
    }
}

/// The check of one part of a big blob.
pub(super) fn check_of_part(
    scope: Scope<'_>,
    held: &LocatedFile,
    table: &PartTable,
    part: Part,
) -> Option<Check> {
    let value = table.value(part).copied();
    Some(Check {
        at: *table.location(part)?,
        raw: part.len(),
        expected: value.map_or(Expected::Unknown, |value| Expected::Part(part, value)),
        ..check_of(scope, held)
    })
}

fn table_of(
    read: Option<Bytes>,
    held: &LocatedFile,
    parts: BlobParts,
) -> Result<PartTable, String> {
    let bytes = read.ok_or_else(|| "the object is missing or too short".to_owned())?;
    let table = PartTable::decode(&bytes, parts).map_err(|error| error.to_string())?;
    if table.is_of(parts, &held.entry.blob) {
        Ok(table)
    } else {
        Err("the chaining values do not merge to its id".into())
    }
}
