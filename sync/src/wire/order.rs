//! A build's own place in a sequence, by which an older build never replaces a newer one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a build stands among builds of its kind. Only equal kinds are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "lowercase")]
pub enum Order {
    /// The number of a CI run.
    Run(u64),
    /// The time of the commit, in seconds since the Unix epoch.
    Commit(u64),
}

impl Order {
    /// The kind's name, as the ledger stores it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Commit(_) => "commit",
        }
    }

    /// The place in the sequence.
    pub const fn value(self) -> u64 {
        match self {
            Self::Run(value) | Self::Commit(value) => value,
        }
    }

    /// The order of a kind's name and a place.
    pub fn from_parts(kind: &str, value: u64) -> Option<Self> {
        match kind {
            "run" => Some(Self::Run(value)),
            "commit" => Some(Self::Commit(value)),
            _ => None,
        }
    }

    /// Whether this build must not replace one of `live`.
    pub fn is_older_than(self, live: Self) -> bool {
        self.kind() == live.kind() && self.value() < live.value()
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(number) => write!(f, "CI run {number}"),
            Self::Commit(seconds) => write!(f, "the commit of Unix time {seconds}"),
        }
    }
}
