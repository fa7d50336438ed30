//! Progress display: a bar on a terminal, a regular line elsewhere, objects with `--json`.
//!
//! A thread reads the counts several times a second. So it also shows a phase without progress:
//! "waiting for the server" instead of silence. The rate is that of the last seconds.

mod report;
mod window;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pmx_sync::scan;

use self::report::{CommandPhase, ProgressReport};
use self::window::Window;
use crate::client::http::{Activity, Transfer};

/// Phases shorter than this have no bar.
const BAR_AFTER: Duration = Duration::from_millis(250);

/// Without a terminal, the interval of lines, also before the first one.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The interval of objects with `--json`.
const OBJECT_EVERY: Duration = Duration::from_millis(500);

/// Time without progress after which the phase is shown as waiting.
const STILL_AFTER: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Not at all.
    Never,
    /// A bar on a terminal.
    Bar,
    /// Lines on stderr.
    Lines,
    /// Objects on stdout.
    Objects,
}

impl Shown {
    /// Interval at which the counts are read.
    const fn tick(self) -> Duration {
        match self {
            Self::Bar => Duration::from_millis(100),
            Self::Never | Self::Lines | Self::Objects => Duration::from_millis(250),
        }
    }

    /// The time before the first report, and the time between two reports.
    const fn pauses(self) -> (Duration, Duration) {
        match self {
            Self::Never | Self::Bar => (BAR_AFTER, Duration::ZERO),
            Self::Lines => (LINE_EVERY, LINE_EVERY),
            Self::Objects => (OBJECT_EVERY, OBJECT_EVERY),
        }
    }
}

/// The counts of a command, and their display.
#[derive(Debug)]
pub(super) struct Board {
    shown: Shown,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    meters: Vec<Arc<Meter>>,
    transfer: Option<Arc<Transfer>>,
    is_watched: bool,
    is_ended: bool,
    drawn: Option<(CommandPhase, ProgressBar)>,
    window: Window,
    /// When the phase began, or when there was last nothing to report.
    since: Instant,
    reported: Option<Instant>,
}

impl Board {
    pub(super) fn new(shown: Shown) -> Arc<Self> {
        Arc::new(Self {
            shown,
            state: Mutex::new(State {
                meters: Vec::new(),
                transfer: None,
                is_watched: false,
                is_ended: false,
                drawn: None,
                window: Window::default(),
                since: Instant::now(),
                reported: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a count.
    pub(super) fn bar(self: &Arc<Self>, what: Counting, total: u64) -> Bar {
        let meter = Arc::new(Meter {
            what,
            total,
            done: AtomicU64::new(0),
            read: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
        });
        let mut state = self.lock();
        state.meters.push(Arc::clone(&meter));
        self.watched(&mut state);
        Bar {
            meter,
            board: Arc::clone(self),
        }
    }

    /// Shows the progress of a client from now on.
    pub(super) fn follow(self: &Arc<Self>, transfer: &Arc<Transfer>) {
        let mut state = self.lock();
        state.transfer = Some(Arc::clone(transfer));
        self.watched(&mut state);
    }

    /// Prints text without disturbing the bar.
    pub(super) fn beside(&self, print: impl FnOnce()) {
        let state = self.lock();
        match &state.drawn {
            Some((_, bar)) => bar.suspend(print),
            None => print(),
        }
    }

    /// Ends the display: the result follows.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_ended = true;
        state.clear();
    }

    /// Starts the thread that reads the counts.
    fn watched(self: &Arc<Self>, state: &mut State) {
        if state.is_watched || self.shown == Shown::Never {
            return;
        }
        state.is_watched = true;
        let (board, tick) = (Arc::downgrade(self), self.shown.tick());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(tick);
                match Weak::upgrade(&board) {
                    Some(board) => board.look(Instant::now()),
                    None => return,
                }
            }
        });
    }

    fn look(&self, now: Instant) {
        let mut state = self.lock();
        if state.is_ended {
            return;
        }
        let Some(report) = state.report(now) else {
            state.clear();
            (state.since, state.reported) = (now, None);
            return;
        };
        let (first, next) = self.shown.pauses();
        let is_due = match state.reported {
            None => now.duration_since(state.since) >= first,
            Some(last) => now.duration_since(last) >= next,
        };
        if !is_due {
            return;
        }
        state.reported = Some(now);
        match self.shown {
            Shown::Never => {}
            Shown::Bar => state.draw(&report),
            Shown::Lines => super::to_stderr(&super::escaped(&report.line())),
            // A closed stdout is detected when the result is printed.
            Shown::Objects => drop(super::try_stdout(&super::json_line(
                "progress",
                &report.body(),
            ))),
        }
    }
}

impl State {
    /// The report of this moment, if there is one.
    fn report(&mut self, now: Instant) -> Option<ProgressReport> {
        let activity = self
            .transfer
            .as_ref()
            .map_or(Activity::Nothing, |it| it.activity(now));
        let sent = self.transfer.as_ref().map_or(0, |it| it.traffic().sent);
        let meter = self.meters.last();
        let done = meter.map_or(0, |meter| meter.done.load(Ordering::Relaxed));
        let read = meter.map_or(0, |meter| meter.read.load(Ordering::Relaxed));
        self.window.note(now, sent, done + read);
        let still = self.window.still(now);
        let phase = match (activity, meter.map(|meter| meter.what)) {
            (Activity::Retrying { why, left }, _) if still >= STILL_AFTER => {
                CommandPhase::Retry { why, left }
            }
            (Activity::Waiting, _) if still >= STILL_AFTER => CommandPhase::Wait { since: still },
            (_, Some(Counting::Files)) => CommandPhase::Scan,
            (_, Some(Counting::Bytes)) => CommandPhase::Upload,
            (_, None) => return None,
        };
        Some(ProgressReport {
            phase,
            done,
            total: meter.map(|meter| meter.total).filter(|total| *total > 0),
            bytes: match meter.map(|meter| meter.what) {
                Some(Counting::Files) => read,
                Some(Counting::Bytes) | None => sent,
            },
            sent_per_second: self.window.sent_per_second(now),
            done_per_second: self.window.done_per_second(now),
        })
    }

    fn draw(&mut self, report: &ProgressReport) {
        let is_other = |(phase, _): &(CommandPhase, ProgressBar)| !phase.is_like(&report.phase);
        if self.drawn.as_ref().is_some_and(is_other) {
            self.clear();
        }
        let make = || (report.phase.clone(), drawn_bar(report));
        let (_, bar) = self.drawn.get_or_insert_with(make);
        bar.set_position(report.done);
        bar.set_message(report.message());
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.drawn.take() {
            bar.finish_and_clear();
        }
    }
}

fn drawn_bar(report: &ProgressReport) -> ProgressBar {
    let template = match (&report.phase, report.total) {
        (CommandPhase::Upload, Some(_)) => "uploading {wide_bar} {msg}",
        _ => "{msg}",
    };
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::with_draw_target(report.total, ProgressDrawTarget::stderr_with_hz(10));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Unit of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Files found.
    Files,
    /// Bytes of content that were sent.
    Bytes,
}

#[derive(Debug)]
struct Meter {
    what: Counting,
    /// 0 if the total is unknown.
    total: u64,
    done: AtomicU64,
    /// Bytes that were read and hashed.
    read: AtomicU64,
    is_gone: AtomicBool,
}

/// Counts the progress of a step, until it is dropped.
#[derive(Debug)]
pub struct Bar {
    meter: Arc<Meter>,
    board: Arc<Board>,
}

impl Bar {
    /// Adds to the count.
    pub fn add(&self, more: u64) {
        self.meter.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Subtracts from the count: the client sends these bytes again.
    pub fn take_back(&self, less: u64) {
        self.meter.done.fetch_sub(less, Ordering::Relaxed);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if self.meter.is_gone.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut state = self.board.lock();
        state
            .meters
            .retain(|meter| !Arc::ptr_eq(meter, &self.meter));
        state.clear();
        (state.since, state.reported) = match self.board.shown {
            // Lines have an interval, which does not depend on the number of steps.
            Shown::Lines | Shown::Objects => (state.since, state.reported),
            Shown::Never | Shown::Bar => (Instant::now(), None),
        };
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

impl scan::Progress for Bar {
    fn found(&self, files: u64, _bytes: u64) {
        self.add(files);
    }

    fn hashed(&self, _files: u64, bytes: u64) {
        self.meter.read.fetch_add(bytes, Ordering::Relaxed);
    }
}
