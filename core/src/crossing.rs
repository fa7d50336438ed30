//! Crossing: the message format between isolates, JSON followed by unencoded byte strings.
//!
//! ```text
//! crossing = 1 byte version, varint head length, head (JSON), varint count, varint length*, bytes*
//! ```
//!
//! An update of a Worker reaches its isolates and its objects at different times. So each side must
//! read messages of the previous and of the next release. A release therefore only adds: fields
//! with a default, variants, and byte strings after the existing ones. An unknown variant and a
//! greater [`VERSION`] are [`Foreign`]: the caller may send the request again.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::code::Code;
use crate::encode::{ByteReader, Malformed, write_bytes, write_varint};
use crate::limits::OUTLINE_NODES_MAX;
use crate::problem::Problem;

/// The version of the format. It changes only where an addition does not suffice.
pub const VERSION: u8 = 1;

/// Byte strings of one value: one for each node of a request, and a few more.
const STRINGS_MAX: usize = OUTLINE_NODES_MAX + 16;

/// A value that may cross to another isolate.
pub trait Crosses: Serialize + DeserializeOwned {
    /// Passes each byte string of the value to `_each`. Their order is part of the format.
    fn strings(&mut self, _each: &mut dyn FnMut(&mut Bytes)) {}
}

/// An encoded value.
#[derive(Debug)]
pub struct Crossing {
    head: Vec<u8>,
    strings: Vec<Bytes>,
}

impl Crossing {
    /// Encodes a value, without copying its byte strings.
    pub fn of<T: Crosses>(mut value: T) -> Result<Self, serde_json::Error> {
        let mut strings = Vec::new();
        value.strings(&mut |string| strings.push(std::mem::take(string)));
        let mut head = vec![VERSION];
        write_bytes(&mut head, &serde_json::to_vec(&value)?);
        write_varint(&mut head, strings.len() as u64);
        for string in &strings {
            write_varint(&mut head, string.len() as u64);
        }
        Ok(Self { head, strings })
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// Its bytes, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let strings = self.strings.iter().map(|string| &string[..]);
        std::iter::once(&self.head[..]).chain(strings)
    }

    /// Its bytes in one piece.
    pub fn to_bytes(&self) -> Bytes {
        self.pieces().collect::<Vec<_>>().concat().into()
    }
}

/// A message in a format that this release does not read.
#[derive(Debug, Error)]
pub enum Foreign {
    /// The message has another version.
    #[error("version {0}, where this release knows version {VERSION}")]
    Version(u8),
    /// The layout is invalid.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The head has an unknown name, or lacks a required field.
    #[error(transparent)]
    Head(#[from] serde_json::Error),
}

impl Foreign {
    /// Describes the failure to read a message.
    pub fn into_problem(self, doing: &str) -> Problem {
        let detail = format!("{doing}: another release wrote it, or it is damaged: {self}");
        Problem::new(Code::Unavailable, detail)
    }
}

/// Decodes a value. Its byte strings are slices of `bytes`.
pub fn arrived<T: Crosses>(bytes: &Bytes) -> Result<T, Foreign> {
    let mut reader = ByteReader::new(bytes);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(Foreign::Version(version));
    }
    let head = reader.bytes(bytes.len(), "the head's length")?;
    let mut value: T = serde_json::from_slice(head)?;
    let strings = strings(bytes, reader)?;
    let mut strings = strings.into_iter();
    value.strings(&mut |string| *string = strings.next().unwrap_or_default());
    Ok(value)
}

fn strings(bytes: &Bytes, mut reader: ByteReader<'_>) -> Result<Vec<Bytes>, Malformed> {
    let max = STRINGS_MAX.min(reader.remaining());
    let count = reader.varint_up_to(max as u64, "the byte strings")?;
    let lengths = (0..count).map(|_| reader.varint_up_to(bytes.len() as u64, "a byte string"));
    let lengths = lengths.collect::<Result<Vec<_>, _>>()?;
    let strings = lengths.into_iter().map(|length| {
        let string = reader.take(length as usize)?;
        Ok(bytes.slice_ref(string))
    });
    strings.collect()
}

/// A list of byte strings in the head: only their number.
pub mod count {
    use bytes::Bytes;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::STRINGS_MAX;

    /// Writes the number of byte strings.
    pub fn serialize<S: Serializer>(list: &[Bytes], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(list.len() as u64)
    }

    /// Reads the number of byte strings, and makes that many empty ones.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bytes>, D::Error> {
        let count = usize::deserialize(deserializer)?;
        if count > STRINGS_MAX {
            let why = format!("{count} byte strings; the limit is {STRINGS_MAX}");
            return Err(D::Error::custom(why));
        }
        Ok(vec![Bytes::new(); count])
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Letter {
        name: String,
        #[serde(skip)]
        one: Bytes,
        #[serde(with = "count")]
        many: Vec<Bytes>,
    }

    impl Crosses for Letter {
        fn strings(&mut self, each: &mut dyn FnMut(&mut Bytes)) {
            each(&mut self.one);
            self.many.iter_mut().for_each(each);
        }
    }

    fn letter() -> Letter {
        Letter {
            name: "a".to_owned(),
            one: Bytes::from_static(b"\0\xff"),
            many: vec![Bytes::from_static(b"pmx"), Bytes::new()],
        }
    }

    #[test]
    fn byte_strings_follow_the_head_and_are_not_copied() {
        let crossing = Crossing::of(letter()).unwrap();
        let bytes = crossing.to_bytes();
        assert_eq!(
            &bytes[..],
            b"\x01\x15{\"name\":\"a\",\"many\":2}\x03\x02\x03\x00\0\xffpmx"
        );
        assert_eq!(crossing.bytes(), bytes.len());
        let arrived: Letter = arrived(&bytes).unwrap();
        assert_eq!(arrived, letter());
        assert!(bytes.as_ptr_range().contains(&arrived.many[0].as_ptr()));
    }

    #[test]
    fn crossing_of_another_version_or_cut_bytes_is_foreign() {
        let bytes = Crossing::of(letter()).unwrap().to_bytes();
        for end in 0..bytes.len() {
            assert!(arrived::<Letter>(&bytes.slice(..end)).is_err(), "{end}");
        }
        let mut newer = bytes.to_vec();
        newer[0] = VERSION + 1;
        let foreign = arrived::<Letter>(&newer.into()).unwrap_err();
        assert!(matches!(foreign, Foreign::Version(2)));
        let problem = foreign.into_problem("reading a letter");
        assert_eq!((problem.status, problem.code.retriable()), (503, true));
        assert_eq!(problem.code.retry_after(), Some("1"));
    }

    #[test]
    fn counts_are_compared_with_their_bound_before_there_is_room_for_them() {
        let head = r#"{"name":"","many":4000000000}"#;
        let mut bytes = vec![VERSION];
        write_bytes(&mut bytes, head.as_bytes());
        let mut long = bytes.clone();
        write_varint(&mut bytes, 0);
        assert!(matches!(
            arrived::<Letter>(&bytes.into()),
            Err(Foreign::Head(_))
        ));
        long[2..].copy_from_slice(head.replace("4000000000", "1         ").as_bytes());
        write_varint(&mut long, 4_000_000_000);
        assert!(matches!(
            arrived::<Letter>(&long.into()),
            Err(Foreign::Malformed(Malformed::TooLarge { .. }))
        ));
    }

    #[test]
    fn crossing_skips_strings_of_later_releases_and_fills_missing_ones() {
        let mut bytes = vec![VERSION];
        write_bytes(&mut bytes, br#"{"name":"a","many":1,"later":[7]}"#);
        bytes.extend_from_slice(b"\x03\x01\x01\x01xyz");
        let letter: Letter = arrived(&bytes.into()).unwrap();
        assert_eq!(
            (&letter.one[..], &letter.many[0][..]),
            (&b"x"[..], &b"y"[..])
        );
        let mut bytes = vec![VERSION];
        write_bytes(&mut bytes, br#"{"name":"a","many":1}"#);
        bytes.extend_from_slice(b"\x01\x01x");
        let letter: Letter = arrived(&bytes.into()).unwrap();
        assert_eq!(
            (&letter.one[..], &letter.many[0][..]),
            (&b"x"[..], &b""[..])
        );
    }
}
