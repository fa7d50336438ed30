//! Rules of a build: its routes and cache policies, as the generated rules of the site.

use std::collections::btree_map::Entry;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::super::error::{ScanFault, shown};
use super::json::invalid;
use crate::limits::GENERATED_RULES_BYTES_MAX;
use crate::path::SitePath;
use crate::rules::{CachePolicy, GeneratedRoute, GeneratedRules, RuleFile};

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

/// The rules of a build that is being read.
#[derive(Debug, Default)]
pub(super) struct BuildRules(GeneratedRules);

impl BuildRules {
    /// The file of the site that has them.
    pub(super) fn file() -> SitePath {
        RuleFile::Generated.site_path()
    }

    /// Adds the policy of a file. A file without one has what the server decides.
    pub(super) fn add_policy(
        &mut self,
        path: &SitePath,
        policy: Option<CachePolicy>,
    ) -> Result<(), ScanFault> {
        let Some(policy) = policy else {
            return Ok(());
        };
        if *self.0.cache.entry(path.clone()).or_insert(policy) == policy {
            return Ok(());
        }
        let fault = "has two cache policies that disagree";
        Err(invalid(path.as_str(), fault.to_owned()))
    }

    /// Adds the route of a path below the top, without its first slash.
    pub(super) fn add_route(
        &mut self,
        list: &SitePath,
        path: &str,
        route: GeneratedRoute,
    ) -> Result<(), ScanFault> {
        match self.0.routes.entry(raw_path(path).into()) {
            Entry::Vacant(free) => {
                free.insert(route);
                Ok(())
            }
            Entry::Occupied(known) if *known.get() == route => Ok(()),
            Entry::Occupied(known) => {
                let url = shown(known.key());
                let fault = format!("has two rules for \"{url}\" that disagree");
                Err(invalid(list.as_str(), fault))
            }
        }
    }

    /// Adds a route, unless its path has one.
    pub(super) fn add_missing_route(&mut self, path: &str, route: GeneratedRoute) {
        self.0.routes.entry(raw_path(path).into()).or_insert(route);
    }

    /// Adds the routes of paths that have none.
    pub(super) fn append_missing(&mut self, other: Self) {
        for (path, route) in other.0.routes {
            self.0.routes.entry(path).or_insert(route);
        }
    }

    /// The bytes of the file.
    pub(super) fn encode(mut self) -> Result<Vec<u8>, ScanFault> {
        self.0.html = Some("exact".to_owned());
        let encoded = self.0.check().and_then(|()| self.0.encode());
        let bytes = encoded
            .map_err(|fault| invalid(Self::file().as_str(), format!("can't be made: {fault}")))?;
        if bytes.len() > GENERATED_RULES_BYTES_MAX {
            return Err(ScanFault::TooLarge {
                path: Self::file().to_string(),
                unit: "bytes",
                actual: bytes.len() as u64,
                limit: GENERATED_RULES_BYTES_MAX as u64,
            });
        }
        Ok(bytes)
    }
}

/// The path of a request, as a client sends it, of a path below the top.
pub(super) fn raw_path(path: &str) -> String {
    format!("/{}", utf8_percent_encode(path, UNSENT))
}
