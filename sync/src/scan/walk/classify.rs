//! Classified listing: the files, folders and links of a folder that may be published.

use super::super::error::{ScanFault, shown};
use super::super::filesystem::{FileSystem, Listing, ListingEntry, Virtual};
use super::super::own::{self, OwnFolder};
use super::super::pathmx::FolderKind;
use super::super::rules::PathKind;
use super::super::stat::FileKind;
use super::findings::lock;
use super::{Walk, WalkPosition, lossy};

/// The names of a listing that may be published, by kind.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) files: Vec<ListingEntry>,
    pub(super) folders: Vec<ListingEntry>,
    pub(super) links: Vec<ListingEntry>,
}

impl<G: FileSystem> Walk<'_, G> {
    /// The kind of the folder with this listing, if it is pmx's own. The top never counts as one,
    /// because the user publishes it. The folders of a single file are not on disk.
    pub(super) fn own_folder(
        &self,
        here: &WalkPosition<'_>,
        listing: &Listing,
    ) -> Option<OwnFolder> {
        let mut names = listing.entries.iter().map(|&listed| listing.name(listed));
        let is_on_disk = !here.real.is_empty() && self.kind != FolderKind::SingleFile;
        let is_worth_looking = is_on_disk && names.any(own::is_telling);
        let path = || self.filesystem.place().join(here.real);
        is_worth_looking.then(|| OwnFolder::at(&path())).flatten()
    }

    pub(super) fn leave_out(&self, path: &str, own: OwnFolder) {
        lock(&self.found.own).insert(shown(path), own);
    }

    /// Whether a name at the top is one of pmx's own files.
    fn is_own_name(&self, here: &WalkPosition<'_>, name: &[u8]) -> bool {
        let own = self
            .own
            .filter(|own| here.real.is_empty() && own.holds(name));
        if let Some(own) = own {
            self.leave_out(&lossy(here, name), own);
        }
        own.is_some()
    }

    /// Whether a link leads to a folder, so that patterns of folders match it.
    fn leads_to_folder(&self, here: &WalkPosition<'_>, name: &[u8]) -> bool {
        let name = std::str::from_utf8(name);
        name.is_ok_and(|name| self.filesystem.place().join(here.real).join(name).is_dir())
    }

    /// Whether a name is published. A declared name may start with a dot.
    fn is_published(
        &self,
        here: &WalkPosition<'_>,
        name: &[u8],
        shape: PathKind,
        given: Option<Virtual>,
    ) -> bool {
        match given {
            Some(Virtual::Generated | Virtual::Folder) => true,
            Some(Virtual::Declared) => self.rules.admit_declared(here.prefix, name),
            None => {
                let hidden = here.hidden.iter().any(|hidden| hidden.as_bytes() == name);
                let hidden = hidden || self.is_own_name(here, name);
                !hidden && self.rules.admit(here.prefix, name, shape)
            }
        }
    }

    pub(super) fn classify(
        &self,
        here: &WalkPosition<'_>,
        folder: &G::Folder,
        listing: &Listing,
    ) -> Parts {
        let mut parts = Parts {
            files: Vec::with_capacity(listing.entries.len()),
            ..Parts::default()
        };
        for &listed in &listing.entries {
            let mut listed = listed;
            let name = listing.name(listed);
            if listed.kind == FileKind::Unknown {
                let path = lossy(here, name);
                match self.filesystem.stat(folder, listing.c_name(listed)) {
                    Ok(stat) => listed.kind = stat.kind,
                    Err(error) => {
                        self.problem(&path, ScanFault::from_io(&path, "look at", error));
                        continue;
                    }
                }
            }
            let shape = match listed.kind {
                FileKind::Folder => PathKind::Folder,
                FileKind::Link if self.leads_to_folder(here, name) => PathKind::Folder,
                FileKind::File | FileKind::Link | FileKind::Special | FileKind::Unknown => {
                    PathKind::File
                }
            };
            let given = self.filesystem.virtual_name(folder, listing.c_name(listed));
            if !self.is_published(here, name, shape, given) {
                continue;
            }
            match listed.kind {
                FileKind::File => parts.files.push(listed),
                FileKind::Folder => parts.folders.push(listed),
                FileKind::Link => parts.links.push(listed),
                FileKind::Special | FileKind::Unknown => {
                    let path = lossy(here, name);
                    self.problem(&path, ScanFault::NotRegular { path: shown(&path) });
                }
            }
        }
        parts
    }
}
