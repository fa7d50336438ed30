//! The first publish to a space that nobody published to: every blob has to travel, so the files
//! are sent as they are read, and each is read once.
//!
//! What is sent here is only a gift to the space. The scan that follows looks at every file again,
//! and the publish that follows asks what is missing as every publish does: nothing, as a rule.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use pmx_sync::code::Code;
use pmx_sync::id::BlobId;
use pmx_sync::name::SpaceName;
use pmx_sync::pack::PackKind;
use pmx_sync::pack::plan::{PackPlan, Piece, Plan};
use pmx_sync::pack::wire::WirePack;
use pmx_sync::scan::{Ahead, Listed};

use super::crew::{self, Desk, Pace, Place, lock};
use super::http::{Client, Share};
use crate::args::Compression;
use crate::cache::LocalPacks;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::Bar;

/// Whether nobody has published to the space, or begun to.
pub fn is_untouched(client: &Client, space: &SpaceName) -> Result<bool, Failure> {
    match client.deploys(space, None, 1) {
        Ok(_) => Ok(false),
        Err(failure) if failure.code == Code::NotFound && failure.problem.is_some() => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// Where the blobs of a listed folder go to.
pub struct Sending<'a> {
    /// The server.
    pub client: &'a Client,
    /// The space.
    pub space: &'a SpaceName,
    /// The files.
    pub ahead: &'a Ahead,
    /// Where what is sent is kept for the next publish.
    pub packs: &'a LocalPacks,
    /// How hard to compress.
    pub compression: Compression,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Counts raw bytes.
    pub bar: &'a Bar,
}

impl Sending<'_> {
    /// Sends every blob that fits a pack. Returns once they have arrived.
    pub fn run(&self) -> Result<(), Failure> {
        let plan = Plan::of_pieces(self.ahead.files().map(|Listed { size, media, .. }| {
            // Blobs that need parts are left to the publish.
            Some(Piece { size, media })
        }));
        let (desk, pace) = (Desk::new(), Pace::new(self.compression));
        let sent = Mutex::new(BTreeSet::new());
        crew::each(&plan.packs, |plan| self.pack(plan, &desk, &pace, &sent))
    }

    fn pack(
        &self,
        plan: &PackPlan,
        desk: &Desk,
        pace: &Pace,
        sent: &Mutex<BTreeSet<BlobId>>,
    ) -> Result<(), Failure> {
        self.interrupt.check()?;
        let pack = desk.with(|place| self.build(plan, place, pace, sent))?;
        let share = Share::new(self.bar, plan.raw);
        if let Some(pack) = pack {
            let started = Instant::now();
            self.client
                .pack(self.space, pack.id(), pack.bytes(), &share)?;
            pace.note(pack.bytes().len(), started.elapsed());
        }
        share.finish();
        Ok(())
    }

    /// Builds a pack of the files that hold still, without what travels in another one.
    fn build(
        &self,
        plan: &PackPlan,
        place: &mut Place,
        pace: &Pace,
        sent: &Mutex<BTreeSet<BlobId>>,
    ) -> Result<Option<WirePack>, Failure> {
        // A pack that fails halfway leaves nothing behind for the next one.
        let mut builder = std::mem::take(&mut place.builder);
        let mut sources = self.ahead.sources();
        let mut blobs = Vec::with_capacity(plan.members.len());
        for &at in &plan.members {
            let appended = builder.append(|raw| {
                let blob = self.ahead.read(at, &mut sources, raw);
                let blob = blob.filter(|blob| lock(sent).insert(*blob));
                blobs.extend(blob);
                blob.is_some()
            });
            appended.map_err(|error| Failure::new(error.code(), error.to_string()))?;
        }
        let pack = builder.finish(&mut place.encoder, plan.kind.coding(pace.level()));
        place.builder = builder;
        if let Some(pack) = pack.as_ref().filter(|_| plan.kind == PackKind::Solid) {
            self.packs.add(pack, blobs);
        }
        Ok(pack)
    }
}
