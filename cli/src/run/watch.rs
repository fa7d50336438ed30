//! Waiting for a folder to change.
//!
//! Events say in which folders something happened, and a scan finds out what: it looks at those
//! alone, so that saving one file of many is published at once. Where events can't say it (a folder
//! came, went or was replaced; some were lost) all is looked at. And because no watcher sees
//! everything (what a link leads to, for one), all is looked at once more when things are quiet.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use notify::event::{CreateKind, ModifyKind, RemoveKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use pmx_sync::code::Code;
use pmx_sync::scan::OwnFolder;

use crate::error::Failure;
use crate::interrupt::Interrupt;

/// How long nothing has to happen after few events: an editor writes a file in several steps.
const QUIET_FEW: Duration = Duration::from_millis(12);

/// How long nothing has to happen after many: longer than the pauses of a build that writes many
/// files, shorter than what a person notices.
const QUIET_MANY: Duration = Duration::from_millis(75);

/// Events that are few: a save is a handful of one file's.
const FEW: usize = 12;

/// How often an interrupt is looked for, and a folder that went away.
const TICK: Duration = Duration::from_millis(100);

/// After which silence all is looked at once more.
const SILENCE: Duration = Duration::from_secs(1);

/// How long it counts whether a folder is pmx's own.
const OWN_FOR: Duration = Duration::from_secs(1);

/// Folders of which that is remembered.
const OWN_MAX: usize = 4_096;

/// A folder that is being watched.
pub(super) struct Watch {
    dir: PathBuf,
    events: Receiver<notify::Result<Event>>,
    watcher: RefCell<RecommendedWatcher>,
    /// Which folder of this name it is.
    watched: Cell<Option<Mark>>,
    /// When only a part was looked at.
    partly: Cell<Option<Instant>>,
    own: RefCell<Own>,
}

/// Which folders below the watched one were found to be pmx's own, or not, lately: a build writes
/// many files to the same few.
#[derive(Default)]
struct Own(HashMap<PathBuf, (bool, Instant)>);

impl Own {
    /// Whether a path lies in one.
    fn holds(&mut self, top: &Path, path: &Path) -> bool {
        let parent = path.parent().unwrap_or(top);
        // In the top itself only some names are.
        if parent == top {
            return OwnFolder::around(top, path).is_some();
        }
        let known = self
            .0
            .get(parent)
            .filter(|(_, then)| then.elapsed() < OWN_FOR);
        if let Some((is_own, _)) = known {
            return *is_own;
        }
        let is_own = OwnFolder::around(top, parent).is_some();
        if self.0.len() >= OWN_MAX {
            self.0.clear();
        }
        self.0.insert(parent.to_owned(), (is_own, Instant::now()));
        is_own
    }
}

/// What tells a folder from another one in its place.
type Mark = (u64, u64);

/// Where something happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// The folders, by their paths below the watched one; nothing if it may be anywhere.
    pub(super) folders: Option<BTreeSet<String>>,
}

impl Watch {
    /// Starts to watch a folder.
    pub(super) fn of(dir: &Path) -> Result<Self, Failure> {
        let missing = |error: std::io::Error| {
            let message = format!("can't publish \"{}\": {error}", dir.display());
            Failure::new(Code::SourceMissing, message)
        };
        let dir = dir.canonicalize().map_err(missing)?;
        let (sender, events) = channel();
        let watcher = notify::recommended_watcher(move |event| {
            // Nobody listens any more only when the program ends.
            let _ = sender.send(event);
        });
        let mut watcher = watcher.map_err(|error| unwatchable(&dir, &error))?;
        let watched = watcher.watch(&dir, RecursiveMode::Recursive);
        watched.map_err(|error| unwatchable(&dir, &error))?;
        Ok(Self {
            watched: Cell::new(mark(&dir)),
            dir,
            events,
            watcher: watcher.into(),
            partly: Cell::new(None),
            own: RefCell::default(),
        })
    }

    /// Waits for a change. Nothing means that the user wants to stop.
    pub(super) fn wait(&self, interrupt: &Interrupt) -> Result<Option<Touched>, Failure> {
        let mut gone = false;
        loop {
            if interrupt.is_raised() {
                return Ok(None);
            }
            match self.events.recv_timeout(TICK) {
                Ok(first) => {
                    let Some(touched) = self.gather(first) else {
                        continue;
                    };
                    if self.dir.is_dir() {
                        return Ok(Some(self.settled(touched)));
                    }
                    gone = true;
                }
                Err(RecvTimeoutError::Timeout) if gone && self.dir.is_dir() => {
                    return Ok(Some(self.settled(Touched::default())));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let partly = self.partly.get();
                    if !gone && partly.is_some_and(|then| then.elapsed() >= SILENCE) {
                        self.partly.set(None);
                        return Ok(Some(Touched::default()));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "watching the folder ended by itself";
                    return Err(Failure::new(Code::Local, why));
                }
            }
        }
    }

    /// Takes events until none come for a moment. Nothing if none of them matters.
    fn gather(&self, first: notify::Result<Event>) -> Option<Touched> {
        let mut folders = Some(BTreeSet::new());
        let (mut next, mut count) = (Some(first), 0);
        while let Some(event) = next {
            if event.as_ref().map_or(true, |event| self.matters(event)) {
                count += 1;
                folders = folders.and_then(|folders| self.noted(folders, event));
            }
            let quiet = if count > FEW { QUIET_MANY } else { QUIET_FEW };
            next = self.events.recv_timeout(quiet).ok();
        }
        (count > 0).then_some(Touched { folders })
    }

    /// Whether an event may change the site: reading does not, and neither does a folder of pmx
    /// itself, which every publish writes to.
    fn matters(&self, event: &Event) -> bool {
        let mut own = self.own.borrow_mut();
        let is_own =
            !event.paths.is_empty() && event.paths.iter().all(|path| own.holds(&self.dir, path));
        matters(event.kind) && !is_own
    }

    /// Notes where an event happened; nothing if it does not say so well enough.
    fn noted(
        &self,
        mut folders: BTreeSet<String>,
        event: notify::Result<Event>,
    ) -> Option<BTreeSet<String>> {
        // An error means lost events.
        let event = event.ok().filter(|event| !event.need_rescan())?;
        if is_of_folder(event.kind) || event.paths.is_empty() {
            return None;
        }
        for path in &event.paths {
            let below = path.strip_prefix(&self.dir).ok()?;
            // What a folder's name stands for now may be another folder.
            if below.as_os_str().is_empty() || path.is_dir() {
                return None;
            }
            let folder = below.parent()?.to_str()?;
            folders.insert(folder.replace(std::path::MAIN_SEPARATOR, "/"));
        }
        Some(folders)
    }

    /// Sees to it that what is there now is watched.
    fn settled(&self, touched: Touched) -> Touched {
        let now = mark(&self.dir);
        if now.is_none() || now != self.watched.get() {
            // A build may have put another folder in the place of the old one.
            let mut watcher = self.watcher.borrow_mut();
            let _ = watcher.unwatch(&self.dir);
            // If the folder is gone again by now, the next tick sees it.
            let _ = watcher.watch(&self.dir, RecursiveMode::Recursive);
            self.watched.set(now);
            self.partly.set(None);
            return Touched::default();
        }
        self.partly
            .set(touched.folders.as_ref().map(|_| Instant::now()));
        touched
    }
}

#[cfg(unix)]
fn mark(dir: &Path) -> Option<Mark> {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::metadata(dir).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn mark(_dir: &Path) -> Option<Mark> {
    None
}

/// Reading is no change.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

fn is_of_folder(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Create(CreateKind::Folder)
            | EventKind::Remove(RemoveKind::Folder)
            | EventKind::Modify(ModifyKind::Other)
            | EventKind::Other
            | EventKind::Any
    )
}

fn unwatchable(dir: &Path, error: &notify::Error) -> Failure {
    let message = format!("can't watch \"{}\": {error}", dir.display());
    let failure = Failure::new(Code::Local, message);
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => failure
            .with_hint("Raise the system's limit of watched files (fs.inotify.max_user_watches)."),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of a change that `change` makes.
    fn after(home: &Path, change: impl FnOnce()) -> Option<Vec<String>> {
        let watch = Watch::of(home).unwrap();
        change();
        let touched = watch.wait(&Interrupt::default()).unwrap().unwrap();
        touched.folders.map(|folders| folders.into_iter().collect())
    }

    #[test]
    fn a_saved_file_tells_its_folder_and_a_moved_folder_tells_nothing() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/x"), "1").unwrap();
        fs::write(at("y"), "1").unwrap();
        let saved = || fs::write(at("a/b/x"), "2").unwrap();
        assert_eq!(after(home.path(), saved), Some(vec!["a/b".into()]));
        let moved = || fs::rename(at("a/b/x"), at("z")).unwrap();
        let both = vec![String::new(), "a/b".into()];
        assert_eq!(after(home.path(), moved), Some(both));
        let gone = || fs::remove_file(at("y")).unwrap();
        assert_eq!(after(home.path(), gone), Some(vec![String::new()]));
        assert_eq!(
            after(home.path(), || fs::rename(at("a"), at("c")).unwrap()),
            None
        );
        assert_eq!(
            after(home.path(), || fs::create_dir(at("d")).unwrap()),
            None
        );
    }
}
