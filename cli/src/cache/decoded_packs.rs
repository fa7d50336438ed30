//! Decoded packs: a cache of the local packs that builders decoded recently. Packs that are built
//! at the same time, or in sequence, need blobs of the same few packs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pmx_core::codec::Decoder;
use pmx_core::id::PackId;
use pmx_sync::pack::{OpenPack, wire};

/// Decoded packs in memory, of up to 8 MiB each: two for each builder.
const DECODED_MAX: usize = 4;

/// Decoded packs, shared by all builders. A new pack reuses the memory of the least recently used
/// one.
#[derive(Debug, Default)]
pub(super) struct DecodedPacks {
    recent: Mutex<Vec<(PackId, Arc<Slot>)>>,
}

/// Slot of one pack. A builder that needs the pack during the decoding waits for it.
#[derive(Debug, Default)]
pub(super) struct Slot(OnceLock<Option<OpenPack>>);

impl Slot {
    /// The pack, if it could be read and decoded.
    pub(super) fn pack(&self) -> Option<&OpenPack> {
        self.0.get()?.as_ref()
    }
}

impl DecodedPacks {
    /// A decoded pack, from the cache or decoded now. `wire` returns its bytes, if they are
    /// readable.
    pub(super) fn slot(&self, id: &PackId, wire: impl FnOnce() -> Option<Vec<u8>>) -> Arc<Slot> {
        let (slot, memory) = self.place(id);
        slot.0.get_or_init(|| {
            wire::open(&wire()?, memory.unwrap_or_default(), &mut Decoder::new()).ok()
        });
        slot
    }

    /// The slot of a pack, and the memory of a pack that was evicted for it.
    fn place(&self, id: &PackId) -> (Arc<Slot>, Option<Vec<u8>>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().position(|(known, _)| known == id);
        let used = found.map_or_else(|| (*id, Arc::default()), |at| recent.remove(at));
        let slot = Arc::clone(&used.1);
        recent.insert(0, used);
        let left = if recent.len() > DECODED_MAX {
            recent.pop()
        } else {
            None
        };
        drop(recent);
        let left = left.and_then(|(_, slot)| Arc::into_inner(slot)?.0.into_inner()?);
        (slot, left.map(OpenPack::into_memory))
    }

    /// Frees all memory.
    pub(super) fn close(&self) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pmx_core::codec::{Encoder, Level};
    use pmx_sync::pack::PackCoding;
    use pmx_sync::pack::wire::{PackBuilder, WirePack};

    use super::*;

    fn pack(number: u8) -> WirePack {
        let mut builder = PackBuilder::new();
        builder.push(&[number; 1_000]).unwrap();
        let coding = PackCoding::Zstd(Level::STORED);
        builder.finish(&mut Encoder::new(), coding).unwrap()
    }

    #[test]
    fn decoded_pack_is_shared_by_all_readers() {
        let (decoded, reads) = (DecodedPacks::default(), AtomicUsize::new(0));
        let ask = |number: u8| {
            let wire = pack(number);
            let slot = decoded.slot(&wire.id(), || {
                reads.fetch_add(1, Ordering::Relaxed);
                Some(wire.into_bytes())
            });
            let blob = slot.pack().and_then(|pack| pack.blob(0));
            assert_eq!(blob, Some(&[number; 1_000][..]), "pack {number}");
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..3).for_each(ask));
            }
        });
        assert_eq!(reads.swap(0, Ordering::Relaxed), 3);
        decoded.close();
        // The new pack reuses the memory of the least recently used one.
        let asked = [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 1),
            (0, 0),
            (4, 1),
            (0, 0),
            (1, 1),
        ];
        for (number, expected) in asked {
            ask(number);
            assert_eq!(reads.swap(0, Ordering::Relaxed), expected, "pack {number}");
        }
    }

    #[test]
    fn unreadable_pack_is_read_once() {
        let (decoded, wire) = (DecodedPacks::default(), pack(0));
        assert!(decoded.slot(&wire.id(), || None).pack().is_none());
        let again = decoded.slot(&wire.id(), || panic!("it was read again"));
        assert!(again.pack().is_none());
    }
}
