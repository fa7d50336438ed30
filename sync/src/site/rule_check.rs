//! Rule check: compares the rules of a site with its files, before anybody requests them.
//!
//! Errors are rules that lead back to themselves. Warnings are rules that never apply, redirects
//! that hide a file, and targets that do not exist.

use http::{HeaderMap, Method};
use pmx_core::id::BlobId;

use super::answer::Snapshot;
use super::clean_urls;
use super::lookups::{LocatedFile, Lookups, MissingLookups};
use super::planner::Planner;
use super::preview::unlocated;
use super::request::{SiteRequest, Target, target};
use super::rule_plan::RedirectEnd;
use crate::manifest::Entry;
use crate::media::Media;
use crate::path::SitePath;
use crate::rules::{
    Diagnostic, MatchedAction, RuleCode, RuleLine, RuleSample, Severity, SiteRules,
};

/// Checks rules against the files of their site.
pub fn check_rules(rules: &SiteRules, exists: &dyn Fn(&SitePath) -> bool) -> Vec<Diagnostic> {
    let mut check = RuleCheck {
        rules,
        exists,
        found: rules.hidden(),
    };
    let hidden: Vec<RuleLine> = check.found.iter().map(|found| found.at).collect();
    for sample in rules.samples() {
        if !hidden.contains(&sample.at) {
            check.rule(&sample);
        }
    }
    check.found.sort_by_key(|found| (found.at, found.column));
    check.found
}

struct RuleCheck<'a> {
    rules: &'a SiteRules,
    exists: &'a dyn Fn(&SitePath) -> bool,
    found: Vec<Diagnostic>,
}

impl RuleCheck<'_> {
    fn rule(&mut self, sample: &RuleSample) {
        let request = SiteRequest::new(&Method::GET, &sample.path, None, &HeaderMap::new(), None);
        let request = request.from_client(&sample.host, None);
        let answer = self.rules.answer(&request.for_rules());
        let rule = answer.rule.as_ref().filter(|rule| rule.at == sample.at);
        // A rule with conditions does not answer a request that satisfies none.
        let Some(rule) = rule else {
            return;
        };
        match &rule.action {
            MatchedAction::Redirect {
                location, local, ..
            } => {
                if local.is_some() && self.is_loop(&request, location) {
                    let message = "the rule leads back to its own source";
                    return self.push(sample, Severity::Error, RuleCode::Loop, message.into());
                }
                if sample.is_literal && self.is_file(&sample.path) {
                    let message = format!("a file of the site has the URL {}", sample.path);
                    self.push(sample, Severity::Warning, RuleCode::OverFile, message);
                }
                if let Some(path) = local.as_deref().filter(|_| sample.has_literal_target) {
                    self.target(sample, path);
                }
            }
            MatchedAction::Rewrite { path, .. } if sample.has_literal_target => {
                self.target(sample, path);
            }
            MatchedAction::Rewrite { .. } | MatchedAction::File(_) => {}
        }
    }

    fn is_loop(&self, request: &SiteRequest, location: &str) -> bool {
        let snapshot = Snapshot::pinned(0);
        let answer = self.rules.answer(&request.for_rules());
        let way = self.answered(|known| {
            let planner = Planner {
                request,
                snapshot: &snapshot,
                rules: self.rules,
                known,
                answer: &answer,
            };
            planner.way(location)
        });
        match way {
            RedirectEnd::Ends => false,
            RedirectEnd::Back(url) => url == request.for_rules().path,
            RedirectEnd::Endless => true,
        }
    }

    /// Warns of a target that neither a file nor a rule answers.
    fn target(&mut self, sample: &RuleSample, path: &str) {
        let request = SiteRequest::new(&Method::GET, path, None, &HeaderMap::new(), None);
        let is_ruled = self.rules.answer(&request.for_rules()).rule.is_some();
        if !is_ruled && !self.is_file(path) {
            let message = format!("the site has no {path}");
            self.push(sample, Severity::Warning, RuleCode::NoTarget, message);
        }
    }

    fn is_file(&self, path: &str) -> bool {
        let (Target::Asked(asked) | Target::Respelt(asked)) = target(path) else {
            return false;
        };
        let mode = self.rules.html();
        self.answered(|known| Ok(clean_urls::file(mode, &asked, known)?.is_some()))
    }

    /// Answers lookups until the question needs no more.
    fn answered<T>(&self, question: impl Fn(&Lookups) -> Result<T, MissingLookups>) -> T {
        let mut known = Lookups::default();
        loop {
            match question(&known) {
                Ok(answer) => return answer,
                Err(missing) => {
                    for lookup in missing.lookups {
                        let held = (self.exists)(&lookup.path).then(some_file);
                        known.insert(lookup, held);
                    }
                }
            }
        }
    }

    fn push(&mut self, sample: &RuleSample, severity: Severity, code: RuleCode, message: String) {
        self.found.push(Diagnostic {
            at: sample.at,
            column: 1,
            severity,
            code,
            message,
        });
    }
}

/// A file, for questions to which only its existence matters.
fn some_file() -> LocatedFile {
    unlocated(Entry {
        blob: BlobId::of(b""),
        size: 0,
        media: Media::unknown(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RuleFile;

    fn check(redirects: &str) -> Vec<String> {
        let files = [(RuleFile::Redirects, redirects.as_bytes())];
        let (rules, _) = SiteRules::compile(files);
        let files = ["index.html", "about.html", "app/index.html", "new.html"];
        let found = check_rules(&rules, &|path| files.contains(&path.as_str()));
        let shown = found
            .iter()
            .map(|found| format!("{} {}", found.at.line, found.code));
        shown.collect()
    }

    #[test]
    fn rules_that_lead_back_are_errors() {
        for (text, expected) in [
            ("/v/* /v/x/:splat", vec!["1 rules-loop"]),
            ("/a /b\n/b /a", vec!["1 rules-loop", "2 rules-loop"]),
            ("/app/ /app 301", vec!["1 rules-loop"]),
            ("/ /index.html\n/i /index.html", vec!["1 rules-loop"]),
            ("/:any /new", vec![]),
            ("/x /x/ 301\n/x/ /new", vec![]),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    #[test]
    fn rules_without_effect_are_warnings() {
        for (text, expected) in [
            ("/a /new\n/a /about", vec!["2 rules-hidden"]),
            (
                "/b/* /new\n/b/* /about\n/b/c /about",
                vec!["2 rules-hidden", "3 rules-hidden"],
            ),
            ("/a /new 302 Language=de\n/a /about", vec![]),
            ("/about /new", vec!["1 rules-over-file"]),
            ("/a /missing", vec!["1 rules-no-target"]),
            ("/a /missing 200", vec!["1 rules-no-target"]),
            ("/a/* /missing/:splat", vec![]),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    #[test]
    fn a_large_file_is_checked() {
        let rules = (0..5_000).map(|number| format!("/s{number} /new\n"));
        let text: String = rules.collect();
        assert!(check(&text).is_empty());
    }
}
