//! Rule overview: which rules never apply, and an example of a request for each of the others.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, RuleCode, RuleLine, Severity};
use super::redirects::RedirectRule;
use super::site_rules::SiteRules;

/// Wide rules with which later ones are compared: more than any file has.
const WIDE_RULES_MAX: usize = 200;

/// A request that a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleSample {
    pub(crate) at: RuleLine,
    pub(crate) host: String,
    pub(crate) path: String,
    /// Whether the rule matches no other path.
    pub(crate) is_literal: bool,
    /// Whether the target is the same for every request.
    pub(crate) has_literal_target: bool,
}

impl SiteRules {
    /// Warnings of rules that an earlier one hides.
    pub(crate) fn hidden(&self) -> Vec<Diagnostic> {
        let mut first: BTreeMap<String, &RedirectRule> = BTreeMap::new();
        let (mut wide, mut found): (Vec<&RedirectRule>, _) = (Vec::new(), Vec::new());
        for rule in &self.redirects {
            let key = rule.pattern.sample_path();
            let same = first
                .get(&key)
                .filter(|before| before.pattern.covers(&rule.pattern));
            let wider = || {
                wide.iter()
                    .find(|before| before.pattern.covers(&rule.pattern))
            };
            if let Some(before) = same.or_else(wider) {
                found.push(hidden_by(rule.at, before.at));
                continue;
            }
            if rule.conditions.is_empty() {
                first.entry(key).or_insert(rule);
                if rule.pattern.has_splat() && wide.len() < WIDE_RULES_MAX {
                    wide.push(rule);
                }
            }
        }
        found
    }

    /// A request for each rule.
    pub(crate) fn samples(&self) -> Vec<RuleSample> {
        let samples = self.redirects.iter().map(|rule| RuleSample {
            at: rule.at,
            host: rule.pattern.sample_host(),
            path: rule.pattern.sample_path(),
            is_literal: rule.pattern.literal().is_some(),
            has_literal_target: rule.target.has_literal_path(),
        });
        samples.collect()
    }
}

fn hidden_by(at: RuleLine, before: RuleLine) -> Diagnostic {
    Diagnostic {
        at,
        column: 1,
        severity: Severity::Warning,
        code: RuleCode::Hidden,
        message: format!("{before} always answers first"),
    }
}
