//! Rules of a build: its routes and cache policies, as one canonical file of the site.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use super::super::error::{ScanFault, shown};
use super::json::invalid;
use crate::path::SitePath;

/// Bytes that no path of a request has. A percent sign stays: PathMX writes paths as they are
/// requested.
const UNSENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// How long browsers keep an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Policy {
    /// For a year.
    Immutable,
    /// Until they ask again, which is always.
    Revalidate,
}

/// What answers a request of an exact path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Route {
    /// A file of the site.
    File { file: String },
    /// A redirect.
    Redirect { status: u16, to: String },
}

/// The rules of a site. The fields are in the order of the file.
#[derive(Debug, Serialize)]
pub(super) struct Rules {
    cache: BTreeMap<String, Policy>,
    html: &'static str,
    routes: BTreeMap<String, Route>,
    version: u8,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            cache: BTreeMap::new(),
            html: "exact",
            routes: BTreeMap::new(),
            version: 1,
        }
    }
}

impl Rules {
    /// The file of a manifest with the rules that a build gives.
    pub(super) const FILE: &str = "_pmx/rules.json";

    /// Adds the policy of a file. A file without one has what the server decides.
    pub(super) fn add_policy(
        &mut self,
        path: &SitePath,
        policy: Option<Policy>,
    ) -> Result<(), ScanFault> {
        let Some(policy) = policy else {
            return Ok(());
        };
        let known = self.cache.entry(path.as_str().to_owned()).or_insert(policy);
        if *known == policy {
            Ok(())
        } else {
            Err(two_policies(path))
        }
    }

    /// Adds the route of a path below the top, without its first slash.
    pub(super) fn add_route(
        &mut self,
        list: &SitePath,
        path: &str,
        route: Route,
    ) -> Result<(), ScanFault> {
        match self.routes.entry(raw_path(path)) {
            Entry::Vacant(free) => {
                free.insert(route);
                Ok(())
            }
            Entry::Occupied(known) if *known.get() == route => Ok(()),
            Entry::Occupied(known) => Err(disagree(list.as_str(), known.key())),
        }
    }

    /// Adds a route, unless its path has one.
    pub(super) fn add_missing_route(&mut self, path: &str, route: Route) {
        self.routes.entry(raw_path(path)).or_insert(route);
    }

    /// Adds the routes of paths that have none.
    pub(super) fn append_missing(&mut self, other: Self) {
        for (path, route) in other.routes {
            self.routes.entry(path).or_insert(route);
        }
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Only maps with keys that are no text, and failing writers, are errors.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The path of a request, as a client sends it, of a path below the top.
pub(super) fn raw_path(path: &str) -> String {
    format!("/{}", utf8_percent_encode(path, UNSENT))
}

/// Why a build's rules disagree.
fn disagree(list: &str, url: &str) -> ScanFault {
    invalid(
        list,
        format!("has two rules for \"{}\" that disagree", shown(url)),
    )
}

/// Why a file can't have two policies.
fn two_policies(path: &SitePath) -> ScanFault {
    invalid(
        path.as_str(),
        "has two cache policies that disagree".to_owned(),
    )
}
