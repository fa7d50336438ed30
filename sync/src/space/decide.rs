//! Activation rules: what may replace the active deploy, as pure functions of the ledger's view.
//!
//! The rules refuse a publish in this order: it repeats another's key, meets a hold, or is an older
//! build. Last, it meets a deploy that it may not replace ([`Replace`]). `DESIGN.md`, section 11,
//! has the rules.

use pmx_core::code::Code;
use pmx_core::id::Root;
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;

use super::conflict_text;
use super::holds::Hold;
use super::ledger::DeployWithKey;
use crate::limits::ALIASES_MAX;
use crate::wire::{CommitPreconditions, DeployKind, DeployView, Order, Replace, RollbackHead};

/// The state that a decision about activation depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChannelState {
    /// The preview of the publish, if it has one.
    pub(crate) alias: Option<AliasName>,
    /// The number of previews.
    pub(crate) aliases: u64,
    /// The active deploy; with a preview, the one that its alias names.
    pub(crate) active: Option<DeployView>,
    /// The greatest number of all deploys.
    pub(crate) last: u64,
    /// The deploy that was already made under the same key.
    pub(crate) same_key: Option<DeployWithKey>,
    /// The newest build of the same kind, and the deploy that it made or found unchanged.
    pub(crate) newest: Option<(Order, u64)>,
    /// The active deploy's order of the same kind.
    pub(crate) comparable: Option<Order>,
    /// The hold of the last rollback, in force or lifted.
    pub(crate) hold: Option<Hold>,
}

impl ChannelState {
    fn active_number(&self) -> u64 {
        self.active.as_ref().map_or(0, |deploy| deploy.number)
    }

    /// Whether the limit of previews leaves no room for this one.
    fn is_full(&self) -> bool {
        self.alias.is_some() && self.active.is_none() && self.aliases >= ALIASES_MAX
    }

    /// The hold, if it concerns the active deploy. A hold ends when its deploy is replaced.
    fn hold(&self) -> Option<&Hold> {
        let active = self.active_number();
        self.hold.as_ref().filter(|hold| hold.deploy == active)
    }
}

/// Outcome of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitDecision {
    /// Make a deploy with this number that replaces `parent`.
    Activate {
        /// The number of the new deploy.
        number: u64,
        /// The number of the replaced deploy; 0 if there is none.
        parent: u64,
    },
    /// The same request made this deploy before: the answer repeats.
    Repeat(Box<DeployView>),
}

/// Decides whether `root` may become active, or its preview's, under the client's preconditions.
pub(crate) fn commit(
    view: &ChannelState,
    root: &Root,
    preconditions: &CommitPreconditions,
) -> Result<CommitDecision, Problem> {
    if let Some(repeat) = repeat(view, |made| made.root == *root)? {
        return Ok(repeat);
    }
    if preconditions.replace != Replace::Any {
        not_held(view, preconditions)?;
        not_older(view, preconditions)?;
        replaceable(view, preconditions)?;
    }
    if view.is_full() {
        let detail = format!("the site has {ALIASES_MAX} previews already");
        return Err(Problem::new(Code::TooManyPreviews, detail));
    }
    Ok(next(view))
}

/// Refuses a publish while a rollback's hold is in force.
fn not_held(view: &ChannelState, preconditions: &CommitPreconditions) -> Result<(), Problem> {
    let (Some(active), Some(hold)) = (&view.active, view.hold()) else {
        return Ok(());
    };
    let is_named =
        preconditions.replace == Replace::Named && preconditions.expect == Some(active.number);
    if hold.is_lifted || is_named {
        return Ok(());
    }
    let code = match preconditions.replace {
        // Clients older than holds know this code, and its exit code.
        Replace::Exact => Code::Conflict,
        Replace::Seen | Replace::Named | Replace::Any => Code::Held,
    };
    let (deploy, number) = (conflict_text::describe(active), active.number);
    let detail = format!(
        "a rollback holds {} at {deploy}; no publish replaces it until the hold is lifted",
        conflict_text::channel(view.alias.as_ref())
    );
    let hint = format!(
        "`pmx resume` lifts the hold; `pmx sync --expect {number}` or `pmx sync --force` replaces \
         the deploy at once."
    );
    Err(refused(code, detail, hint, active))
}

/// Refuses a build that is older than another of its sequence.
pub(crate) fn not_older(
    view: &ChannelState,
    preconditions: &CommitPreconditions,
) -> Result<(), Problem> {
    let (Some(order), Some((newest, deploy))) = (&preconditions.order, &view.newest) else {
        return Ok(());
    };
    if !order.is_older_than(newest) {
        return Ok(());
    }
    let code = match preconditions.replace {
        Replace::Exact => Code::OutOfOrder,
        Replace::Seen | Replace::Named | Replace::Any => Code::OlderBuild,
    };
    let detail = format!(
        "this build ({order}) is older than deploy {deploy} ({newest}), which was published \
         before it"
    );
    Err(Problem::new(code, detail).with_active(Some(view.active_number())))
}

/// Refuses a publish that would replace a deploy outside its `Replace` rule.
fn replaceable(view: &ChannelState, preconditions: &CommitPreconditions) -> Result<(), Problem> {
    match (preconditions.replace, preconditions.expect) {
        // With `Seen` and no number, the client's first request sees the active deploy.
        (Replace::Any, _) | (Replace::Seen, None) => Ok(()),
        (Replace::Exact | Replace::Named, Some(expected)) => expect(view, expected),
        (Replace::Exact | Replace::Named, None) => {
            let detail = "the preconditions of a commit name no deploy that it expects";
            Err(Problem::new(Code::RequestMalformed, detail))
        }
        // The publish replaces nothing.
        (Replace::Seen, Some(_)) if view.active.is_none() => Ok(()),
        (Replace::Seen, Some(seen)) => {
            let comparable = preconditions.order.as_ref().zip(view.comparable.as_ref());
            let is_newer = comparable.is_some_and(|(order, live)| {
                order.kind() == live.kind() && !order.is_older_than(live)
            });
            let is_resumed = view
                .hold()
                .is_some_and(|hold| hold.is_lifted && hold.since <= seen);
            if is_newer || is_resumed {
                return Ok(());
            }
            expect(view, seen)
        }
    }
}

/// Finds the deploy of a repeated rollback, or the reason that forbids a rollback to any target.
///
/// Runs before the space looks up the target: once the rollback has happened, another deploy is the
/// one before the active deploy.
pub(crate) fn repeated_rollback(
    view: &ChannelState,
    head: &RollbackHead,
) -> Result<Option<DeployView>, Problem> {
    match &view.same_key {
        Some(made) if head.to.is_none() && made.deploy.kind == DeployKind::Rollback => {
            Ok(Some(made.deploy.clone()))
        }
        Some(_) => Ok(None),
        None => {
            head.expect
                .map_or(Ok(()), |expected| expect(view, expected))?;
            Ok(None)
        }
    }
}

/// Decides whether a rollback to `target` may happen; `None` if its content is already active.
pub(crate) fn rollback(
    view: &ChannelState,
    head: &RollbackHead,
    target: &DeployView,
) -> Result<Option<CommitDecision>, Problem> {
    if let Some(repeat) = repeat(view, |made| made.root == target.root)? {
        return Ok(Some(repeat));
    }
    if let Some(expected) = head.expect {
        expect(view, expected)?;
    }
    let is_active = view
        .active
        .as_ref()
        .is_some_and(|active| active.root == target.root);
    Ok((!is_active).then(|| next(view)))
}

fn repeat(
    view: &ChannelState,
    is_same: impl Fn(&DeployView) -> bool,
) -> Result<Option<CommitDecision>, Problem> {
    match &view.same_key {
        None => Ok(None),
        Some(made) if made.deploy.alias == view.alias && is_same(&made.deploy) => {
            Ok(Some(CommitDecision::Repeat(Box::new(made.deploy.clone()))))
        }
        Some(made) => {
            let detail = format!(
                "the key {:?} made deploy {} of another root or preview",
                made.key, made.deploy.number
            );
            Err(Problem::new(Code::IdempotencyReuse, detail))
        }
    }
}

fn expect(view: &ChannelState, expected: u64) -> Result<(), Problem> {
    let number = view.active_number();
    if expected == number {
        return Ok(());
    }
    let expected = match expected {
        0 => "no deploy".to_owned(),
        number => format!("deploy {number}"),
    };
    let place = match &view.alias {
        Some(alias) => format!("is the preview {alias}"),
        None => "is active".to_owned(),
    };
    let Some(active) = &view.active else {
        let detail = format!("this publish expected to replace {expected}, but no deploy {place}");
        return Err(Problem::new(Code::Conflict, detail).with_active(Some(0)));
    };
    let detail = format!(
        "this publish expected to replace {expected}, but deploy {number} {place}: {}",
        conflict_text::describe(active)
    );
    let hint = format!(
        "Look at it with `pmx diff`; `--expect {number}` replaces it, `pmx sync --force` whatever \
         is live."
    );
    Err(refused(Code::Conflict, detail, hint, active))
}

fn refused(code: Code, detail: String, hint: String, active: &DeployView) -> Problem {
    let mut problem = Problem::new(code, detail).with_active(Some(active.number));
    problem.hint = hint;
    problem
}

fn next(view: &ChannelState) -> CommitDecision {
    let parent = view.active_number();
    CommitDecision::Activate {
        number: view.last + 1,
        parent,
    }
}

#[cfg(test)]
mod tests;
