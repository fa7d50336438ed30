//! Restored site: a deploy of a backup, as a publish sends it.

use std::sync::Arc;

use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId, Root};
use pmx_sync::limits::FILES_MAX;
use pmx_sync::manifest::{ManifestError, Node, NodeSource, Totals, range};
use pmx_sync::path::SitePath;
use pmx_sync::push::Uploads;
use pmx_sync::scan::Scan;

use super::publish_source::PublishSource;
use crate::backup::BackupDir;
use crate::cache::{Active, SiteCache};
use crate::error::Failure;

/// A deploy of a backup.
pub(super) struct RestoredSite<'a> {
    dir: &'a BackupDir,
    root: Root,
    totals: Totals,
    base: Option<Active>,
    scan: Scan,
}

impl<'a> RestoredSite<'a> {
    /// The site of a root. `base` is a deploy of the same backup that the server has.
    pub(super) fn read(
        dir: &'a BackupDir,
        root: Root,
        base: Option<Active>,
    ) -> Result<Self, Failure> {
        let most = usize::try_from(FILES_MAX).unwrap_or(usize::MAX);
        let rows = range(dir, root, "", most.saturating_add(1), |_| true)?;
        if rows.len() > most {
            let message = format!("the manifest {root} has more than {FILES_MAX} files");
            return Err(Failure::new(Code::Corrupt, message));
        }
        let invalid = || {
            let message = format!("the manifest {root} of the backup has a path twice");
            Failure::new(Code::Corrupt, message)
        };
        let mut files = Vec::with_capacity(rows.len());
        for row in rows {
            let stored = SitePath::parse(&BackupDir::blob_name(&row.entry.blob));
            files.push((row, stored.map_err(|_| invalid())?));
        }
        let scan = Scan::of_stored(dir.dir().to_owned(), files);
        Ok(Self {
            dir,
            root,
            totals: dir.node(&root)?.totals(),
            base,
            scan: scan.ok_or_else(invalid)?,
        })
    }
}

impl NodeSource for RestoredSite<'_> {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        self.dir.node(id)
    }
}

impl PublishSource for RestoredSite<'_> {
    fn root(&self) -> Root {
        self.root
    }

    fn totals(&self) -> Totals {
        self.totals
    }

    fn base(&self, _known: Option<Active>) -> Option<Active> {
        self.base
    }

    fn scan(&self) -> &Scan {
        &self.scan
    }

    /// A backup has all files: they were hashed before.
    fn check_available(&self, _uploads: &Uploads) -> Result<(), Failure> {
        Ok(())
    }

    fn blobs(&self) -> Vec<BlobId> {
        let rows = self.scan.rows();
        rows.iter().map(|row| row.entry.blob).collect()
    }

    /// A later sync of a folder does not take the restored deploy for one that it saw.
    fn keep_active(&self, _active: &Active, _site: &SiteCache) {}
}
