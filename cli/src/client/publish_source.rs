//! Publish source: the site that a publish sends, with its manifest and its files.

use pmx_core::id::{BlobId, Root};
use pmx_sync::manifest::{NodeSource, Totals};
use pmx_sync::push::Uploads;
use pmx_sync::scan::Scan;

use crate::cache::{Active, SiteCache};
use crate::error::Failure;
use crate::source_tree::SourceTree;

/// The site that a publish sends. As a [`NodeSource`] it holds the nodes of its root and its base.
pub trait PublishSource: NodeSource {
    /// The root to publish.
    fn root(&self) -> Root;

    /// Files and bytes of the site.
    fn totals(&self) -> Totals;

    /// The deploy that the changes are relative to, if its nodes are available; `known` is the one
    /// that the cache has.
    fn base(&self, known: Option<Active>) -> Option<Active>;

    /// The scan that locates the files to send.
    fn scan(&self) -> &Scan;

    /// Fails if files to send are not available.
    fn check_available(&self, uploads: &Uploads) -> Result<(), Failure>;

    /// The blobs of all files.
    fn blobs(&self) -> Vec<BlobId>;

    /// Stores the published deploy, from which the next patch can start.
    fn keep_active(&self, active: &Active, site: &SiteCache);
}

impl PublishSource for SourceTree {
    fn root(&self) -> Root {
        self.root()
    }

    fn totals(&self) -> Totals {
        self.totals()
    }

    fn base(&self, known: Option<Active>) -> Option<Active> {
        known.filter(|known| self.contains(&known.root))
    }

    fn scan(&self) -> &Scan {
        self.scan()
    }

    /// A folder has all files.
    fn check_available(&self, _uploads: &Uploads) -> Result<(), Failure> {
        Ok(())
    }

    fn blobs(&self) -> Vec<BlobId> {
        let rows = self.scan().rows();
        rows.iter().map(|row| row.entry.blob).collect()
    }

    fn keep_active(&self, active: &Active, site: &SiteCache) {
        site.keep(active);
        site.keep_folder(self.cache());
    }
}
