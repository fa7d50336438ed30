//! Fault injection: faults and crashes, determined by the seed or by a plan.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use pmx_core::backend::BackendError;
use pmx_core::sql::SqlError;
use pmx_sync::testing::{Hook, ServerEffect};
use pmx_tests::rng::Rng;

/// The faults of a schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plan {
    /// None.
    Calm,
    /// Each kind once in so many chances; 0 is never.
    Random(Rates),
    /// One fault, at the n-th chance from now.
    Nth(Target, usize, How),
}

/// Where the one fault of a plan strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Statement,
    Effect,
}

/// Kind of the one fault of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    FailBefore,
    FailAfter,
    CrashBefore,
    CrashAfter,
}

/// For each kind: one fault in how many chances.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) lost_request: usize,
    pub(crate) lost_reply: usize,
    pub(crate) timeout: usize,
    pub(crate) duplicate: usize,
    pub(crate) delay: usize,
    pub(crate) corrupt: usize,
    pub(crate) fail_before: usize,
    pub(crate) fail_after: usize,
    pub(crate) crash_before: usize,
    pub(crate) crash_after: usize,
    pub(crate) statement_fails: usize,
    pub(crate) statement_crashes: usize,
}

impl Rates {
    /// Every kind of fault is left out in half of the schedules, so that the others show.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut rate = |rates: [usize; 2]| if rng.once_in(2) { 0 } else { *rng.pick(&rates) };
        Self {
            lost_request: rate([6, 20]),
            lost_reply: rate([6, 20]),
            timeout: rate([6, 20]),
            duplicate: rate([4, 12]),
            delay: rate([3, 8]),
            corrupt: rate([3, 8]),
            fail_before: rate([20, 60]),
            fail_after: rate([20, 60]),
            crash_before: rate([30, 100]),
            crash_after: rate([30, 100]),
            statement_fails: rate([80, 300]),
            statement_crashes: rate([150, 400]),
        }
    }
}

/// Faults of a schedule, and the detected violations.
pub(crate) struct Chaos {
    pub(crate) rng: RefCell<Rng>,
    plan: Cell<Plan>,
    crashed: Cell<bool>,
    /// Chances so far for the one fault of a plan: before effects, after effects, statements.
    chances: [Cell<usize>; 3],
    struck: Cell<bool>,
    /// Whether no pointer can be written, for hours.
    pub(crate) has_outage: Cell<bool>,
    pub(crate) faults: Cell<u64>,
    trace: Option<RefCell<Vec<String>>>,
    violation: RefCell<Option<String>>,
}

impl Chaos {
    pub(crate) fn new(rng: Rng, traced: bool) -> Rc<Self> {
        Rc::new(Self {
            rng: RefCell::new(rng),
            plan: Cell::new(Plan::Calm),
            crashed: Cell::new(false),
            chances: Default::default(),
            struck: Cell::new(false),
            has_outage: Cell::new(false),
            faults: Cell::new(0),
            trace: traced.then(RefCell::default),
            violation: RefCell::default(),
        })
    }

    pub(crate) fn set(&self, plan: Plan) {
        self.plan.set(plan);
        self.struck.set(false);
        self.chances.iter().for_each(|count| count.set(0));
    }

    pub(crate) fn rates(&self) -> Option<Rates> {
        match self.plan.get() {
            Plan::Random(rates) => Some(rates),
            Plan::Calm | Plan::Nth(..) => None,
        }
    }

    /// Whether the one fault of a plan has struck.
    pub(crate) fn has_struck(&self) -> bool {
        self.struck.get()
    }

    pub(crate) fn once_in(&self, n: usize) -> bool {
        self.rng.borrow_mut().once_in(n)
    }

    pub(crate) fn below(&self, end: usize) -> usize {
        self.rng.borrow_mut().below(end)
    }

    pub(crate) fn note(&self, event: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.borrow_mut().push(event());
        }
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace
            .as_ref()
            .map_or_else(Vec::new, |trace| trace.borrow().clone())
    }

    /// Records the violation of an invariant. Only the first one counts.
    pub(crate) fn violate(&self, what: impl Display) {
        self.note(|| format!("VIOLATION {what}"));
        self.violation
            .borrow_mut()
            .get_or_insert_with(|| what.to_string());
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    /// Whether the server crashed since the last call.
    pub(crate) fn take_crash(&self) -> bool {
        self.crashed.take()
    }

    fn crash(&self, at: impl Display) {
        self.note(|| format!("CRASH {at}"));
        self.crashed.set(true);
    }

    fn strikes(&self, chance: usize, target: Target, hows: [How; 2]) -> Option<How> {
        if let Plan::Nth(planned, n, how) = self.plan.get()
            && planned == target
            && hows.contains(&how)
        {
            let count = &self.chances[chance];
            count.set(count.get() + 1);
            if count.get() == n {
                self.struck.set(true);
                return Some(how);
            }
        }
        None
    }

    fn drawn(&self, fail: (usize, How), crash: (usize, How)) -> Option<How> {
        if self.once_in(crash.0) {
            Some(crash.1)
        } else if self.once_in(fail.0) {
            Some(fail.1)
        } else {
            None
        }
    }

    async fn suffer(&self, how: Option<How>, effect: ServerEffect<'_>) -> Result<(), BackendError> {
        let Some(how) = how else {
            return Ok(());
        };
        self.faults.set(self.faults.get() + 1);
        match how {
            How::FailBefore | How::FailAfter => {
                self.note(|| format!("{how:?} {effect}"));
                Err(BackendError::new(
                    effect.to_string(),
                    "the simulation says so",
                ))
            }
            How::CrashBefore | How::CrashAfter => {
                self.crash(format_args!("{how:?} {effect}"));
                pending().await
            }
        }
    }
}

/// The hook around every effect of a server.
#[derive(Clone)]
pub(crate) struct Hooked(pub(crate) Rc<Chaos>);

impl Hook for Hooked {
    async fn before(&self, effect: ServerEffect<'_>) -> Result<(), BackendError> {
        yield_now().await;
        let chaos = &self.0;
        if chaos.crashed.get() {
            return pending().await;
        }
        if chaos.has_outage.get() && matches!(effect, ServerEffect::WritePointer(..)) {
            return Err(BackendError::new(effect.to_string(), "an outage"));
        }
        let hows = [How::FailBefore, How::CrashBefore];
        let how = match chaos.rates() {
            Some(rates) => chaos.drawn((rates.fail_before, hows[0]), (rates.crash_before, hows[1])),
            None => chaos.strikes(0, Target::Effect, hows),
        };
        chaos.suffer(how, effect).await?;
        chaos.note(|| effect.to_string());
        Ok(())
    }

    async fn after(&self, effect: ServerEffect<'_>) -> Result<(), BackendError> {
        let chaos = &self.0;
        if chaos.crashed.get() {
            return pending().await;
        }
        let hows = [How::FailAfter, How::CrashAfter];
        let how = match chaos.rates() {
            Some(rates) => chaos.drawn((rates.fail_after, hows[0]), (rates.crash_after, hows[1])),
            None => chaos.strikes(1, Target::Effect, hows),
        };
        chaos.suffer(how, effect).await
    }

    fn statement(&self, statement: &str) -> Result<(), SqlError> {
        let chaos = &self.0;
        let fault = |why: &str| Err(SqlError(why.into()));
        if chaos.crashed.get() {
            return fault("there is no process any more");
        }
        let hows = [How::FailBefore, How::CrashBefore];
        let how = match chaos.rates() {
            Some(rates) => {
                let crash = (rates.statement_crashes, hows[1]);
                chaos.drawn((rates.statement_fails, hows[0]), crash)
            }
            None => chaos.strikes(2, Target::Statement, hows),
        };
        let Some(how) = how else {
            return Ok(());
        };
        chaos.faults.set(chaos.faults.get() + 1);
        let statement = statement
            .split_whitespace()
            .take(4)
            .collect::<Vec<_>>()
            .join(" ");
        if how == How::CrashBefore {
            chaos.crash(format_args!("at {statement}"));
        } else {
            chaos.note(|| format!("FAIL at {statement}"));
        }
        fault("the simulation says so")
    }
}

/// Lets every other task run once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|_| {
        if std::mem::replace(&mut yielded, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

pub(crate) async fn yields(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}
