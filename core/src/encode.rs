//! Canonical encoding: writers and readers of bytes with one form for each value.
//!
//! Integers are unsigned LEB128 (DWARF 5, section 7.6) in the fewest bytes. A reader refuses longer
//! forms, so a value has one encoding. A reader compares lengths with the remaining bytes before it
//! allocates memory.

use thiserror::Error;

/// Appends `value` as LEB128.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and then the bytes.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads canonical bytes from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct ByteReader<'a> {
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    /// Starts at the front of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that are not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    /// Reads `len` bytes without copying them.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads an unsigned LEB128 integer in its shortest form.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::Overlong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let longer_than_needed = byte == 0 && shift > 0;
                return if longer_than_needed {
                    Err(Malformed::Overlong)
                } else {
                    Ok(value)
                };
            }
        }
        Err(Malformed::Overlong)
    }

    /// Reads an integer of at most `max`.
    pub fn varint_up_to(&mut self, max: u64, what: &'static str) -> Result<u64, Malformed> {
        match self.varint()? {
            value if value <= max => Ok(value),
            value => Err(Malformed::TooLarge { what, value, max }),
        }
    }

    /// Reads a length of at most `max`, then that many bytes.
    pub fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.varint_up_to(max as u64, what)?;
        self.take(len as usize)
    }

    /// Succeeds if no bytes are left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing(self.rest.len()))
        }
    }
}

/// The bytes are malformed.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end inside a value.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes follow the value.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    /// An integer has more bytes than necessary, or does not fit 64 bits.
    #[error("an integer is not in its shortest form")]
    Overlong,
    /// A number exceeds its bound.
    #[error("{what} is {value}, above the limit of {max}")]
    TooLarge {
        /// The meaning of the number.
        what: &'static str,
        /// The number.
        value: u64,
        /// The bound.
        max: u64,
    },
    /// The encoding is readable, but not the canonical one of its value.
    #[error("not canonical: {0}")]
    NotCanonical(&'static str),
    /// A version, tag or codec that this program does not know.
    #[error("unknown {what} {value}")]
    Unknown {
        /// The field.
        what: &'static str,
        /// The number in the bytes.
        value: u64,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64) {
            let mut out = Vec::new();
            write_varint(&mut out, value);
            let mut reader = ByteReader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn varint_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = ByteReader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let mut again = Vec::new();
                write_varint(&mut again, value);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }
}
