//! Domain under which sites live, and the host name of each deploy below it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{DNS_LABEL_BYTES_MAX, HOST_BYTES_MAX};
use crate::name::{AliasName, SpaceName};

/// Selector of a deploy in a host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// The active one.
    Active,
    /// The one with this number, for ever.
    Number(u64),
    /// The one that an alias points to.
    Alias(AliasName),
}

/// The domain under which sites live, such as `localhost` or `path.app`: lower-case labels, no
/// port, no trailing dot.
#[derive(Clone, PartialEq, Eq)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Parses a configured domain.
    pub fn parse(text: &str) -> Result<Self, InvalidDomain> {
        let lower = text.to_ascii_lowercase();
        let named = lower.split('.').all(is_label);
        // A site's label and a dot must fit before it.
        if named && lower.len() + DNS_LABEL_BYTES_MAX < HOST_BYTES_MAX {
            Ok(Self(lower.into()))
        } else {
            Err(InvalidDomain {
                text: text.chars().take(80).collect(),
            })
        }
    }

    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host name of a site. `None` if alias and space together are too long for a DNS label.
    pub fn host_of(&self, space: &SpaceName, deploy: &Selector) -> Option<String> {
        let label = match deploy {
            Selector::Active => space.to_string(),
            Selector::Number(number) => format!("{number}--{space}"),
            Selector::Alias(alias) => format!("{alias}--{space}"),
        };
        (label.len() <= DNS_LABEL_BYTES_MAX).then(|| format!("{label}.{}", self.0))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The text is not a domain.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{text:?} is not a domain: expected a name like \"localhost\" or \"path.app\", no port")]
pub struct InvalidDomain {
    text: String,
}

fn is_label(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= DNS_LABEL_BYTES_MAX
        && text.bytes().all(legal)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_labels() {
        for bad in ["", ".", "a.", "a:80", "-a", "a b", &"a.".repeat(120)] {
            assert!(Domain::parse(bad).is_err(), "{bad:?}");
        }
    }
}
