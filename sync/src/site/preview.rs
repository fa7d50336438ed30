//! Answer preview: the response to a request, from the list of a site's files alone.

use pmx_core::id::ObjectId;
use pmx_core::location::{Codec, Extent, Location};

use super::answer::{Plan, PlanBody, Snapshot};
use super::lookups::{LocatedFile, Lookups};
use super::plan::plan;
use super::request::SiteRequest;
use crate::manifest::Entry;
use crate::path::SitePath;
use crate::rules::SiteRules;

/// A planned response, and how it came about.
#[derive(Debug)]
pub struct AnswerPreview {
    /// The plan.
    pub plan: Plan,
    /// The paths that were looked up, in order, and whether the site has them.
    pub lookups: Vec<(SitePath, bool)>,
    /// The file that is sent.
    pub file: Option<SitePath>,
}

/// Plans the response of a site whose only deploy has these files.
pub fn preview(
    request: &SiteRequest,
    rules: &SiteRules,
    find: &dyn Fn(&SitePath) -> Option<Entry>,
) -> AnswerPreview {
    let (mut known, mut lookups) = (Lookups::default(), Vec::new());
    let mut files: Vec<(SitePath, LocatedFile)> = Vec::new();
    let plan = loop {
        match plan(request, &Snapshot::pinned(1), rules, &known) {
            Ok(plan) => break plan,
            Err(missing) => {
                for lookup in missing.lookups {
                    let held = find(&lookup.path).map(unlocated);
                    let held = held.map(|held| rules.typed(&lookup.path, held));
                    lookups.push((lookup.path.clone(), held.is_some()));
                    files.extend(held.clone().map(|held| (lookup.path.clone(), held)));
                    known.insert(lookup, held);
                }
            }
        }
    };
    let sent = match &plan.body {
        PlanBody::Blob { held, .. } => files.into_iter().find(|(_, known)| known == held),
        PlanBody::Empty | PlanBody::Text(_) | PlanBody::Page(_) => None,
    };
    AnswerPreview {
        plan,
        lookups,
        file: sent.map(|(path, _)| path),
    }
}

/// A file whose place no question needs.
pub(super) const fn unlocated(entry: Entry) -> LocatedFile {
    let extent = Extent {
        object: ObjectId::from_bytes([0; 16]),
        offset: 0,
        len: 0,
    };
    LocatedFile {
        entry,
        at: Location {
            extent,
            codec: Codec::Stored,
        },
    }
}
