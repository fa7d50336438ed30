//! Response planning: chooses the file, status and headers for a request.

use http::StatusCode;

use super::answer::{Plan, Snapshot};
use super::clean_urls::{self, Meaning, RequestedPath};
use super::lookups::{Generation, LocatedFile, Lookup, Lookups, MissingLookups};
use super::request::{SiteRequest, Target, Verb};
use super::response::ResponseBuilder;
use crate::path::SitePath;

/// Most rounds of lookups of one [`plan`]. Rounds one and two look up the file itself, then the
/// other forms of its URL. Rounds three and four repeat both in the other Unicode normalisation,
/// unless the path is ASCII. Round five looks up the 404 pages and the previous deploy, round six
/// the other earlier deploys.
pub const ROUNDS_MAX: usize = 6;

/// Answers a request to a site, or returns the lookups that it needs first.
pub fn plan(
    request: &SiteRequest,
    snapshot: &Snapshot,
    known: &Lookups,
) -> Result<Plan, MissingLookups> {
    let draft = ResponseBuilder::of(snapshot);
    let plan = match request.verb {
        Verb::Options => draft.options(),
        Verb::Other => draft.not_allowed(),
        Verb::Get | Verb::Head => match &request.target {
            Target::Malformed => draft.error(StatusCode::BAD_REQUEST, "400 Bad Request\n"),
            // A path that no file can have gets the same 404 as any other missing path.
            Target::Nameless | Target::Reserved => {
                missing(request, &RequestedPath::Root, snapshot, known)?
            }
            Target::Asked(asked) => answer(request, asked, snapshot, known)?,
            Target::Respelt(asked) => {
                let plan = answer(request, asked, snapshot, known)?;
                // Whatever the conditions, other URLs of a page redirect to its one address.
                if plan.status == StatusCode::NOT_FOUND || plan.is_elsewhere() {
                    plan
                } else {
                    draft.redirect(clean_urls::location(asked), request.query.as_deref())
                }
            }
        },
    };
    Ok(plan.for_verb(request.verb))
}

/// The answer without a site: no such space, alias or deploy, or an impossible host name. It does
/// not distinguish these cases, and no cache stores it.
pub fn absent(request: &SiteRequest) -> Plan {
    let draft = ResponseBuilder::plain();
    let plan = match request.verb {
        Verb::Options => draft.options(),
        Verb::Other => draft.not_allowed(),
        Verb::Get | Verb::Head if request.waits() => draft.not_found_live(),
        Verb::Get | Verb::Head => draft.not_found(),
    };
    plan.for_verb(request.verb)
}

fn answer(
    request: &SiteRequest,
    asked: &RequestedPath,
    snapshot: &Snapshot,
    known: &Lookups,
) -> Result<Plan, MissingLookups> {
    let draft = ResponseBuilder::of(snapshot);
    match clean_urls::meaning(asked, known)? {
        Meaning::Serve(path, held) => {
            let kept = snapshot.root();
            let kept = kept.and_then(|root| request.kept(root, &path, held));
            Ok(draft.kept_as(held, kept).found(request, asked, held))
        }
        Meaning::Redirect(location) => Ok(draft.redirect(location, request.query.as_deref())),
        Meaning::Nothing => respelled(request, asked, snapshot, known),
    }
}

/// Answers a path that the deploy lacks: the deploy may have it in its other Unicode normalisation.
fn respelled(
    request: &SiteRequest,
    asked: &RequestedPath,
    snapshot: &Snapshot,
    known: &Lookups,
) -> Result<Plan, MissingLookups> {
    if let Some(other) = asked.respelled() {
        let draft = ResponseBuilder::of(snapshot);
        match clean_urls::meaning(&other, known)? {
            Meaning::Serve(_, held) => return Ok(draft.found(request, &other, held)),
            Meaning::Redirect(location) => {
                return Ok(draft.redirect(location, request.query.as_deref()));
            }
            Meaning::Nothing => {}
        }
    }
    missing(request, asked, snapshot, known)
}

/// Answers a path that the deploy lacks: with an asset that a page of an earlier deploy may still
/// load, or else with the nearest 404 page.
fn missing(
    request: &SiteRequest,
    asked: &RequestedPath,
    snapshot: &Snapshot,
    known: &Lookups,
) -> Result<Plan, MissingLookups> {
    let draft = ResponseBuilder::of(snapshot);
    let pages = lookups_of_pages(asked);
    if let Some(held) = kept(asked, snapshot, known, &pages)? {
        return Ok(draft.found(request, asked, held));
    }
    known.require(pages.iter().cloned())?;
    let nearest = pages.iter().find_map(|page| known.held(page));
    Ok(match nearest {
        Some(held) => draft.not_found_page(request, held),
        None if request.waits() => draft.not_found_live(),
        None => draft.not_found(),
    })
}

fn lookups_of_pages(asked: &RequestedPath) -> Vec<Lookup> {
    let pages = asked.not_found_pages().into_iter();
    let lookups = pages.map(|path| Lookup {
        generation: Generation::SERVED,
        path,
    });
    lookups.collect()
}

/// The file of the newest earlier deploy that has the path, unless it is a page.
///
/// A page that still loads an old asset is nearly always of the previous deploy. A path that the
/// previous deploy lacks is nearly always in no deploy. So the plan searches the previous one
/// first, together with the 404 pages, and then all others at once.
fn kept<'a>(
    asked: &RequestedPath,
    snapshot: &Snapshot,
    known: &'a Lookups,
    pages: &[Lookup],
) -> Result<Option<&'a LocatedFile>, MissingLookups> {
    let Some(path) = asked.asset() else {
        return Ok(None);
    };
    let lookups: Vec<Lookup> = (1..=snapshot.earlier)
        .map(|count| lookup_before(count, path))
        .collect();
    let (first, others) = lookups.split_at(lookups.len().min(1));
    known.require(first.iter().chain(pages).cloned())?;
    let mut held = first.iter().find_map(|lookup| known.held(lookup));
    if held.is_none() {
        known.require(others.iter().cloned())?;
        held = others.iter().find_map(|lookup| known.held(lookup));
    }
    Ok(held.filter(|held| !held.entry.media.is_html()))
}

fn lookup_before(count: usize, path: &SitePath) -> Lookup {
    Lookup {
        generation: Generation::before(count),
        path: path.clone(),
    }
}

#[cfg(test)]
mod tests;
