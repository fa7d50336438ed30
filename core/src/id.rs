//! Typed ids: hashes with a type for their content, and the few random ids.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::hash::{Hash, InvalidHash, NODE_CONTEXT};

/// Serializes an id as its hexadecimal digits.
macro_rules! hex_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::from_hex(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(crate::hash::Hash);

        impl $name {
            /// Wraps a claimed hash: it came off the wire and proves nothing yet.
            pub const fn claimed(hash: crate::hash::Hash) -> Self {
                Self(hash)
            }

            /// Wraps 32 claimed bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(crate::hash::Hash::from_bytes(bytes))
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }

            /// Reads 64 lower-case hexadecimal digits.
            pub fn from_hex(text: &str) -> Result<Self, InvalidHash> {
                crate::hash::Hash::from_hex(text).map(Self)
            }

            /// 64 lower-case hexadecimal digits.
            pub fn to_hex(&self) -> String {
                self.0.to_hex()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }

        hex_text!($name);
    };
}

hash_id! {
    /// Names a blob: the plain BLAKE3 of its bytes, which `b3sum` prints.
    BlobId
}
hash_id! {
    /// Names a manifest node: the BLAKE3 of its canonical bytes under the node context.
    NodeId
}
hash_id! {
    /// Names a pack by its wire bytes: their plain BLAKE3.
    PackId
}

impl BlobId {
    /// Hashes a blob.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Hash::of(bytes))
    }
}

impl NodeId {
    /// Hashes the canonical bytes of a node.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Hash::derived(NODE_CONTEXT, bytes))
    }
}

impl PackId {
    /// Hashes the wire bytes of a pack.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Hash::of(bytes))
    }
}

/// The node that names a whole site.
pub type Root = NodeId;

/// Names an immutable object in the object store: 16 random bytes, never used twice.
///
/// The id is not a hash, because a hash would name the same key again after a deletion. A late
/// delete of the old object could then remove the new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 16]);

/// Names a space for ever: 16 random bytes from the creation of the space, so that a space with a
/// reused name inherits nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId([u8; 16]);

macro_rules! random_id {
    ($name:ident) => {
        impl $name {
            /// Wraps 16 bytes of randomness.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Reads 32 lower-case hexadecimal digits.
            pub fn from_hex(text: &str) -> Result<Self, InvalidId> {
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes());
                let bytes = bytes.map_err(|_| InvalidId::new(text))?;
                Ok(Self(bytes.try_into().map_err(|_| InvalidId::new(text))?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        hex_text!($name);
    };
}

random_id!(ObjectId);
random_id!(SpaceId);

/// The text is not a 16-byte id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not an id: expected 32 lower-case hexadecimal digits")]
pub struct InvalidId {
    text: String,
}

impl InvalidId {
    fn new(text: &str) -> Self {
        Self {
            text: text.chars().take(48).collect(),
        }
    }
}
