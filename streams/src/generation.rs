//! Generation of a stream: the random id of one use of a name.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One generation of a stream: 128 random bits, drawn outside when it is made.
///
/// A name that is deleted and taken again begins another generation. It stands in ETags and in the
/// keys of objects, so that nothing of one generation is mistaken for something of the other; and a
/// fork's source knows the fork by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation([u8; 16]);

impl Generation {
    /// Wraps fresh random bytes.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Wraps what was drawn already, for something else that lives as long.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads 32 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({self})")
    }
}

impl Serialize for Generation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("no generation"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_return() {
        let generation = Generation::from_random(*b"sixteen  random!");
        assert_eq!(
            Generation::from_hex(&generation.to_string()),
            Some(generation)
        );
        let json = serde_json::to_string(&generation).unwrap();
        assert_eq!(
            serde_json::from_str::<Generation>(&json).unwrap(),
            generation
        );
        for other in ["", "00", "7369787465656E202072616E646F6D21"] {
            assert_eq!(Generation::from_hex(other), None, "{other}");
        }
    }
}
