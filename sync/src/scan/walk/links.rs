//! Symbolic links: followed inside the folder, refused if they leave it.
//!
//! The system resolves a link. The walk compares its target with the path of the whole folder, and
//! then opens the target from the top segment by segment. So it reads nothing outside, even if a
//! link is replaced in between. A link to a folder above itself is a cycle.

use std::sync::atomic::Ordering;

use crate::path::SitePath;

use super::super::cache::CachedFolder;
use super::super::error::{LinkFault, ScanFault, is_loop, shown};
use super::super::filesystem::{FileSystem, Listing, ListingEntry, c_name};
use super::super::own::OwnFolder;
use super::super::stat::FileKind;
use super::super::tree::Tree;
use super::files::{DirEntryRef, FilesOutcome};
use super::{Walk, WalkPosition, lossy};

impl<G: FileSystem> Walk<'_, G> {
    /// Follows the links of a folder, one after the other, because there are few.
    pub(super) fn links(
        &self,
        here: &WalkPosition<'_>,
        listing: &Listing,
        links: &[ListingEntry],
        cached: Option<CachedFolder<'_>>,
    ) -> (FilesOutcome, Vec<(String, Tree)>) {
        let (mut outcome, mut children) = (FilesOutcome::default(), Vec::new());
        for &listed in links {
            let name = listing.name(listed);
            match self.link(here, name, listed, cached, &mut outcome) {
                Ok(child) => children.extend(child),
                Err(problem) => {
                    outcome.left_out.push(listed);
                    self.problem(&lossy(here, name), problem);
                }
            }
        }
        if !links.is_empty() {
            self.found
                .files
                .fetch_add(links.len() as u64, Ordering::Relaxed);
            self.count(&outcome);
            self.progress.found(links.len() as u64, outcome.bytes);
        }
        (outcome, children)
    }

    fn link(
        &self,
        here: &WalkPosition<'_>,
        name: &[u8],
        listed: ListingEntry,
        cached: Option<CachedFolder<'_>>,
        outcome: &mut FilesOutcome,
    ) -> Result<Option<(String, Tree)>, ScanFault> {
        let path = lossy(here, name);
        let valid = SitePath::parse_bytes(&[here.prefix.as_bytes(), name].concat())?;
        let escape = |fault| ScanFault::SymlinkEscape {
            path: shown(&path),
            fault,
        };
        let target = self.target(here, valid.name()).map_err(escape)?;
        let place = self.filesystem.place();
        if let Some(own) = OwnFolder::around(place, &place.join(&target)) {
            self.leave_out(&path, own);
            outcome.left_out.push(listed);
            return Ok(None);
        }
        let mut chain = Some(here);
        while let Some(above) = chain {
            if above.real == target {
                return Err(escape(LinkFault::Circle));
            }
            chain = above.above;
        }
        let (parent, last) = target.rsplit_once('/').unwrap_or(("", &target));
        let unreadable = |error| ScanFault::from_io(&path, "follow", error);
        let parent = self.filesystem.descend(parent).map_err(unreadable)?;
        let last = c_name(last).map_err(unreadable)?;
        let stat = self.filesystem.stat(&parent, &last).map_err(unreadable)?;
        match stat.kind {
            FileKind::File => {
                let spot = DirEntryRef {
                    folder: &parent,
                    name: &last,
                };
                self.file(here, &spot, listed, name, cached, outcome);
                Ok(None)
            }
            FileKind::Folder => {
                let open = || self.filesystem.folder(&parent, &last);
                Ok(self.child(here, name, Some(&target), open, cached))
            }
            // The link was resolved a moment ago: a link at its target is new.
            FileKind::Link | FileKind::Unknown => {
                Err(ScanFault::ChangedDuringRead { path: shown(&path) })
            }
            FileKind::Special => Err(ScanFault::NotRegular { path: shown(&path) }),
        }
    }

    /// The target of a link, as a path below the top.
    fn target(&self, here: &WalkPosition<'_>, name: &str) -> Result<String, LinkFault> {
        let place = self.filesystem.place();
        let target = place.join(here.real).join(name).canonicalize();
        let target = target.map_err(|error| {
            if is_loop(&error) {
                LinkFault::Circle
            } else {
                LinkFault::Dangling
            }
        })?;
        let below = target.strip_prefix(place).map_err(|_| LinkFault::Outside)?;
        let segments: Option<Vec<_>> = below.iter().map(|segment| segment.to_str()).collect();
        Ok(segments.ok_or(LinkFault::Dangling)?.join("/"))
    }
}
