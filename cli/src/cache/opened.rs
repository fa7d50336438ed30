//! Local packs that were decoded lately. Packs that are built one after the other, and at the same
//! time, want blobs of the same few.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pmx_sync::codec::Decoder;
use pmx_sync::id::PackId;
use pmx_sync::pack::{OpenPack, wire};

/// Packs that are kept decoded, of up to 8 MiB each: two that each of the builders is at.
const OPENED_MAX: usize = 4;

/// Decoded packs, shared by whoever builds. What is used least lends its memory to the next.
#[derive(Debug, Default)]
pub(super) struct Opened {
    recent: Mutex<Vec<(PackId, Arc<Slot>)>>,
}

/// Room for one pack. Whoever asks while it is being decoded waits for that.
#[derive(Debug, Default)]
pub(super) struct Slot(OnceLock<Option<OpenPack>>);

impl Slot {
    /// The pack, if it could be read and decoded.
    pub(super) fn pack(&self) -> Option<&OpenPack> {
        self.0.get()?.as_ref()
    }
}

impl Opened {
    /// A pack, decoded now or lately; `wire` are its bytes, if they can be read.
    pub(super) fn slot(&self, id: &PackId, wire: impl FnOnce() -> Option<Vec<u8>>) -> Arc<Slot> {
        let (slot, memory) = self.place(id);
        slot.0.get_or_init(|| {
            wire::open(&wire()?, memory.unwrap_or_default(), &mut Decoder::new()).ok()
        });
        slot
    }

    /// The place of a pack, and memory for it if somebody has left.
    fn place(&self, id: &PackId) -> (Arc<Slot>, Option<Vec<u8>>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().position(|(known, _)| known == id);
        let used = found.map_or_else(|| (*id, Arc::default()), |at| recent.remove(at));
        let slot = Arc::clone(&used.1);
        recent.insert(0, used);
        let left = if recent.len() > OPENED_MAX {
            recent.pop()
        } else {
            None
        };
        drop(recent);
        let left = left.and_then(|(_, slot)| Arc::into_inner(slot)?.0.into_inner()?);
        (slot, left.map(OpenPack::into_memory))
    }

    /// Gives all memory back.
    pub(super) fn close(&self) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.clear();
    }
}
