//! Waiting for a folder to change.
//!
//! What exactly changed does not matter: a scan finds out, and it is quick. So events are only
//! gathered until none came for a moment, and a watcher that lost some loses nothing.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use pmx_sync::code::Code;

use crate::error::Failure;
use crate::interrupt::Interrupt;

/// How long nothing has to happen before a change counts: longer than the pauses of a build that
/// writes many files, shorter than what a person notices.
const QUIET: Duration = Duration::from_millis(75);

/// How often an interrupt is looked for, and a folder that went away.
const TICK: Duration = Duration::from_millis(100);

/// A folder that is being watched.
pub(super) struct Watch {
    dir: PathBuf,
    changes: Receiver<()>,
    debouncer: std::cell::RefCell<Debouncer<RecommendedWatcher, RecommendedCache>>,
}

impl Watch {
    /// Starts to watch a folder.
    pub(super) fn of(dir: &Path) -> Result<Self, Failure> {
        let missing = |error: std::io::Error| {
            let message = format!("can't publish \"{}\": {error}", dir.display());
            Failure::new(Code::SourceMissing, message)
        };
        let dir = dir.canonicalize().map_err(missing)?;
        let (sender, changes) = channel();
        let debouncer = new_debouncer(QUIET, None, move |result: DebounceEventResult| {
            // An error means lost events, so it is a change too.
            let changed = match &result {
                Ok(events) => events.iter().any(|event| matters(&event.kind)),
                Err(_) => true,
            };
            if changed {
                let _ = sender.send(());
            }
        });
        let mut debouncer = debouncer.map_err(|error| unwatchable(&dir, &error))?;
        watch(&mut debouncer, &dir).map_err(|error| unwatchable(&dir, &error))?;
        Ok(Self {
            dir,
            changes,
            debouncer: debouncer.into(),
        })
    }

    /// Waits for a change. `false` means that the user wants to stop.
    pub(super) fn wait(&self, interrupt: &Interrupt) -> Result<bool, Failure> {
        let mut gone = false;
        loop {
            if interrupt.is_raised() {
                return Ok(false);
            }
            match self.changes.recv_timeout(TICK) {
                Ok(()) => {
                    while self.changes.try_recv().is_ok() {}
                    if self.dir.is_dir() {
                        // A build may have put another folder in the place of the old one.
                        self.rewatch();
                        return Ok(true);
                    }
                    gone = true;
                }
                Err(RecvTimeoutError::Timeout) if gone && self.dir.is_dir() => {
                    self.rewatch();
                    return Ok(true);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(
                        Code::Local,
                        "watching the folder ended by itself",
                    ));
                }
            }
        }
    }

    fn rewatch(&self) {
        let mut debouncer = self.debouncer.borrow_mut();
        let _ = debouncer.unwatch(&self.dir);
        // If the folder is gone again by now, the next tick sees it.
        let _ = watch(&mut debouncer, &self.dir);
    }
}

fn watch(
    debouncer: &mut Debouncer<RecommendedWatcher, RecommendedCache>,
    dir: &Path,
) -> notify::Result<()> {
    debouncer.watch(dir, RecursiveMode::Recursive)
}

/// Reading is no change.
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
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
