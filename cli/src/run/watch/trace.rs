//! Path resolution trace: the directory entries that decide which folder a name leads to.
//!
//! Builds replace the old folder by another one. They rename it, switch a link (also one of a
//! parent: a Nix profile, Capistrano's `current`), or remove and create it. So the watch follows
//! the name. Each entry on its path has an identity, and a change of any entry means that the watch
//! must start again.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Most links on a path, as on Linux (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// The resolved path of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trace {
    steps: Vec<Step>,
    end: End,
}

/// One entry on the path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    entry: PathBuf,
    mark: Option<Mark>,
}

/// The identity of a file, which distinguishes it from another one at its path. File systems reuse
/// inode numbers at once, so it includes the creation time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    inode: (u64, u64),
    made: Option<SystemTime>,
    target: Option<PathBuf>,
}

/// The end of a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum End {
    /// This folder, whose path has no links.
    Folder(PathBuf),
    /// An entry that is no folder.
    Other,
    /// A missing entry.
    #[default]
    Nothing,
}

impl Trace {
    /// Resolves a path from the top.
    pub(super) fn of(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut rest = VecDeque::new();
        push_front(&mut rest, &path);
        let mut trace = Self::default();
        let (mut here, mut links) = (PathBuf::new(), 0);
        while let Some(part) = rest.pop_front() {
            let name = match part {
                Part::Top(top) => {
                    here = top;
                    continue;
                }
                Part::Up => {
                    here.pop();
                    continue;
                }
                Part::Down(name) => name,
            };
            let entry = here.join(name);
            let found = fs::symlink_metadata(&entry).ok();
            let target = fs::read_link(&entry).ok();
            let mark = found.as_ref().map(|found| mark(found, target.clone()));
            trace.steps.push(Step {
                entry: entry.clone(),
                mark,
            });
            match (found, target) {
                (Some(_), Some(target)) if links < LINKS_MAX => {
                    links += 1;
                    push_front(&mut rest, &target);
                }
                (Some(found), None) if found.is_dir() => here = entry,
                (None, _) => return trace,
                (Some(_), _) => {
                    trace.end = End::Other;
                    return trace;
                }
            }
        }
        trace.end = End::Folder(here);
        trace
    }

    /// The end of the path.
    pub(super) const fn end(&self) -> &End {
        &self.end
    }

    /// Whether an event at this path may change the resolution.
    pub(super) fn passes(&self, path: &Path) -> bool {
        self.steps.iter().any(|step| step.entry == path)
    }

    /// The folders whose entries are on the path.
    pub(super) fn parents(&self) -> BTreeSet<&Path> {
        let parents = self.steps.iter().filter_map(|step| step.entry.parent());
        parents.collect()
    }
}

/// A part of a path that is not resolved yet.
enum Part {
    Top(PathBuf),
    Up,
    Down(OsString),
}

fn push_front(rest: &mut VecDeque<Part>, path: &Path) {
    let mut top = PathBuf::new();
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(_) | Component::RootDir => top.push(component),
            Component::CurDir => {}
            Component::ParentDir => parts.push(Part::Up),
            Component::Normal(name) => parts.push(Part::Down(name.to_owned())),
        }
    }
    for part in parts.into_iter().rev() {
        rest.push_front(part);
    }
    if !top.as_os_str().is_empty() {
        rest.push_front(Part::Top(top));
    }
}

fn mark(found: &Metadata, target: Option<PathBuf>) -> Mark {
    #[cfg(unix)]
    let inode = {
        use std::os::unix::fs::MetadataExt as _;
        (found.dev(), found.ino())
    };
    #[cfg(not(unix))]
    let inode = (0, 0);
    Mark {
        inode,
        made: found.created().ok(),
        target,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn trace_changes_with_every_entry_on_the_way() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let at = |path: &str| home.join(path);
        fs::create_dir_all(at("r1/site")).unwrap();
        fs::create_dir_all(at("r2/site")).unwrap();
        symlink("r1", at("current")).unwrap();
        symlink("current/site", at("public")).unwrap();
        let first = Trace::of(&at("public"));
        assert_eq!(first.end(), &End::Folder(at("r1/site")));
        for entry in ["public", "current", "r1", "r1/site"] {
            assert!(first.passes(&at(entry)), "{entry}");
        }
        assert_eq!(Trace::of(&at("public")), first);
        fs::remove_file(at("current")).unwrap();
        let broken = Trace::of(&at("public"));
        assert_eq!(broken.end(), &End::Nothing);
        assert!(broken.passes(&at("current")), "it may come back");
        symlink("r2", at("current")).unwrap();
        let second = Trace::of(&at("public"));
        assert_eq!(second.end(), &End::Folder(at("r2/site")));
        assert_ne!(second, first);
        assert!(second.parents().contains(home.as_path()));
        fs::remove_dir(at("r2/site")).unwrap();
        fs::write(at("r2/site"), "x").unwrap();
        assert_eq!(Trace::of(&at("public")).end(), &End::Other);
        symlink("loop", at("loop")).unwrap();
        assert_eq!(Trace::of(&at("loop")).end(), &End::Other);
    }

    #[test]
    fn trace_sees_a_folder_that_was_made_again() {
        let home = tempfile::tempdir().unwrap();
        let site = home.path().join("site");
        fs::create_dir(&site).unwrap();
        let first = Trace::of(&site);
        fs::remove_dir(&site).unwrap();
        // File times have the resolution of the kernel's clock.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::create_dir(&site).unwrap();
        assert_ne!(Trace::of(&site), first);
    }
}
