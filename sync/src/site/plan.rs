//! Response planning: chooses the file, status and headers for a request.
//!
//! The order: redirects and forced rules, files and their clean URLs, the other rules, assets of
//! earlier deploys, the shell of an application, the nearest 404 page.

use http::StatusCode;

use super::answer::{Origin, Plan, Snapshot};
use super::clean_urls::{self, RequestedPath, UrlResolution};
use super::lookups::{DeployAge, LocatedFile, Lookup, Lookups, MissingLookups};
use super::planner::{LOOP_ROUNDS_MAX, Planner};
use super::request::{SiteRequest, Target, Verb};
use super::response::ResponseBuilder;
use super::rule_headers;
use crate::path::SitePath;
use crate::rules::{Missing, SiteRules};

/// Most rounds of lookups of one [`plan`]. Rounds one and two look up the file itself, then the
/// other forms of its URL. Rounds three and four repeat both in the other Unicode normalisation,
/// unless the path is ASCII. Round five looks up the 404 pages and the previous deploy, round six
/// the other earlier deploys. A rule's page takes two more, as does the shell; a redirect whose
/// target may lead back takes two for each step.
pub const ROUNDS_MAX: usize = 10 + LOOP_ROUNDS_MAX;

/// Answers a request to a site, or returns the lookups that it needs first.
pub fn plan(
    request: &SiteRequest,
    snapshot: &Snapshot,
    rules: &SiteRules,
    lookups: &Lookups,
) -> Result<Plan, MissingLookups> {
    let answer = rules.answer(&request.for_rules());
    let planner = Planner {
        request,
        snapshot,
        rules,
        lookups,
        answer: &answer,
    };
    let mut plan = planner.of_verb()?;
    rule_headers::apply(&mut plan, request, rules, answer.depends);
    Ok(plan.for_verb(request.verb))
}

/// The answer without a site: no such space, alias or deploy, or an impossible host name. It does
/// not distinguish these cases, and no cache stores it.
pub fn absent(request: &SiteRequest) -> Plan {
    let builder = ResponseBuilder::plain();
    let plan = match request.verb {
        Verb::Options => builder.options(),
        Verb::Other => builder.not_allowed(),
        Verb::Get | Verb::Head if request.waits() => builder.not_found_live(),
        Verb::Get | Verb::Head => builder.not_found(),
    };
    plan.for_verb(request.verb)
}

impl<'a> Planner<'a> {
    fn of_verb(&self) -> Result<Plan, MissingLookups> {
        match self.request.verb {
            Verb::Get | Verb::Head => self.plan(),
            Verb::Options | Verb::Other => self.refused(),
        }
    }

    /// Answers a method that changes something: a rule redirects it as well, and a site takes none.
    fn refused(&self) -> Result<Plan, MissingLookups> {
        if let Some(redirect) = self.redirected()? {
            return Ok(redirect);
        }
        if self.request.verb == Verb::Options {
            return Ok(self.response().options());
        }
        if self.request.target == Target::Reserved {
            return Ok(self.response().not_allowed());
        }
        let request = &self.request.as_get();
        let plan = Planner { request, ..*self }.plan()?;
        Ok(if plan.origin == Origin::Nothing {
            plan
        } else {
            self.response().not_allowed()
        })
    }

    fn plan(&self) -> Result<Plan, MissingLookups> {
        match &self.request.target {
            Target::Malformed => {
                let status = StatusCode::BAD_REQUEST;
                return Ok(self.response().error(status, "400 Bad Request\n"));
            }
            Target::Reserved => return self.not_found(&RequestedPath::Root),
            Target::Asked(_) | Target::Respelt(_) | Target::Nameless => {}
        }
        if let Some(plan) = self.before_files()? {
            return Ok(plan);
        }
        match &self.request.target {
            Target::Asked(asked) => self.file(asked),
            Target::Respelt(asked) => {
                let plan = self.file(asked)?;
                // Whatever the conditions, other URLs of a page redirect to its one address.
                Ok(match plan.origin {
                    Origin::File | Origin::Kept => self.canonical(clean_urls::location(asked)),
                    Origin::Redirect | Origin::Rule | Origin::Page | Origin::Nothing => plan,
                })
            }
            // A path that no file can have gets the same answer as any other missing path.
            Target::Nameless | Target::Reserved | Target::Malformed => {
                self.missing(&RequestedPath::Root)
            }
        }
    }

    fn canonical(&self, location: String) -> Plan {
        let status = self.rules.settings().canonical;
        let query = self.request.query.as_deref();
        self.response().redirect(status, location, query)
    }

    fn file(&self, asked: &RequestedPath) -> Result<Plan, MissingLookups> {
        if let Some(plan) = self.meaning(asked)? {
            return Ok(plan);
        }
        // The deploy may have the path in its other Unicode normalisation.
        if let Some(other) = asked.respelled()
            && let Some(plan) = self.meaning(&other)?
        {
            return Ok(plan);
        }
        self.missing(asked)
    }

    fn meaning(&self, asked: &RequestedPath) -> Result<Option<Plan>, MissingLookups> {
        let builder = self.response();
        Ok(
            match clean_urls::meaning(self.rules.html(), asked, self.lookups)? {
                UrlResolution::Serve(path, held) => {
                    let root = self.snapshot.root();
                    let kept = root.and_then(|root| self.request.kept(root, &path, held));
                    let builder = builder.kept_as(held, kept);
                    let policy = self.rules.cache_policy(&path);
                    Some(builder.found(self.request, &path, held, policy))
                }
                UrlResolution::Redirect(location) => Some(self.canonical(location)),
                UrlResolution::Nothing => None,
            },
        )
    }

    /// Answers a path that the deploy lacks: by a rule, with an asset that a page of an earlier
    /// deploy may still load, with the shell, or else with the nearest 404 page.
    fn missing(&self, asked: &RequestedPath) -> Result<Plan, MissingLookups> {
        if let Some(plan) = self.after_files()? {
            return Ok(plan);
        }
        let pages = match self.rules.missing() {
            Missing::NearestPage => lookups_of_pages(asked),
            Missing::Shell | Missing::Nothing => Vec::new(),
        };
        if let Some((path, held)) = self.kept(asked, &pages)? {
            let plan = self.response().found(self.request, path, held, None);
            let origin = Origin::Kept;
            return Ok(Plan { origin, ..plan });
        }
        if let Some(shell) = self.shell()? {
            return Ok(shell);
        }
        self.nearest_not_found_page(&pages)
    }

    fn not_found(&self, asked: &RequestedPath) -> Result<Plan, MissingLookups> {
        self.nearest_not_found_page(&lookups_of_pages(asked))
    }

    fn nearest_not_found_page(&self, pages: &[Lookup]) -> Result<Plan, MissingLookups> {
        self.lookups.require(pages.iter().cloned())?;
        let nearest = pages.iter().find_map(|page| self.lookups.held(page));
        let builder = self.response();
        Ok(match nearest {
            Some(held) => builder.page(self.request, StatusCode::NOT_FOUND, held),
            None if self.request.waits() => builder.not_found_live(),
            None => builder.not_found(),
        })
    }

    /// The page of a single-page application, for every path that may be one of its own.
    fn shell(&self) -> Result<Option<Plan>, MissingLookups> {
        if self.rules.missing() != Missing::Shell || self.request.names_asset() {
            return Ok(None);
        }
        let shell = &self.rules.settings().shell;
        let lookup = Lookup {
            age: DeployAge::SERVED,
            path: shell.clone(),
        };
        self.lookups.require([lookup.clone()])?;
        let held = self.lookups.held(&lookup);
        Ok(held.map(|held| {
            let plan = self.response().found(self.request, shell, held, None);
            let (origin, shown) = (Origin::Page, Some(shell.clone()));
            Plan {
                origin,
                shown,
                ..plan
            }
        }))
    }

    /// The file of the newest earlier deploy that has the path, unless it is a page.
    ///
    /// A page that still loads an old asset is nearly always of the previous deploy. A path that
    /// the previous deploy lacks is nearly always in no deploy. So the plan searches the previous
    /// one first, together with the 404 pages, and then all others at once.
    fn kept<'b>(
        &self,
        asked: &'b RequestedPath,
        pages: &[Lookup],
    ) -> Result<Option<(&'b SitePath, &'a LocatedFile)>, MissingLookups> {
        let Some(path) = asked.asset() else {
            return Ok(None);
        };
        let lookups = self.lookups;
        let earlier: Vec<Lookup> = (1..=self.snapshot.earlier)
            .map(|count| lookup_before(count, path))
            .collect();
        let (first, others) = earlier.split_at(earlier.len().min(1));
        lookups.require(first.iter().chain(pages).cloned())?;
        let mut held = first.iter().find_map(|lookup| lookups.held(lookup));
        if held.is_none() {
            lookups.require(others.iter().cloned())?;
            held = others.iter().find_map(|lookup| lookups.held(lookup));
        }
        let held = held.filter(|held| !held.entry.media.is_html());
        Ok(held.map(|held| (path, held)))
    }
}

fn lookups_of_pages(asked: &RequestedPath) -> Vec<Lookup> {
    let pages = asked.not_found_pages().into_iter();
    let lookups = pages.map(|path| Lookup {
        age: DeployAge::SERVED,
        path,
    });
    lookups.collect()
}

fn lookup_before(count: usize, path: &SitePath) -> Lookup {
    Lookup {
        age: DeployAge::before(count),
        path: path.clone(),
    }
}

#[cfg(test)]
mod tests;
