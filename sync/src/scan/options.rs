//! Scan options: the inputs of a scan beside the files.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use bytes::Bytes;

use super::error::FaultPolicy;
use crate::path::SitePath;

/// Policy for paths that differ only in case or normalisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Collisions {
    /// The scan publishes them with a warning.
    #[default]
    Warn,
    /// The scan fails.
    Refuse,
    /// The scan publishes them.
    Allow,
}

/// Policy for files that are private keys, or secrets of pmx itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secrets {
    /// The scan fails.
    #[default]
    Refuse,
    /// The scan publishes them.
    Allow,
}

/// Access to files. Both kinds give the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAccess {
    /// By descriptors of folders, where the platform has them: faster, and safe from folders that a
    /// link replaces during the scan.
    Descriptors,
    /// By full paths.
    Portable,
}

/// Options of a scan: all its inputs beside the files.
#[derive(Debug, Clone)]
pub struct Options {
    /// Patterns of excluded files, in the syntax of gitignore, after those of `.pmxignore`.
    pub exclude: Vec<String>,
    /// Whether colliding paths are refused.
    pub collisions: Collisions,
    /// Whether private keys are refused.
    pub secrets: Secrets,
    /// Policy for paths that cannot be published.
    pub faults: FaultPolicy,
    /// Access to files.
    pub walk: FileAccess,
    /// The number of threads; by default the number of cores, and at least eight.
    pub threads: Option<NonZeroUsize>,
    /// Folders with changes since before the cache's scan, by their paths below the top, as a
    /// watcher reports them. The scan skips all other folders. A replaced folder counts as changed
    /// with all beneath it.
    pub touched: Option<BTreeSet<String>>,
    /// Files of the site that the folder lacks, such as rules from a project's settings. A file of
    /// the folder with such a path must have the same bytes. Each is in memory twice, so callers
    /// keep them small.
    pub generated: BTreeMap<SitePath, Bytes>,
    /// Files whose bytes count in place of those in the folder: rule files without their bad lines.
    pub replaced: BTreeMap<SitePath, Bytes>,
    /// The Path of a PathMX build that is published alone, at the top of the site.
    pub path: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            exclude: Vec::new(),
            collisions: Collisions::default(),
            secrets: Secrets::default(),
            faults: FaultPolicy::default(),
            walk: FileAccess::Descriptors,
            threads: None,
            touched: None,
            generated: BTreeMap::new(),
            replaced: BTreeMap::new(),
            path: None,
        }
    }
}
