//! Continuous publishing: publishes a watched folder once for each build, until the user stops.
//!
//! A fault of the folder or the server does not end the command. It reports the fault, and the site
//! stays unchanged. The next scan or attempt may succeed.

use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::id::Root;
use pmx_sync::push::PushOutcomeKind;
use pmx_sync::scan::FaultPolicy;

use super::{Looked, SyncJob};
use crate::client::http::Client;
use crate::error::Failure;
use crate::run::open_problems::{About, OpenProblems};
use crate::run::report::Report;
use crate::run::watch::{
    BuildDebounce, Elapsed, FileEvent, ScanComparison, ScanDecision, Touched, WaitEnd, Watch,
};
use crate::run::{Context, Ended};
use crate::source_tree::{SourceTree, WatchedRead, check_empty};

/// Time after a partial scan until a full one.
const RELOOK: Duration = Duration::from_secs(1);

/// First wait before the retry of a publish that the network or the server interrupted.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(15);

/// Publishes, and again whenever the folder changes. Only a failure of the first publish ends the
/// command, unless the folder is still to be built.
pub(super) fn run(job: &SyncJob, context: &Context<'_>) -> Result<Ended, Failure> {
    // Watching starts first, so that no change is missed before the first publish.
    let watch = Watch::of(&job.folder.dir);
    let client = job.client(context);
    let mut follow = Follow::new(job, &client, context, watch, Box::new(|_| {}));
    if let Err(failure) = follow.begin() {
        match failure.code {
            code if is_of_folder(code) => follow.unread(&failure),
            // The hold may be lifted.
            Code::Held => follow.failed(&failure, None),
            _ => return Err(failure),
        }
    }
    follow.go_on();
    context.interrupt.check()?;
    Ok(Ended::Done)
}

/// A job that runs whenever its folder changes.
pub(in crate::run) struct Follow<'a> {
    job: &'a SyncJob,
    client: &'a Client,
    context: &'a Context<'a>,
    watch: Watch,
    pace: BuildDebounce,
    open_problems: OpenProblems<'a>,
    touched: Touched,
    /// The last publish.
    shown: Option<Shown>,
    /// The root of the last scan.
    seen: Option<Root>,
    /// The root that the server refused.
    refused: Option<Root>,
    /// Whether to try that root again.
    is_retry: bool,
    faults: FaultPolicy,
    /// Whether stdout has the site's address.
    is_printed: bool,
    next: Next,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    root: Root,
    files: u64,
}

/// When the folder is scanned without an event.
#[derive(Debug, Default)]
struct Next {
    poll: Elapsed,
    relook: Option<Elapsed>,
    retry: Option<Elapsed>,
    backoff: Duration,
}

impl<'a> Follow<'a> {
    /// `show` shows problems in open pages.
    pub(in crate::run) fn new(
        job: &'a SyncJob,
        client: &'a Client,
        context: &'a Context<'a>,
        watch: Watch,
        show: Box<dyn Fn(Vec<String>) + 'a>,
    ) -> Self {
        Self {
            job,
            client,
            context,
            watch,
            pace: BuildDebounce::default(),
            open_problems: OpenProblems::new(context.ui, show),
            touched: Touched::default(),
            shown: None,
            seen: None,
            refused: None,
            is_retry: false,
            faults: FaultPolicy::LeaveOut,
            is_printed: false,
            next: Next::default(),
        }
    }

    /// Publishes the current folder, and prints the result.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        let look = WatchedRead {
            touched: None,
            faults: self.faults,
        };
        let looked = self.job.look(self.client, self.context, look)?;
        let problems = left_out(&looked.tree);
        let report = self.job.send(looked, self.client, self.context)?;
        self.name(problems);
        self.print(&report);
        self.published(&report);
        Ok(())
    }

    /// Publishes the current folder. A failure does not end the command, and the caller prints the
    /// address.
    pub(in crate::run) fn begin_anyway(&mut self) {
        self.is_printed = true;
        match self.begin() {
            Ok(()) => {}
            Err(failure) if is_of_folder(failure.code) => self.unread(&failure),
            Err(failure) => self.failed(&failure, None),
        }
    }

    /// Publishes after each change, until the user wants to stop.
    pub(in crate::run) fn go_on(&mut self) {
        loop {
            self.judge_watch();
            let until = self.next.at(self.pace.due());
            match self.watch.wait(until, &self.context.interrupt) {
                WaitEnd::Interrupted => return,
                WaitEnd::Events(happened) => {
                    let now = self.watch.now();
                    for event in happened {
                        self.pace.note(&event.seen, now);
                        self.touched.add(event.folder.as_deref());
                    }
                }
                WaitEnd::Time => {}
            }
            let now = self.watch.now();
            match self.pace.due() {
                Some(due) if due <= now => self.look(),
                None if self.next.at(None) <= now => {
                    self.touched = Touched::default();
                    self.look();
                }
                Some(_) | None => {}
            }
        }
    }

    fn judge_watch(&mut self) {
        match self.watch.lack() {
            Some(why) => {
                let line =
                    format!("changes may be seen late: {why}; scanning every second instead");
                self.open_problems.warn(About::Watching, vec![line]);
            }
            None => self.open_problems.over(About::Watching),
        }
    }

    /// Scans the folder, and publishes the result if it is due.
    fn look(&mut self) {
        // Only a full scan finds the paths that were left out.
        let is_whole = self.touched.folders.is_none() || self.open_problems.has(About::Paths);
        if is_whole {
            self.watch.settle();
            self.touched = Touched::default();
        }
        let started = self.watch.now();
        let look = WatchedRead {
            touched: self.touched.folders.as_ref(),
            faults: self.faults,
        };
        let looked = self.job.look(self.client, self.context, look);
        let now = self.watch.now();
        self.is_retry = self.next.retry.take_if(|at| *at <= now).is_some();
        self.next.relook = (!is_whole).then_some(now + RELOOK);
        self.next.poll = self.watch.poll_at(now.saturating_sub(started));
        match looked {
            Ok(looked) => self.found(looked),
            Err(failure) => self.unread(&failure),
        }
    }

    /// Publishes the result of a scan, or waits for more changes.
    fn found(&mut self, looked: Looked) {
        let tree = &looked.tree;
        let root = tree.root();
        let was = self.seen.replace(root);
        let now = self.watch.now();
        let is_shown = self.shown.is_some_and(|shown| shown.root == root);
        // Without events, a difference from the last scan counts as one.
        let is_silent = self.pace.due().is_none() || self.watch.lack().is_some();
        if !is_shown && is_silent && was != Some(root) {
            self.pace.note(&FileEvent::Anything, now);
        }
        if let Err(failure) = check_empty(tree.totals(), self.job.allow_empty) {
            return self.unread(&failure);
        }
        let problems = left_out(tree);
        let mut found = self.compared(tree);
        if problems.as_slice() != self.open_problems.lines(About::Paths) && !problems.is_empty() {
            found.passing += 1;
        }
        if self.pace.judge(&found, now) == ScanDecision::Wait {
            return;
        }
        self.open_problems.over(About::Folder);
        self.name(problems);
        self.faults = FaultPolicy::LeaveOut;
        let is_refused = self.refused == Some(root) && !self.is_retry;
        if is_refused {
            self.pace.settled(false, now);
            return;
        }
        if is_shown {
            tree.keep(&[root]);
            self.touched = Touched::NOWHERE;
            self.open_problems.over(About::Publishing);
            self.pace.settled(false, self.watch.now());
            return;
        }
        self.publish(looked);
    }

    fn publish(&mut self, looked: Looked) {
        let root = looked.tree.root();
        match self.job.send(looked, self.client, self.context) {
            Ok(report) => {
                self.print(&report);
                self.published(&report);
            }
            Err(failure) => self.failed(&failure, Some(root)),
        }
    }

    fn print(&mut self, report: &Report) {
        let ui = self.context.ui;
        if !self.is_printed {
            report.print(ui);
        } else if report.outcome.kind == PushOutcomeKind::Unchanged {
            ui.detail(report.sentence());
        } else {
            ui.note(report.sentence());
            report.print_object(ui);
        }
        self.is_printed = true;
    }

    fn published(&mut self, report: &Report) {
        self.shown = Some(Shown {
            root: report.root,
            files: report.totals.files,
        });
        self.refused = None;
        self.next.backoff = Duration::ZERO;
        self.touched = Touched::NOWHERE;
        self.open_problems.over(About::Folder);
        self.open_problems.over(About::Publishing);
        let now = self.watch.now();
        self.next.poll = self.watch.poll_at(Duration::ZERO);
        self.pace.settled(true, now);
    }

    /// Reports a refusal of the server or a network failure. It retries transient failures.
    fn failed(&mut self, failure: &Failure, root: Option<Root>) {
        let now = self.watch.now();
        if root != self.refused {
            // For the user, this is a new attempt, so its result is reported again.
            self.open_problems.forget(About::Publishing);
        }
        self.refused = root;
        self.open_problems.fail(About::Publishing, failure);
        // After a failure the cache may be stale.
        self.touched = Touched::default();
        self.pace.settled(false, now);
        if failure.code.retriable() || failure.code == Code::Held {
            let backoff = self.next.backoff;
            self.next.retry = Some(now + backoff.max(RETRY_FIRST));
            self.next.backoff = (backoff.max(RETRY_FIRST) * 2).min(RETRY_MOST);
        }
    }

    /// Handles a failed scan. If a build in progress may explain it, the folder is scanned again
    /// before a report.
    fn unread(&mut self, failure: &Failure) {
        let now = self.watch.now();
        if is_of_folder(failure.code) && !self.open_problems.has(About::Folder) {
            if self.pace.due().is_none() {
                self.pace.note(&FileEvent::Anything, now);
            }
            if self.pace.again(now) == ScanDecision::Wait {
                return;
            }
        }
        if failure.code == Code::ChangedDuringRead {
            self.faults = FaultPolicy::LeaveOutChanging;
        }
        self.open_problems.fail(About::Folder, failure);
        self.touched = Touched::default();
        self.pace.settled(false, now);
    }

    /// The result of a scan, compared with the last publish.
    fn compared(&self, tree: &SourceTree) -> ScanComparison {
        let Some(shown) = self.shown.filter(|shown| tree.contains(&shown.root)) else {
            return ScanComparison::default();
        };
        let changes = tree.changes_since(shown.root).unwrap_or_default();
        ScanComparison::of(&changes, shown.files)
    }

    /// Reports the paths that are left out.
    fn name(&mut self, problems: Vec<String>) {
        if problems.is_empty() {
            self.open_problems.over(About::Paths);
        } else {
            self.open_problems.warn(About::Paths, problems);
        }
    }
}

impl Next {
    fn at(&self, due: Option<Elapsed>) -> Elapsed {
        // The pace decides when a changing folder is scanned.
        due.unwrap_or_else(|| {
            let early = [self.relook, self.retry].into_iter().flatten();
            early.fold(self.poll, Elapsed::min)
        })
    }
}

/// Whether a build in progress may explain such a failure.
fn is_of_folder(code: Code) -> bool {
    matches!(
        code,
        Code::SourceMissing
            | Code::EmptySite
            | Code::BuildIncomplete
            | Code::ChangedDuringRead
            | Code::Unreadable
    )
}

/// The paths that are left out, as lines.
fn left_out(tree: &SourceTree) -> Vec<String> {
    let left_out = tree.scan().left_out();
    let named = left_out.problems.iter();
    let mut lines: Vec<String> = named
        .map(|problem| format!("left out: {problem}"))
        .collect();
    if left_out.unlisted > 0 {
        lines.push(format!("and {} more are left out", left_out.unlisted));
    }
    lines
}
