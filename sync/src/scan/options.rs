//! Scan options: what a scan depends on beside the files.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use super::error::Faults;

/// Policy for paths that differ only in case or normalisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Collisions {
    /// They are published with a warning.
    #[default]
    Warn,
    /// They are an error.
    Refuse,
    /// They are published.
    Allow,
}

/// Policy for files that are private keys, or secrets of pmx itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secrets {
    /// They are an error.
    #[default]
    Refuse,
    /// They are published.
    Allow,
}

/// How files are reached. Both ways give the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// By descriptors of folders, where the platform has them: faster, and safe from folders that
    /// are replaced by links during the scan.
    Descriptors,
    /// By full paths.
    Portable,
}

/// Options of a scan: all that it depends on beside the files.
#[derive(Debug, Clone)]
pub struct Options {
    /// Patterns of what is left out, in the syntax of gitignore, after those of `.pmxignore`.
    pub exclude: Vec<String>,
    /// Whether colliding paths are refused.
    pub collisions: Collisions,
    /// Whether private keys are refused.
    pub secrets: Secrets,
    /// Policy for paths that can't be published.
    pub faults: Faults,
    /// How files are reached.
    pub walk: Walk,
    /// How many threads scan; by default as many as there are cores, and at least eight.
    pub threads: Option<NonZeroUsize>,
    /// Folders, by their paths below the top, outside of which nothing happened since before the
    /// scan that the cache comes from, as one knows who has watched: they are not looked at. A
    /// folder that was put in the place of another counts as all that is beneath it.
    pub touched: Option<BTreeSet<String>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            exclude: Vec::new(),
            collisions: Collisions::default(),
            secrets: Secrets::default(),
            faults: Faults::default(),
            walk: Walk::Descriptors,
            threads: None,
            touched: None,
        }
    }
}
