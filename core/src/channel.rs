//! Channel: a site or one of its previews, whose address moves from deploy to deploy.

use std::fmt;

use crate::limits::DNS_LABEL_BYTES_MAX;
use crate::name::{AliasName, SpaceName};

/// A site, or one of its previews. It has one pointer, and its readers receive only its events.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// The space of the site.
    pub space: SpaceName,
    /// The preview; `None` is the site itself.
    pub alias: Option<AliasName>,
}

impl Channel {
    /// Whether the channel's label is a DNS label (RFC 1035, section 2.3.4).
    pub fn is_addressable(&self) -> bool {
        let alias = self
            .alias
            .as_ref()
            .map_or(0, |alias| alias.as_str().len() + 2);
        alias + self.space.as_str().len() <= DNS_LABEL_BYTES_MAX
    }

    /// The channel with this label.
    pub fn of_label(label: &str) -> Option<Self> {
        let (alias, space) = match label.split_once("--") {
            Some((alias, space)) => (Some(AliasName::parse(alias).ok()?), space),
            None => (None, label),
        };
        let space = SpaceName::parse(space).ok()?;
        Some(Self { space, alias })
    }
}

impl From<SpaceName> for Channel {
    fn from(space: SpaceName) -> Self {
        Self { space, alias: None }
    }
}

impl fmt::Display for Channel {
    /// The channel's label below the domain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.alias {
            Some(alias) => write!(f, "{alias}--{}", self.space),
            None => write!(f, "{}", self.space),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back() {
        for label in ["docs", "pr-12--docs", "a--2026"] {
            let channel = Channel::of_label(label).unwrap();
            assert_eq!(channel.to_string(), label);
            assert!(channel.is_addressable());
        }
        for label in ["", "12--docs", "xn--docs", "a--b--docs", "a--", "--docs"] {
            assert_eq!(Channel::of_label(label), None, "{label}");
        }
        let long = format!("{}--{}", "a".repeat(37), "b".repeat(25));
        assert!(!Channel::of_label(&long).unwrap().is_addressable());
        assert!(Channel::of_label(&long[1..]).unwrap().is_addressable());
    }
}
