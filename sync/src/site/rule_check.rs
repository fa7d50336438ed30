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
    Diagnostic, MatchedAction, Missing, RuleCode, RuleFile, RuleLine, RuleSample, Severity,
    SiteRules,
};

/// Checks rules against the files of their site.
pub fn check_rules(rules: &SiteRules, exists: &dyn Fn(&SitePath) -> bool) -> Vec<Diagnostic> {
    let mut check = RuleCheck {
        rules,
        exists,
        found: rules.hidden(),
    };
    let hidden: Vec<RuleLine> = check.found.iter().map(|found| found.at).collect();
    check.found.extend(rules.oversized_headers());
    for sample in rules.samples() {
        if !hidden.contains(&sample.at) {
            check.rule(&sample);
        }
    }
    check.found.extend(rules.generated_faults(exists));
    check.shell();
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
        if target(&sample.path) == Target::Reserved {
            let message = format!("the server answers {} itself", sample.path);
            return self.push(sample.at, Severity::Warning, RuleCode::Hidden, message);
        }
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
                    let message = format!("the rule leads from {} back to it", sample.path);
                    return self.push(sample.at, Severity::Error, RuleCode::Loop, message);
                }
                if sample.is_literal && self.is_file(&sample.path) {
                    let message = format!("a file of the site has the URL {}", sample.path);
                    self.push(sample.at, Severity::Warning, RuleCode::OverFile, message);
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
                lookups: known,
                answer: &answer,
            };
            planner.way(location)
        });
        match way {
            RedirectEnd::Ends => false,
            // The query may differ: it passes on, and grows or stays.
            RedirectEnd::Cycle(urls) => urls.iter().any(|url| {
                let path = url.split('?').next();
                path == Some(request.for_rules().path)
            }),
            RedirectEnd::Endless => true,
        }
    }

    /// Warns of a target that neither a file nor a rule answers.
    fn target(&mut self, sample: &RuleSample, path: &str) {
        let request = SiteRequest::new(&Method::GET, path, None, &HeaderMap::new(), None);
        let is_ruled = self.rules.answer(&request.for_rules()).rule.is_some();
        if !is_ruled && !self.is_file(path) {
            let message = format!("the site has no {path}");
            self.push(sample.at, Severity::Warning, RuleCode::NoTarget, message);
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

    /// Warns of a shell that does not exist.
    fn shell(&mut self) {
        let shell = &self.rules.settings().shell;
        if self.rules.missing() == Missing::Shell && !(self.exists)(shell) {
            let at = RuleLine {
                file: RuleFile::Settings,
                line: 1,
            };
            let message = format!("the site has no {shell}, which is to answer missing pages");
            self.push(at, Severity::Warning, RuleCode::NoTarget, message);
        }
    }

    fn push(&mut self, at: RuleLine, severity: Severity, code: RuleCode, message: String) {
        self.found.push(Diagnostic {
            at,
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

    fn check(redirects: &str) -> Vec<String> {
        check_file(RuleFile::Redirects, redirects)
    }

    fn check_file(file: RuleFile, text: &str) -> Vec<String> {
        let (rules, errors) = SiteRules::compile([(file, text.as_bytes())]);
        assert_eq!(errors, []);
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
            ("/a /b?x=1\n/b /a", vec!["1 rules-loop", "2 rules-loop"]),
            ("/c /a\n/a /b\n/b /a", vec!["2 rules-loop", "3 rules-loop"]),
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
            ("/_events /new", vec!["1 rules-hidden"]),
            ("/e/* /about 200\n/e/x /new", vec!["2 rules-hidden"]),
            ("/e/* /about 200\n/e/x.js /new", vec![]),
            ("/e/* /about 200!\n/e/x.js /new", vec!["2 rules-hidden"]),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    #[test]
    fn generated_routes_lead_to_files() {
        for (routes, expected) in [
            (r#""/x":{"file":"new.html"}"#, vec![]),
            (r#""/x":{"file":"old.html"}"#, vec!["0 rules-no-target"]),
            (r#""/x":{"status":301,"to":"/x"}"#, vec!["0 rules-loop"]),
            (
                r#""/x":{"status":301,"to":"/y"},"/y":{"status":301,"to":"/x"}"#,
                vec!["0 rules-loop", "0 rules-loop"],
            ),
            (
                r#""/c":{"status":301,"to":"/x?q"},"/x":{"status":301,"to":"/y"},"/y":{"status":301,"to":"/x"}"#,
                vec!["0 rules-loop", "0 rules-loop"],
            ),
            (r#""/x":{"status":301,"to":"/new"}"#, vec![]),
        ] {
            let text = format!(r#"{{"cache":{{}},"routes":{{{routes}}},"version":1}}"#);
            assert_eq!(check_file(RuleFile::Generated, &text), expected, "{routes}");
        }
    }

    #[test]
    fn shell_and_headers_are_checked() {
        let settings = |text: &str| check_file(RuleFile::Settings, text);
        assert_eq!(settings("missing = \"spa\""), [""; 0]);
        let shell = "missing = \"spa\"\nshell = \"shell.html\"";
        assert_eq!(settings(shell), ["1 rules-no-target"]);
        let long = "v".repeat(3_000);
        let blocks =
            |second: &str| format!("/*\n X-A: {long}\n X-B: {long}\n{second}\n X-C: {long}");
        let headers = |text: &str| check_file(RuleFile::Headers, text);
        assert_eq!(headers(&blocks("/about")), ["4 rules-limit"]);
        assert_eq!(
            headers(&format!("/a\n X-A: {long}\n X-B: {long}\n/b\n X-C: {long}")),
            [""; 0]
        );
    }

    #[test]
    fn a_large_file_is_checked() {
        let rules = (0..5_000).map(|number| format!("/s{number} /new\n"));
        let text: String = rules.collect();
        assert!(check(&text).is_empty());
    }
}
