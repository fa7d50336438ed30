//! Rule overview: which rules never apply, an example of a request for each of the others, and
//! which headers do not fit into a response.

use std::collections::BTreeMap;

use super::condition::ClientContext;
use super::diagnostic::{Diagnostic, RuleCode, RuleLine, Severity};
use super::redirects::RedirectRule;
use super::site_rules::{RuleRequest, SiteRules, names_asset};
use crate::limits::HEADER_RULE_BYTES_MAX;
use crate::path::SitePath;

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
            let is_asset = names_asset(&key);
            let wider = || {
                wide.iter().find(|before| {
                    let leaves_out = is_asset && before.is_wide_rewrite();
                    !leaves_out && before.pattern.covers(&rule.pattern)
                })
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

    /// Errors of generated routes.
    pub(crate) fn generated_faults(&self, exists: &dyn Fn(&SitePath) -> bool) -> Vec<Diagnostic> {
        let faults = self.generated.faults(exists).into_iter();
        let found = faults.map(|(code, message)| Diagnostic {
            at: RuleLine::GENERATED,
            column: 1,
            severity: Severity::Error,
            code,
            message,
        });
        found.collect()
    }

    /// Errors of blocks that set more headers, together with others, than a response takes.
    pub(crate) fn oversized_headers(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for block in &self.headers {
            let (host, path) = (block.pattern.sample_host(), block.pattern.sample_path());
            let request = RuleRequest {
                host: &host,
                path: &path,
                client: ClientContext::default(),
            };
            let (_, bytes) = self.counted_changes(&request);
            if bytes > HEADER_RULE_BYTES_MAX {
                let message = format!(
                    "all blocks that match {path} set {bytes} bytes of headers; the limit is \
                     {HEADER_RULE_BYTES_MAX}"
                );
                found.push(Diagnostic {
                    at: block.at,
                    column: 1,
                    severity: Severity::Error,
                    code: RuleCode::Limit,
                    message,
                });
            }
        }
        found
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
