//! Reference prefix: the blobs of the base that the blobs of a pack are compressed against.

use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::id::Root;

use super::PackError;
use crate::limits::{PREFIX_RAW_BYTES_MAX, PREFIX_ROWS_MAX};
use crate::wire::Ranges;

/// The referenced blobs of a pack: rows of a manifest that both sides have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The manifest.
    pub base: Root,
    /// Its rows, at least one.
    pub rows: Ranges,
}

impl Reference {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.base.as_bytes());
        let runs = self.rows.runs();
        write_varint(out, runs.len() as u64);
        let mut free = 0;
        for &(first, count) in runs {
            write_varint(out, first - free);
            write_varint(out, count);
            free = first + count;
        }
    }

    pub(super) fn read(reader: &mut ByteReader<'_>) -> Result<Self, PackError> {
        let base = Root::from_bytes(reader.array()?);
        let runs = reader.varint()?;
        check_rows(runs)?;
        if runs > reader.remaining() as u64 / 2 {
            return Err(Malformed::Truncated.into());
        }
        let (mut all, mut free, mut rows) = (Vec::with_capacity(runs as usize), 0_u64, 0_u64);
        for number in 0..runs {
            let (gap, count) = (reader.varint()?, reader.varint()?);
            // Adjacent runs must be one.
            if count == 0 || number > 0 && gap == 0 {
                return Err(PackError::Rows);
            }
            rows = rows.saturating_add(count);
            check_rows(rows)?;
            let first = free.checked_add(gap).ok_or(PackError::Rows)?;
            free = first.checked_add(count).ok_or(PackError::Rows)?;
            all.push((first, count));
        }
        let rows = Ranges::try_from(all).map_err(|_| PackError::Rows)?;
        Ok(Self { base, rows })
    }
}

/// Reference prefix in memory: the blobs of the referenced rows, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    reference: Reference,
    pub(super) raw: Vec<u8>,
}

impl Prefix {
    /// An empty prefix against a manifest.
    pub fn of(base: Root) -> Self {
        Self::within(Vec::new(), base)
    }

    /// An empty prefix in reused memory, whose content is dropped.
    pub fn within(mut memory: Vec<u8>, base: Root) -> Self {
        memory.clear();
        let rows = Ranges::default();
        Self {
            reference: Reference { base, rows },
            raw: memory,
        }
    }

    /// Returns the memory of the blobs for the next prefix.
    pub fn into_memory(self) -> Vec<u8> {
        self.raw
    }

    /// Appends the blob of a row. Returns false, and leaves the blob out, if it exceeds a bound.
    pub fn push(&mut self, row: u64, blob: &[u8]) -> bool {
        let raw = (self.raw.len() + blob.len()) as u64;
        let rows = self.reference.rows.len();
        let fits = raw <= PREFIX_RAW_BYTES_MAX && rows < PREFIX_ROWS_MAX as u64;
        if fits {
            self.reference.rows.push(row);
            self.raw.extend_from_slice(blob);
        }
        fits
    }

    /// The prefix of a reference, from its blobs, which the caller has read in order.
    pub const fn read(reference: Reference, raw: Vec<u8>) -> Self {
        Self { reference, raw }
    }

    /// Raw bytes of its blobs.
    pub const fn raw_bytes(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Whether the prefix has no blobs.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The rows of the prefix.
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }
}

fn check_rows(rows: u64) -> Result<(), PackError> {
    let max = PREFIX_ROWS_MAX as u64;
    match rows {
        0 => Err(PackError::Rows),
        rows if rows > max => Err(PackError::TooManyRows { rows, max }),
        _ => Ok(()),
    }
}
