//! Request nonce: randomness from the platform, and the ids derived from it.

use pmx_core::hash::Hash;
use pmx_core::id::{ObjectId, SpaceId};

use crate::domains::{Challenge, ServerId};

/// 32 random bytes for one request.
#[derive(Debug, Clone, Copy)]
pub struct Nonce(pub [u8; 32]);

impl Nonce {
    /// The id of the object that this request may write.
    pub(crate) fn object(&self) -> ObjectId {
        ObjectId::from_bytes(self.half("pmx-sync 2026-11 object id v1"))
    }

    /// The id of the space that this request may create.
    pub(crate) fn space(&self) -> SpaceId {
        SpaceId::from_bytes(self.half("pmx-sync 2026-11 space id v1"))
    }

    /// The id of the server, if this request draws it.
    pub(crate) fn server(&self) -> ServerId {
        ServerId::from_bytes(self.half("pmx-sync 2026-11 server id v1"))
    }

    /// The challenge of the domain that this request may add.
    pub(crate) fn challenge(&self) -> Challenge {
        Challenge::from_bytes(self.half("pmx-sync 2026-11 domain challenge v1"))
    }

    fn half(&self, context: &str) -> [u8; 16] {
        let hash = Hash::derived(context, &self.0);
        hash.as_bytes().first_chunk().copied().unwrap_or_default()
    }
}
