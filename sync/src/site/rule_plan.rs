//! Rule plan: the answer that a redirect or a rewrite gives.

use http::StatusCode;

use super::answer::{Origin, Plan};
use super::clean_urls::{self, UrlResolution};
use super::lookups::{DeployAge, Lookup, MissingLookups};
use super::planner::{Planner, STEPS_MAX};
use super::request::{Target, target};
use crate::path::SitePath;
use crate::rules::{MatchedAction, MatchedRule, RuleRequest};

impl Planner<'_> {
    /// The answer of a rule that comes before files.
    pub(super) fn before_files(&self) -> Result<Option<Plan>, MissingLookups> {
        match &self.answer.rule {
            Some(rule) if rule.is_before_files && !self.redirects_to_source(rule)? => {
                self.of_rule(rule)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Whether the client goes to the page's own URL first.
    fn redirects_to_source(&self, rule: &MatchedRule) -> Result<bool, MissingLookups> {
        self.is_page_of(&self.request.for_rules(), rule)
    }

    /// The answer of a rule that comes after files.
    pub(super) fn after_files(&self) -> Result<Option<Plan>, MissingLookups> {
        match &self.answer.rule {
            Some(rule) if !rule.is_before_files => self.of_rule(rule),
            Some(_) | None => Ok(None),
        }
    }

    /// The answer of a redirect.
    pub(super) fn redirected(&self) -> Result<Option<Plan>, MissingLookups> {
        match &self.answer.rule {
            Some(rule) if matches!(rule.action, MatchedAction::Redirect { .. }) => {
                self.of_rule(rule)
            }
            Some(_) | None => Ok(None),
        }
    }

    fn of_rule(&self, rule: &MatchedRule) -> Result<Option<Plan>, MissingLookups> {
        let is_malformed = matches!(self.request.target, Target::Malformed | Target::Reserved);
        if is_malformed {
            return Ok(None);
        }
        let plan = match &rule.action {
            MatchedAction::Redirect {
                status,
                location,
                local,
            } => {
                if local.is_some() && self.leads_back(location)? {
                    return Ok(None);
                }
                let plan = self.response().redirect(*status, location.clone(), None);
                let origin = Origin::Redirect;
                Some(Plan { origin, ..plan })
            }
            MatchedAction::Rewrite {
                status,
                path,
                is_wide,
            } => self.rewritten(*status, path, *is_wide)?,
            MatchedAction::File(file) => self.at_file(file)?,
        };
        let rule = Some(rule.at);
        Ok(plan.map(|plan| Plan { rule, ..plan }))
    }

    /// Answers with what the site has at another path. A rule whose page does not exist answers
    /// nothing.
    fn rewritten(
        &self,
        status: StatusCode,
        path: &str,
        is_wide: bool,
    ) -> Result<Option<Plan>, MissingLookups> {
        let (Target::Asked(asked) | Target::Respelt(asked)) = target(path) else {
            return Ok(None);
        };
        let found = clean_urls::file(self.rules.html(), &asked, self.lookups)?;
        Ok(found.map(|(path, held)| {
            let shown = Some(path.clone());
            if status != StatusCode::OK {
                let plan = self.response().page(self.request, status, held);
                return Plan { shown, ..plan };
            }
            let policy = self.rules.cache_policy(&path);
            let plan = self.response().found(self.request, &path, held, policy);
            let origin = if is_wide { Origin::Page } else { Origin::Rule };
            Plan {
                origin,
                shown,
                ..plan
            }
        }))
    }

    fn at_file(&self, file: &SitePath) -> Result<Option<Plan>, MissingLookups> {
        let lookup = Lookup {
            age: DeployAge::SERVED,
            path: file.clone(),
        };
        self.lookups.require([lookup.clone()])?;
        let held = self.lookups.held(&lookup);
        Ok(held.map(|held| {
            let policy = self.rules.cache_policy(file);
            let plan = self.response().found(self.request, file, held, policy);
            let (origin, shown) = (Origin::Rule, Some(file.clone()));
            Plan {
                origin,
                shown,
                ..plan
            }
        }))
    }

    /// Whether a client that follows a redirect would come back to a URL that it has seen. Such a
    /// rule does not apply.
    fn leads_back(&self, location: &str) -> Result<bool, MissingLookups> {
        Ok(self.way(location)? != RedirectEnd::Ends)
    }

    /// Follows a redirect of the site to itself.
    pub(super) fn way(&self, location: &str) -> Result<RedirectEnd, MissingLookups> {
        let request = self.request.for_rules();
        let mut seen = vec![url(request.path, request.client.query)];
        let mut at = without_fragment(location).to_owned();
        for _ in 0..STEPS_MAX {
            if let Some(first) = seen.iter().position(|known| *known == at) {
                return Ok(RedirectEnd::Cycle(seen.split_off(first)));
            }
            seen.push(at.clone());
            let here = at_url(&at, &request);
            let rule = self.rule_at(&here);
            let next = match &rule {
                Some(rule) if self.is_page_of(&here, rule)? => {
                    let source = rule.other_slash.as_deref().unwrap_or_default();
                    Some(url(source, here.client.query))
                }
                Some(rule) => match &rule.action {
                    MatchedAction::Redirect {
                        local: Some(_),
                        location,
                        ..
                    } => Some(without_fragment(location).to_owned()),
                    MatchedAction::Redirect { local: None, .. } | MatchedAction::File(_) => {
                        return Ok(RedirectEnd::Ends);
                    }
                    MatchedAction::Rewrite { .. } => self.next_by_file(&here, &seen)?,
                },
                None => self.next_by_file(&here, &seen)?,
            };
            match next {
                Some(next) => at = next,
                None => return Ok(RedirectEnd::Ends),
            }
        }
        Ok(RedirectEnd::Endless)
    }

    /// The rule before files that answers a URL.
    fn rule_at(&self, here: &RuleRequest<'_>) -> Option<MatchedRule> {
        let rule = self.rules.answer(here).rule;
        rule.filter(|rule| rule.is_before_files)
    }

    /// Whether a URL is another one of a page whose own URL the rule has as its source.
    fn is_page_of(
        &self,
        here: &RuleRequest<'_>,
        rule: &MatchedRule,
    ) -> Result<bool, MissingLookups> {
        let (Some(source), Target::Asked(asked)) = (&rule.other_slash, target(here.path)) else {
            return Ok(false);
        };
        let meaning = clean_urls::meaning(self.rules.html(), &asked, self.lookups)?;
        Ok(matches!(meaning, UrlResolution::Redirect(location) if location == *source))
    }

    /// The clean URL to which a page redirects, if the way could go on from there.
    fn next_by_file(
        &self,
        here: &RuleRequest<'_>,
        seen: &[String],
    ) -> Result<Option<String>, MissingLookups> {
        let (asked, own) = match target(here.path) {
            Target::Asked(asked) => (asked, None),
            // A page at another spelling of its URL redirects to the URL.
            Target::Respelt(asked) => {
                let own = clean_urls::location(&asked);
                (asked, Some(own))
            }
            Target::Reserved | Target::Malformed | Target::Nameless => return Ok(None),
        };
        let mode = self.rules.html();
        let goes_on = |next: &String| {
            let next = url(next, here.client.query);
            seen.contains(&next) || self.rule_at(&at_url(&next, here)).is_some()
        };
        let others = clean_urls::other_urls(mode, &asked);
        if !others.iter().chain(&own).any(goes_on) {
            return Ok(None);
        }
        let next = match clean_urls::meaning(mode, &asked, self.lookups)? {
            UrlResolution::Redirect(next) => Some(next),
            UrlResolution::Serve(..) => own,
            UrlResolution::Nothing => None,
        };
        Ok(next.map(|next| url(&next, here.client.query)))
    }
}

/// Where a redirect leads a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RedirectEnd {
    /// To a page, or to another host.
    Ends,
    /// Through these URLs again and again.
    Cycle(Vec<String>),
    /// Through more redirects than the server follows.
    Endless,
}

fn at_url<'a>(at: &'a str, request: &RuleRequest<'a>) -> RuleRequest<'a> {
    let (path, query) = match at.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (at, None),
    };
    let mut next = *request;
    next.path = path;
    next.client.query = query;
    next
}

fn url(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

fn without_fragment(location: &str) -> &str {
    location.split('#').next().unwrap_or(location)
}

#[cfg(test)]
mod tests;
