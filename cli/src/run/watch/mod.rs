//! Folder watching: waits for changes of the folder that a name leads to.
//!
//! Events name the folders with a change, and a scan finds the change. It scans only these folders,
//! so that a saved file is published at once. Some events say too little: a folder appeared, went
//! or was replaced, or events were lost. Then the scan reads everything. No watcher sees every
//! change, so the folder is also scanned every few seconds. It is scanned more often if the system
//! reports no changes.

mod own;
mod pace;
mod trace;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::interrupt::Interrupt;
use own::Own;
pub(super) use pace::{BuildDebounce, Elapsed, FileEvent, ScanComparison, ScanDecision};
use trace::{End, Trace};

/// Interval at which a wait checks for an interrupt.
const TICK: Duration = Duration::from_millis(100);

/// Interval at which the name is resolved again, in case no event reports its change.
const TRACE_EVERY: Duration = Duration::from_millis(500);

/// Interval of full scans without events.
const POLL_EVERY: Duration = Duration::from_secs(4);

/// Interval of full scans if the system does not report changes.
const POLL_DEGRADED: Duration = Duration::from_secs(1);

/// Scans take at most this part of the time.
const POLL_SHARE: u32 = 40;

/// A folder that is being watched by its name.
pub(super) struct Watch {
    name: PathBuf,
    started: Instant,
    trace: Trace,
    traced: Instant,
    source: Source,
    /// Whether watched folders were removed, so that new folders with their names may not be
    /// watched.
    is_stale: bool,
    own: Own,
}

/// The source of events.
struct Source {
    events: Receiver<notify::Result<Event>>,
    /// Held for its threads.
    _watcher: Option<RecommendedWatcher>,
    /// Why the system does not report all changes.
    lack: Option<String>,
}

/// Where changes happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// The folders, by their paths below the watched one; `None` if a change may be anywhere.
    pub(super) folders: Option<BTreeSet<String>>,
}

/// Why a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WaitEnd {
    /// The user wants to stop.
    Interrupted,
    /// Changes happened.
    Events(Vec<FolderEvent>),
    /// The time is over.
    Time,
}

/// One event, and its folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FolderEvent {
    pub(super) seen: FileEvent,
    pub(super) folder: Option<String>,
}

impl FolderEvent {
    const ANYWHERE: Self = Self {
        seen: FileEvent::Anything,
        folder: None,
    };
}

impl Touched {
    /// No change yet.
    pub(super) const NOWHERE: Self = Self {
        folders: Some(BTreeSet::new()),
    };

    /// Adds the folder of a change.
    pub(super) fn add(&mut self, folder: Option<&str>) {
        match (&mut self.folders, folder) {
            (Some(folders), Some(folder)) => {
                folders.insert(folder.to_owned());
            }
            (_, None) => self.folders = None,
            (None, Some(_)) => {}
        }
    }
}

impl Watch {
    /// Starts to watch a folder, which may not exist yet.
    pub(super) fn of(dir: &Path) -> Self {
        let trace = Trace::of(dir);
        Self {
            name: dir.to_owned(),
            started: Instant::now(),
            source: Source::of(&trace),
            trace,
            traced: Instant::now(),
            is_stale: false,
            own: Own::default(),
        }
    }

    /// The time since the watch started.
    pub(super) fn now(&self) -> Elapsed {
        self.started.elapsed()
    }

    /// Why the system does not report all changes. Then the folder is scanned often instead.
    pub(super) fn lack(&self) -> Option<&str> {
        self.source.lack.as_deref()
    }

    /// When the next full scan is due without events, after a scan of this duration.
    pub(super) fn poll_at(&self, took: Duration) -> Elapsed {
        let every = match self.source.lack {
            Some(_) => POLL_DEGRADED,
            None => POLL_EVERY,
        };
        self.now() + every.max(took * POLL_SHARE)
    }

    /// Waits for events, at most until a point of time.
    pub(super) fn wait(&mut self, until: Elapsed, interrupt: &Interrupt) -> WaitEnd {
        loop {
            if interrupt.is_raised() {
                return WaitEnd::Interrupted;
            }
            if self.traced.elapsed() >= TRACE_EVERY && self.renewed() {
                return WaitEnd::Events(vec![FolderEvent::ANYWHERE]);
            }
            let left = until.saturating_sub(self.now());
            match self.source.events.recv_timeout(left.min(TICK)) {
                Ok(first) => {
                    let happened = self.taken(first);
                    if !happened.is_empty() {
                        return WaitEnd::Events(happened);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Without a watcher, the sender is dropped.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(left.min(TICK)),
            }
            if self.now() >= until {
                return WaitEnd::Time;
            }
        }
    }

    /// Ensures that every folder of the next scan is watched.
    pub(super) fn settle(&mut self) {
        if self.is_stale && !self.renewed() {
            self.source = Source::of(&self.trace);
        }
        self.is_stale = false;
    }

    /// Takes an event and all queued ones.
    fn taken(&mut self, first: notify::Result<Event>) -> Vec<FolderEvent> {
        let mut happened = Vec::new();
        let mut is_way = false;
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Ok(event) => {
                    is_way |= event.paths.iter().any(|path| self.trace.passes(path));
                    happened.extend(self.below(&event));
                }
                Err(error) => {
                    if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) {
                        self.source.lack = Some(lack(&error));
                    }
                    // An error means lost events.
                    happened.push(FolderEvent::ANYWHERE);
                }
            }
            next = self.source.events.try_recv().ok();
        }
        if is_way && self.renewed() {
            happened.push(FolderEvent::ANYWHERE);
        }
        happened
    }

    /// The change that an event reports of the folder.
    fn below(&mut self, event: &Event) -> Vec<FolderEvent> {
        if event.need_rescan() || event.paths.is_empty() {
            self.is_stale = true;
            return vec![FolderEvent::ANYWHERE];
        }
        let End::Folder(folder) = self.trace.end() else {
            return Vec::new();
        };
        let mut happened = Vec::new();
        let mut is_stale = false;
        for path in &event.paths {
            let Ok(below) = path.strip_prefix(folder) else {
                continue;
            };
            if !below.as_os_str().is_empty() && self.own.holds(folder, path) {
                continue;
            }
            // The folder's name may lead to another folder now.
            let is_folder = is_of_folder(event.kind) || below.as_os_str().is_empty();
            if is_folder || path.is_dir() {
                // The watcher itself watches a new folder.
                is_stale |= goes(event.kind);
                happened.push(FolderEvent::ANYWHERE);
            } else {
                happened.push(of_file(event.kind, below));
            }
        }
        self.is_stale |= is_stale;
        happened
    }

    /// Resolves the name again, and watches its folder if that is another one now.
    fn renewed(&mut self) -> bool {
        self.traced = Instant::now();
        let trace = Trace::of(&self.name);
        if trace == self.trace {
            return false;
        }
        self.source = Source::of(&trace);
        self.trace = trace;
        self.is_stale = false;
        true
    }
}

impl Source {
    /// Watches the folder at the end of a path, and each entry on the path.
    fn of(trace: &Trace) -> Self {
        let (sender, events) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, |event| matters(event.kind)) {
                // The receiver is dropped when the watch is renewed.
                let _ = sender.send(event);
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                return Self {
                    events,
                    _watcher: None,
                    lack: Some(lack(&error)),
                };
            }
        };
        for parent in trace.parents() {
            // If a parent can't be watched, the regular resolution of the name finds its changes.
            let _ = watcher.watch(parent, RecursiveMode::NonRecursive);
        }
        let mut missed = None;
        if let End::Folder(folder) = trace.end() {
            let watched = watcher.watch(folder, RecursiveMode::Recursive);
            missed = watched.err().map(|error| lack(&error));
            missed = missed.or_else(|| remote(folder));
        }
        Self {
            events,
            _watcher: Some(watcher),
            lack: missed,
        }
    }
}

fn lack(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system's limit of watched files is reached (fs.inotify.max_user_watches)".into()
        }
        notify::ErrorKind::Io(error) if is_too_many(error) => {
            "the system's limit of watchers is reached (fs.inotify.max_user_instances)".into()
        }
        _ => error.to_string(),
    }
}

/// Whether the process can't open more files or watchers.
fn is_too_many(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error());
    #[cfg(not(unix))]
    return {
        let _ = error;
        false
    };
}

/// Why a file system may not report changes: other machines make them.
#[cfg(target_os = "linux")]
fn remote(folder: &Path) -> Option<String> {
    // The file-system types of statfs(2) and the kernel headers that it refers to.
    const REMOTE: [(u64, &str); 9] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
        (0x0102_1997, "9P"),
        (0x6573_5546, "FUSE"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x786f_4256, "VirtualBox shared folder"),
    ];
    let kind = rustix::fs::statfs(folder).ok()?.f_type;
    let kind = u64::try_from(kind).unwrap_or_default() & 0xffff_ffff;
    let (_, name) = REMOTE.iter().find(|(magic, _)| *magic == kind)?;
    Some(format!("the folder lies on a {name} file system"))
}

#[cfg(not(target_os = "linux"))]
fn remote(_folder: &Path) -> Option<String> {
    None
}

/// Reading is no change. Closing a file after writing ends one.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// Whether a name may lead to another folder than before, or to none.
fn goes(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Other
            | EventKind::Any
    )
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

fn of_file(kind: EventKind, below: &Path) -> FolderEvent {
    let Some(path) = below.to_str() else {
        return FolderEvent::ANYWHERE;
    };
    let path = path.replace(std::path::MAIN_SEPARATOR, "/");
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder = Some(folder.to_owned());
    let seen = match kind {
        EventKind::Modify(ModifyKind::Data(_)) if cfg!(target_os = "linux") => {
            FileEvent::Written(path)
        }
        EventKind::Access(_) => FileEvent::Closed(path),
        _ => FileEvent::Moved(path),
    };
    FolderEvent { seen, folder }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The folders in which `change` changes something; `None` if a change may be anywhere.
    fn after(home: &Path, change: impl FnOnce()) -> Option<Vec<String>> {
        let mut watch = Watch::of(home);
        change();
        let until = Duration::from_secs(10);
        let mut touched = Touched::NOWHERE;
        let mut quiet = until;
        while let WaitEnd::Events(happened) = watch.wait(quiet, &Interrupt::default()) {
            for event in happened {
                touched.add(event.folder.as_deref());
            }
            quiet = watch.now() + Duration::from_millis(60);
        }
        touched.folders.map(|folders| folders.into_iter().collect())
    }

    #[test]
    fn watch_scans_every_second_where_the_system_reports_nothing() {
        let home = tempfile::tempdir().unwrap();
        let mut watch = Watch::of(home.path());
        assert_eq!(watch.lack(), None);
        let (_, events) = channel();
        watch.source = Source {
            events,
            _watcher: None,
            lack: Some("there are no watches left".into()),
        };
        let poll = watch.poll_at(Duration::ZERO);
        assert!(poll <= watch.now() + POLL_DEGRADED);
        let until = watch.now() + Duration::from_millis(120);
        assert_eq!(watch.wait(until, &Interrupt::default()), WaitEnd::Time);
        // The name is resolved anyway.
        fs::remove_dir(home.path()).unwrap();
        let until = watch.now() + Duration::from_secs(10);
        let wake = watch.wait(until, &Interrupt::default());
        assert_eq!(wake, WaitEnd::Events(vec![FolderEvent::ANYWHERE]));
    }

    #[test]
    fn watch_names_the_folder_of_a_saved_file_and_nothing_for_a_moved_folder() {
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
