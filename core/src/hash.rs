//! BLAKE3-256 hashes, and the contexts that separate their uses (domain separation).
//!
//! A blob is hashed plainly, so that `b3sum file` prints its id. All other hashes use a separate
//! derive-key context (BLAKE3 paper, section 2.3: a context string selects a separate function). So
//! a manifest node never passes for a blob, nor a pack for a node.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use thiserror::Error;

/// The context of manifest node ids.
pub const NODE_CONTEXT: &str = "pmx-sync 2026-11 manifest node v1";

/// The context of the key that signs deploy tokens, derived from the publish secret.
pub const DEPLOY_TOKEN_CONTEXT: &str = "pmx-sync 2026-11 deploy token v1";

/// The key that decides where manifest nodes end: a fixed value, equal on every machine.
pub const BOUNDARY_KEY: &[u8; blake3::KEY_LEN] = b"pmx-sync manifest boundary   v1.";

/// 32 bytes of BLAKE3. An [`id`](crate::id) is a hash with a type for its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Hash::LEN]);

impl Hash {
    /// The length of a hash in bytes.
    pub const LEN: usize = 32;

    /// Wraps the bytes of a computed or claimed hash.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The plain BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The BLAKE3 of `bytes` under a derive-key `context`.
    pub fn derived(context: &str, bytes: &[u8]) -> Self {
        Self(
            *blake3::Hasher::new_derive_key(context)
                .update(bytes)
                .finalize()
                .as_bytes(),
        )
    }

    /// The keyed BLAKE3 of `bytes`: a MAC.
    pub fn keyed(key: &Self, bytes: &[u8]) -> Self {
        Self(*blake3::keyed_hash(&key.0, bytes).as_bytes())
    }

    /// Reads 64 lower-case hexadecimal digits, and refuses any other text.
    pub fn from_hex(text: &str) -> Result<Self, InvalidHash> {
        let bytes = HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| InvalidHash::new(text))?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidHash::new(text))?))
    }

    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..6]))
    }
}

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        Self::from_hex(text)
    }
}

/// The text is not a hash.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not a hash: expected 64 lower-case hexadecimal digits")]
pub struct InvalidHash {
    text: String,
}

impl InvalidHash {
    fn new(text: &str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_hash_is_what_b3sum_prints() {
        // `printf '' | b3sum` and `printf 'abc' | b3sum`, from the published test vectors.
        for (input, expected) in [
            (
                "",
                "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            ),
            (
                "abc",
                "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
            ),
        ] {
            assert_eq!(Hash::of(input.as_bytes()).to_hex(), expected);
        }
    }

    #[test]
    fn contexts_are_separate_functions() {
        assert_ne!(Hash::of(b"x"), Hash::derived(NODE_CONTEXT, b"x"));
        assert_ne!(
            Hash::derived("another", b"x"),
            Hash::derived(NODE_CONTEXT, b"x")
        );
    }

    #[test]
    fn hex_is_strict() {
        let good = Hash::of(b"x").to_hex();
        assert_eq!(Hash::from_hex(&good), Ok(Hash::of(b"x")));
        for bad in [
            "",
            &good[1..],
            &format!("{good}0"),
            &good.to_uppercase(),
            "../x",
            "zz",
        ] {
            assert!(Hash::from_hex(bad).is_err(), "{bad} was accepted");
        }
    }
}
