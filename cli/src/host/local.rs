//! This machine as a platform: a folder, a table and a ledger for each space.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pmx_sync::name::SpaceName;
use pmx_sync::serve::Backend;
use tokio::sync::mpsc::UnboundedSender;

use super::blobs::Folder;
use super::error::HostError;
use super::pointers::PointerTable;
use super::spaces::LocalSpaces;

/// The three seams over a data folder.
pub(crate) struct Local {
    pub(crate) blobs: Arc<Folder>,
    pointers: PointerTable,
    pub(crate) spaces: LocalSpaces,
}

impl Local {
    /// Opens what is there and makes what is not.
    pub(crate) fn open(
        data: &Path,
        changed: UnboundedSender<SpaceName>,
        pointer_lag: Option<Duration>,
    ) -> Result<Self, HostError> {
        let blobs = Arc::new(Folder::open(&data.join("objects"))?);
        Ok(Self {
            pointers: PointerTable::open(&data.join("host.db"))?.lagging(pointer_lag),
            spaces: LocalSpaces::open(&data.join("spaces"), Arc::clone(&blobs), changed)?,
            blobs,
        })
    }
}

impl Backend for Local {
    type Blobs = Folder;
    type Pointers = PointerTable;
    type Spaces = LocalSpaces;

    fn blobs(&self) -> &Folder {
        &self.blobs
    }

    fn pointers(&self) -> &PointerTable {
        &self.pointers
    }

    fn spaces(&self) -> &LocalSpaces {
        &self.spaces
    }
}
