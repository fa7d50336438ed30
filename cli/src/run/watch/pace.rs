//! Publish pacing: decides, from events and a clock, when a folder is scanned and published.
//!
//! A build takes a while to write its output, and some builds empty the folder first. A publish in
//! between would show readers half a site. So the pace waits for quiet, and for more quiet if more
//! files are missing. Each wait has a bound, so that an intended deletion is published too.
//!
//! This module reads no clock. Each call passes the time since the watch started, which does not
//! depend on the system's date.

use std::collections::BTreeSet;
use std::time::Duration;

use pmx_sync::manifest::Change;

/// A point of time: the time since the watch started.
pub(in crate::run) type Elapsed = Duration;

/// Quiet after events of one file that is not a page: an editor writes a file in several steps.
const QUIET_FILE: Duration = Duration::from_millis(25);

/// Quiet after events of a page, or of several files: longer than the pauses of a build.
const QUIET_BUILD: Duration = Duration::from_millis(200);

/// Quiet while a file is missing, or was missing a moment ago.
const QUIET_HELD: Duration = Duration::from_millis(300);

/// Quiet while a program has a written file open.
const QUIET_OPEN: Duration = Duration::from_secs(1);

/// Quiet after a file became empty: the program that truncated it has yet to write to it.
const QUIET_EMPTIED: Duration = Duration::from_millis(1_500);

/// Quiet after an editor's backup or a new fault appeared: most disappear in a moment.
const QUIET_PASSING: Duration = Duration::from_secs(1);

/// Quiet if one file of many is missing, and additional quiet if all are.
const QUIET_MISSING: Duration = Duration::from_millis(500);
const QUIET_MISSING_ALL: Duration = Duration::from_millis(4_500);

/// The longest quiet of any wait.
const QUIET_MOST: Duration = Duration::from_secs(5);

/// This many times the longest pause of a build counts as its end.
const PAUSES: u32 = 4;

/// A wait ends after this many times the quiet, even if events never pause.
const BOUND_TIMES: u32 = 12;

/// The least bound: the interval of publishes if the folder changes all the time.
const BOUND_LEAST: Duration = Duration::from_secs(5);

/// A change this shortly after a publish belongs to the same build.
const SAME_BUILD: Duration = Duration::from_millis(600);

/// Files in the set of open ones. Further files count as closed.
const OPEN_MAX: usize = 1_000;

/// Change that an event reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::run) enum FileEvent {
    /// A program wrote to this file and may continue.
    Written(String),
    /// A program closed this file after writing.
    Closed(String),
    /// This file appeared, disappeared or was renamed.
    Moved(String),
    /// Anything may have changed.
    Anything,
}

/// Findings of a scan, compared with the last publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::run) struct ScanComparison {
    /// Published files that are gone without a successor.
    pub(in crate::run) missing: u64,
    /// Published files.
    pub(in crate::run) of: u64,
    /// Files that became empty.
    pub(in crate::run) emptied: u64,
    /// New backups and temporary files of editors, and new faults.
    pub(in crate::run) passing: u64,
}

/// Decision on a scan's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) enum ScanDecision {
    /// Publish the result.
    Publish,
    /// Scan the folder again later.
    Wait,
}

/// The pace of one watch.
#[derive(Debug, Default)]
pub(in crate::run) struct BuildDebounce {
    episode: Option<Episode>,
    /// Files that were written to and not closed since.
    open: BTreeSet<String>,
    /// When the last publish happened.
    published: Option<Elapsed>,
}

/// Unpublished changes.
#[derive(Debug)]
struct Episode {
    first: Elapsed,
    last: Elapsed,
    /// The longest pause between two changes.
    pause: Duration,
    /// The one file that changed; `None` if several did.
    only: Option<String>,
    /// When the folder is scanned next.
    due: Elapsed,
    /// When it is scanned even if changes never pause.
    bound: Elapsed,
    /// Whether the pace held back a scan.
    held: bool,
}

impl BuildDebounce {
    /// Records an event.
    pub(in crate::run) fn note(&mut self, seen: &FileEvent, now: Elapsed) {
        match seen {
            FileEvent::Written(path) if self.open.len() < OPEN_MAX => {
                self.open.insert(path.clone());
            }
            FileEvent::Closed(path) | FileEvent::Moved(path) => {
                self.open.remove(path);
            }
            FileEvent::Anything => self.open.clear(),
            FileEvent::Written(_) => {}
        }
        let path = match seen {
            FileEvent::Written(path) | FileEvent::Closed(path) | FileEvent::Moved(path) => {
                Some(path.clone())
            }
            FileEvent::Anything => None,
        };
        let (open, published) = (!self.open.is_empty(), self.published);
        let episode = self.episode.get_or_insert_with(|| Episode {
            first: now,
            last: now,
            pause: Duration::ZERO,
            only: path.clone(),
            due: now,
            bound: now + BOUND_LEAST,
            held: published.is_some_and(|then| now.saturating_sub(then) < SAME_BUILD),
        });
        episode.pause = episode.pause.max(now.saturating_sub(episode.last));
        episode.last = episode.last.max(now);
        if episode.only != path {
            episode.only = None;
        }
        episode.due = episode.scan_at(open);
    }

    /// When the next scan is due; `None` without changes.
    pub(in crate::run) fn due(&self) -> Option<Elapsed> {
        self.episode.as_ref().map(|episode| episode.due)
    }

    /// Decides about a scan's result.
    pub(in crate::run) fn judge(&mut self, found: &ScanComparison, now: Elapsed) -> ScanDecision {
        let open = !self.open.is_empty();
        let Some(episode) = &mut self.episode else {
            return ScanDecision::Publish;
        };
        let quiet = episode.quiet(found);
        episode.bound = episode.first + BOUND_LEAST.max(quiet * BOUND_TIMES);
        let at = (episode.last + quiet).min(episode.bound);
        if now >= at {
            return ScanDecision::Publish;
        }
        episode.held = true;
        // A missing file may be back before the quiet is over.
        episode.due = at.min(episode.scan_at(open).max(now + QUIET_HELD));
        ScanDecision::Wait
    }

    /// Decides about a scan that failed because of a build in progress: give up for now
    /// (`Publish`), or scan again.
    pub(in crate::run) fn again(&mut self, now: Elapsed) -> ScanDecision {
        let Some(episode) = &mut self.episode else {
            return ScanDecision::Publish;
        };
        episode.bound = episode.first + QUIET_MOST * BOUND_TIMES;
        if now >= (episode.last + QUIET_MOST).min(episode.bound) {
            return ScanDecision::Publish;
        }
        episode.due = now + QUIET_HELD;
        ScanDecision::Wait
    }

    /// Ends the episode: its changes are published, or there were none.
    pub(in crate::run) fn settled(&mut self, published: bool, now: Elapsed) {
        self.episode = None;
        // A log may stay open for ever; later writes to it are recorded again.
        self.open.clear();
        if published {
            self.published = Some(now);
        }
    }
}

impl Episode {
    /// The next scan: after a quiet, or at a bound if no quiet comes.
    fn scan_at(&self, open: bool) -> Elapsed {
        let quiet = if self.held {
            QUIET_HELD
        } else if self.only.as_deref().is_some_and(|path| !is_page(path)) {
            QUIET_FILE
        } else {
            QUIET_BUILD
        };
        // A program with longer pauses gets more time, and one with an open file gets most.
        let paused = (self.pause * 2).min(QUIET_OPEN / 2);
        let quiet = if open { QUIET_OPEN } else { quiet.max(paused) };
        (self.last + quiet).min(self.bound)
    }

    /// The quiet after which such a result is published.
    fn quiet(&self, found: &ScanComparison) -> Duration {
        let mut quiet = Duration::ZERO;
        if found.missing > 0 {
            let all = QUIET_MISSING_ALL.as_millis() as u64;
            let share = all.saturating_mul(found.missing.min(found.of)) / found.of.max(1);
            let more = Duration::from_millis(share);
            let paused = self.pause * PAUSES;
            quiet = (QUIET_MISSING + more).max(paused).min(QUIET_MOST);
        }
        if found.emptied > 0 {
            quiet = quiet.max(QUIET_EMPTIED);
        }
        if found.passing > 0 {
            quiet = quiet.max(QUIET_PASSING);
        }
        quiet
    }
}

impl ScanComparison {
    /// The result for changes in a site of `of` files.
    pub(in crate::run) fn of(changes: &[Change], of: u64) -> Self {
        let empty = |change: &&Change| {
            let was = change.before.as_ref().map_or(1, |entry| entry.size);
            change.after.as_ref().is_some_and(|entry| entry.size == 0) && was > 0
        };
        let passing = |change: &&Change| {
            let is_new = change.before.is_none() && change.after.is_some();
            is_new && is_passing(change.path.name())
        };
        Self {
            missing: missing(changes),
            of,
            emptied: changes.iter().filter(empty).count() as u64,
            passing: changes.iter().filter(passing).count() as u64,
        }
    }
}

/// Files that went without a new file in their place. A build renames an asset when its content
/// changes, and readers of the old page still get the old asset. A page has no such successor.
fn missing(changes: &[Change]) -> u64 {
    let mut kinds = std::collections::BTreeMap::<(&str, &str), i64>::new();
    for change in changes {
        let path = change.path.as_str();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let kind = if is_page(name) { name } else { extension(name) };
        let count = kinds.entry((folder, kind)).or_default();
        match (&change.before, &change.after) {
            (Some(_), None) => *count += 1,
            (None, Some(_)) => *count -= 1,
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    let missing = kinds.into_values().filter(|count| *count > 0);
    missing.sum::<i64>().unsigned_abs()
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn is_page(path: &str) -> bool {
    matches!(extension(path), "html" | "htm" | "xhtml")
}

/// Whether an editor, or a program that writes safely, creates such names temporarily.
fn is_passing(name: &str) -> bool {
    name.ends_with('~')
        || name == "4913"
        || (name.starts_with('#') && name.ends_with('#'))
        || name.contains("___jb_")
        || name.contains(".tmp")
        || name.starts_with(".#")
        || name.starts_with(".goutputstream")
        || matches!(extension(name), "swp" | "swo" | "swx" | "kate-swp" | "part")
        || (name.len() == 9 && name.starts_with("sed"))
}

#[cfg(test)]
mod tests;
