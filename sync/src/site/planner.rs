//! Planner: a request, and everything that its answer depends on.

use super::answer::Snapshot;
use super::lookups::Lookups;
use super::request::SiteRequest;
use super::response::ResponseBuilder;
use crate::rules::{RuleAnswer, SiteRules};

/// Redirects that the server follows to see whether they lead back. Browsers follow twenty.
pub(super) const STEPS_MAX: usize = 10;

/// Rounds of lookups that this may take.
pub(super) const LOOP_ROUNDS_MAX: usize = 2 * STEPS_MAX;

/// The inputs of a plan.
#[derive(Clone, Copy)]
pub(super) struct Planner<'a> {
    pub(super) request: &'a SiteRequest,
    pub(super) snapshot: &'a Snapshot,
    pub(super) rules: &'a SiteRules,
    pub(super) lookups: &'a Lookups,
    pub(super) answer: &'a RuleAnswer,
}

impl Planner<'_> {
    pub(super) fn response(&self) -> ResponseBuilder {
        ResponseBuilder::of(self.snapshot)
    }
}
