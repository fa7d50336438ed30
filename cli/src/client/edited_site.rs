//! Edited site: a deploy with a few changed paths, for a publish without the site's folder.
//!
//! The client fetches the whole manifest of the deploy, unless this machine has it. A publish with
//! a new path needs it, because the base may have the content under any other path.

use std::collections::BTreeMap;
use std::sync::Arc;

use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId, Root};
use pmx_core::name::SpaceName;
use pmx_sync::manifest::{
    Edit, Entry, ManifestError, Node, NodeSource, Row, Totals, check_clashes, edit, lookup, range,
};
use pmx_sync::path::SitePath;
use pmx_sync::push::Uploads;
use pmx_sync::scan::Scan;
use pmx_sync::wire::DeployView;

use super::http::Client;
use super::publish_source::PublishSource;
use super::remote;
use crate::cache::{Active, FolderCache, NodeStore, Nodes, SiteCache};
use crate::error::Failure;

/// The changes to a site: new entries and removals.
#[derive(Debug, Default)]
pub struct SiteEdits {
    edits: BTreeMap<SitePath, Option<Entry>>,
    /// Locates the new files.
    scan: Scan,
}

impl SiteEdits {
    /// Puts the files of a scan.
    pub fn put(scan: Scan) -> Self {
        let rows = scan.rows().into_iter();
        let edits = rows.map(|row| (row.path, Some(row.entry))).collect();
        Self { edits, scan }
    }

    /// Removes paths.
    pub fn remove(paths: impl IntoIterator<Item = SitePath>) -> Self {
        Self {
            edits: paths.into_iter().map(|path| (path, None)).collect(),
            scan: Scan::default(),
        }
    }

    /// The changed paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &SitePath> {
        self.edits.keys()
    }

    /// The paths with new content, in order.
    pub fn put_paths(&self) -> impl Iterator<Item = &SitePath> {
        let put = self.edits.iter().filter(|(_, entry)| entry.is_some());
        put.map(|(path, _)| path)
    }

    /// The removed paths, in order.
    pub fn removed_paths(&self) -> impl Iterator<Item = &SitePath> {
        let removed = self.edits.iter().filter(|(_, entry)| entry.is_none());
        removed.map(|(path, _)| path)
    }

    /// The scan that locates the new files.
    pub const fn scan(&self) -> &Scan {
        &self.scan
    }

    /// Whether they change a path.
    pub fn has(&self, path: &SitePath) -> bool {
        self.edits.contains_key(path)
    }

    /// The first path whose entry changed between two deploys, and not to the one to be published.
    /// The entries are in the order of the paths.
    pub fn overtaken(&self, before: &[Option<Entry>], now: &[Option<Entry>]) -> Option<&SitePath> {
        let mut paths = self.edits.iter().zip(before.iter().zip(now));
        let found = paths.find(|((_, wanted), (before, now))| before != now && wanted != now);
        found.map(|((path, _), _)| path)
    }

    fn to_list(&self) -> Vec<Edit> {
        let edits = self.edits.iter().map(|(path, entry)| Edit {
            path: path.clone(),
            entry: entry.clone(),
        });
        edits.collect()
    }
}

/// A deploy, with its whole manifest.
#[derive(Debug)]
pub struct BaseSite {
    deploy: Active,
    nodes: NodeStore,
}

impl BaseSite {
    /// Fetches the manifest of a deploy, without the nodes that this machine has.
    pub fn fetch(
        client: &Client,
        space: &SpaceName,
        deploy: &DeployView,
        known: Option<Nodes>,
    ) -> Result<Self, Failure> {
        let mut nodes = NodeStore {
            old: known,
            ..NodeStore::default()
        };
        if !nodes.has(&deploy.root) {
            nodes.new = remote::manifest(client, space, &nodes, deploy)?;
        }
        let deploy = Active {
            root: deploy.root,
            deploy: deploy.number,
        };
        Ok(Self { deploy, nodes })
    }

    /// Whether the deploy has a file.
    pub fn has(&self, path: &SitePath) -> Result<bool, Failure> {
        Ok(lookup(&self.nodes, self.deploy.root, path)?.is_some())
    }

    /// The entries at the changed paths, in the order of the paths.
    pub fn entries(&self, edits: &SiteEdits) -> Result<Vec<Option<Entry>>, Failure> {
        let entries = edits
            .paths()
            .map(|path| lookup(&self.nodes, self.deploy.root, path));
        Ok(entries.collect::<Result<_, _>>()?)
    }

    /// All files, in the order of their paths.
    pub fn rows(&self) -> Result<Vec<Row>, Failure> {
        let all = range(&self.nodes, self.deploy.root, "", usize::MAX, |_| true);
        Ok(all?)
    }

    /// The site with the changes. No path is both a file and a folder.
    pub fn edited(self, edits: &SiteEdits, cache: FolderCache) -> Result<EditedSite<'_>, Failure> {
        let Self { deploy, mut nodes } = self;
        let built = edit(&nodes, deploy.root, &edits.to_list())?;
        nodes.new.extend(built.nodes);
        check_clashes(&nodes, built.root, edits.put_paths())?;
        Ok(EditedSite {
            base: deploy,
            root: built.root,
            totals: built.totals,
            nodes,
            edits,
            cache,
        })
    }
}

/// A deploy with changes.
#[derive(Debug)]
pub struct EditedSite<'a> {
    base: Active,
    root: Root,
    totals: Totals,
    nodes: NodeStore,
    edits: &'a SiteEdits,
    /// Where the nodes are kept for the next publish.
    cache: FolderCache,
}

impl EditedSite<'_> {
    /// Whether the site has a file.
    pub fn has(&self, path: &SitePath) -> bool {
        lookup(self, self.root, path).is_ok_and(|found| found.is_some())
    }
}

impl NodeSource for EditedSite<'_> {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        self.nodes.node(id)
    }
}

impl PublishSource for EditedSite<'_> {
    fn root(&self) -> Root {
        self.root
    }

    fn totals(&self) -> Totals {
        self.totals
    }

    fn base(&self, _known: Option<Active>) -> Option<Active> {
        Some(self.base)
    }

    fn scan(&self) -> &Scan {
        self.edits.scan()
    }

    fn check_available(&self, uploads: &Uploads) -> Result<(), Failure> {
        let lost = uploads.rows.iter().find(|row| !self.edits.has(&row.path));
        let Some(lost) = lost else {
            return Ok(());
        };
        let (path, number) = (&lost.path, self.base.deploy);
        let message = format!("the server lost content of deploy {number}, such as \"{path}\"");
        let hint = "Publish the whole folder: `pmx sync` sends what is lost.";
        Err(Failure::new(Code::Corrupt, message).with_hint(hint))
    }

    fn blobs(&self) -> Vec<BlobId> {
        let rows = range(self, self.root, "", usize::MAX, |_| true);
        let rows = rows.unwrap_or_default();
        rows.iter().map(|row| row.entry.blob).collect()
    }

    /// If this machine saw another deploy than the base last, a later sync of its folder must not
    /// replace what others published since: the cache stays.
    fn keep_active(&self, active: &Active, site: &SiteCache) {
        if site.seen().is_some_and(|seen| seen != self.base.deploy) {
            return;
        }
        let roots = [active.root, self.base.root];
        self.cache.keep_nodes(&self.nodes.encode(&roots));
        site.keep(active);
        site.keep_folder(&self.cache);
    }
}
