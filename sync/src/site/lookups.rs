//! Path lookups of a plan: the results so far, and the ones still missing.

use std::collections::BTreeMap;

use pmx_core::location::Location;

use crate::manifest::Entry;
use crate::path::SitePath;

/// Age of a deploy, counted in deploys: 0 is the served one, 1 the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeployAge(usize);

impl DeployAge {
    /// The served deploy.
    pub const SERVED: Self = Self(0);

    /// The `count`-th deploy before the served one.
    pub const fn before(count: usize) -> Self {
        Self(count)
    }

    /// The distance from the served deploy.
    pub const fn count(self) -> usize {
        self.0
    }
}

/// Lookup of one path in the index of one deploy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup {
    /// The deploy to search.
    pub age: DeployAge,
    /// The path.
    pub path: SitePath,
}

/// A file of a deploy, and the location of its blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedFile {
    /// The row of the manifest.
    pub entry: Entry,
    /// The location of the stored blob.
    pub at: Location,
}

/// The results of lookups so far.
#[derive(Debug, Clone, Default)]
pub struct Lookups(BTreeMap<Lookup, Option<LocatedFile>>);

impl Lookups {
    /// Adds a result: `None` if the deploy has no such path.
    pub fn insert(&mut self, lookup: Lookup, held: Option<LocatedFile>) {
        self.0.insert(lookup, held);
    }

    /// The file of the served deploy at `path`.
    pub(super) fn served(&self, path: &SitePath) -> Option<&LocatedFile> {
        self.held(&Lookup {
            age: DeployAge::SERVED,
            path: path.clone(),
        })
    }

    pub(super) fn held(&self, lookup: &Lookup) -> Option<&LocatedFile> {
        self.0.get(lookup)?.as_ref()
    }

    /// Fails with the lookups that have no result yet.
    pub(super) fn require(
        &self,
        lookups: impl IntoIterator<Item = Lookup>,
    ) -> Result<(), MissingLookups> {
        let unanswered = |lookup: &Lookup| !self.0.contains_key(lookup);
        let mut lookups: Vec<_> = lookups.into_iter().filter(unanswered).collect();
        lookups.sort_unstable();
        lookups.dedup();
        if lookups.is_empty() {
            Ok(())
        } else {
            Err(MissingLookups { lookups })
        }
    }
}

/// The lookups that a plan still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLookups {
    /// The lookups, in order and each once. They are independent: run them together.
    pub lookups: Vec<Lookup>,
}
