//! Stream generation: the random id of one stream of a name.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Generation of a stream: 128 random bits, which the platform draws when it creates the stream.
///
/// A stream that is deleted and created again has another generation. ETags and object keys contain
/// it, so that they never mix two streams of one name. A source identifies its forks by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation([u8; 16]);

impl Generation {
    /// Wraps fresh random bytes.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Wraps bytes that were drawn before, such as those of a stored generation.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Parses 32 lower-case hexadecimal digits.
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
    fn generations_parse_from_their_text_and_json() {
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
