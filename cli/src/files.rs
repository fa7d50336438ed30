//! Bounded file reads: small files that a user names, read without waiting.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Reads a file of at most so many bytes. An `Err` gives the reason, without the file's name.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    read_to_bound(file, bytes_max)
}

/// Reads to the end, which must come within so many bytes.
pub(crate) fn read_to_bound(source: impl std::io::Read, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = source.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("it is longer than {bytes_max} bytes"));
    }
    Ok(bytes)
}
