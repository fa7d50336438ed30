//! Stream patterns: globs over the names of streams.
//!
//! `*` matches one segment of a name and `**` any number of them, including zero. Every other
//! segment matches itself, and `%2A` matches a literal `*`. No pattern matches a name that begins
//! with the reserved segment: no stream has such a name.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::RESERVED;
use crate::StreamName;
use crate::limits::STREAM_NAME_BYTES_MAX;
use crate::registry::REGISTRY;

/// A glob over stream names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// The text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a pattern has 1 to {STREAM_NAME_BYTES_MAX} characters of an address")]
pub struct InvalidPattern;

impl Pattern {
    /// Parses a pattern. Leading and trailing slashes are ignored.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let text = text.trim_matches('/');
        // A pattern has the characters and the length of a name.
        StreamName::parse(text).map_err(|_| InvalidPattern)?;
        Ok(Self(text.to_owned()))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The literal prefix of every name that matches: a listing can begin there.
    pub fn prefix(&self) -> &str {
        match self.0.find(['*', '%']) {
            Some(at) => self.0.split_at(at).0.trim_end_matches('/'),
            None => &self.0,
        }
    }

    /// Whether the pattern matches the name. Only the registry's own name matches the registry,
    /// because it grows with every stream.
    pub fn matches(&self, name: &StreamName) -> bool {
        let is_special = is_reserved(name) || name.as_str() == REGISTRY && self.0 != REGISTRY;
        !is_special && matches(&segments(&self.0), &segments(name.as_str()))
    }
}

/// Whether the name begins with the reserved segment.
pub(super) fn is_reserved(name: &StreamName) -> bool {
    segments(name.as_str()).first() == Some(&RESERVED)
}

fn segments(text: &str) -> Vec<&str> {
    text.split('/').filter(|part| !part.is_empty()).collect()
}

/// Matches with backtracking to the last `**` only: it can take whatever an earlier one could. So
/// the work is bounded by the product of both lengths.
fn matches(pattern: &[&str], name: &[&str]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (Some(&"**"), _) => {
                retry = Some((p, n));
                p += 1;
            }
            (Some(part), Some(segment)) if fits(part, segment) => {
                p += 1;
                n += 1;
            }
            (None, None) => return true,
            (None | Some(_), Some(_)) => match retry {
                Some((at, taken)) => {
                    retry = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
            (Some(_), None) => return false,
        }
    }
}

fn fits(part: &str, segment: &str) -> bool {
    part == "*" || part == segment || part.replace("%2A", "*").replace("%2a", "*") == segment
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, name: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.matches(&StreamName::parse(name).unwrap())
    }

    #[test]
    fn matches_follows_the_protocol() {
        for (pattern, name, expected) in [
            ("events/*", "events/a", true),
            ("events/*", "events", false),
            ("events/*", "events/a/b", false),
            ("/events/*/", "events/a", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**", "a/b/c", true),
            ("events/**", "events", true),
            ("events/**", "events/a/b", true),
            ("**/end", "end", true),
            ("**/end", "a/b/end", true),
            ("**/end", "a/end/b", false),
            ("a/**/b/*/c", "a/b/x/b/y/c", true),
            ("a/**/b/**/c", "a/b/c/c", true),
            ("**/**", "a", true),
            ("a/%2A", "a/*", true),
            ("a/%2A", "a/b", false),
            ("ev*", "events", false),
            ("ev*", "ev*", true),
            ("**", "__ds/subscriptions/a", false),
            ("__ds/*", "__ds/jwks.json", false),
            ("**", "__registry__", false),
            ("__registry__", "__registry__", true),
            ("*", "__other__", true),
        ] {
            assert_eq!(check(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn prefix_is_the_literal_part_before_a_wildcard() {
        for (pattern, prefix) in [
            ("events/*", "events"),
            ("events/a*", "events/a"),
            ("**", ""),
            ("a/%2A/b", "a"),
            ("a/b", "a/b"),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().prefix(), prefix);
        }
    }

    /// The protocol's definition, with exponential cost.
    fn naive(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => {
                (0..=name.len()).any(|taken| naive(rest, name.get(taken..).unwrap_or_default()))
            }
            (None, Some(_)) | (Some(_), None) => false,
            (Some((part, rest)), Some((segment, left))) => {
                (*part == "*" || part == segment) && naive(rest, left)
            }
        }
    }

    proptest! {
        #[test]
        fn matches_agrees_with_the_naive_definition(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..7),
            name in prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..8),
        ) {
            let expected = naive(&pattern, &name);
            prop_assert_eq!(check(&pattern.join("/"), &name.join("/")), expected);
        }
    }

    #[test]
    fn matches_takes_polynomial_time_with_many_wildcards() {
        let pattern = "**/a/".repeat(150) + "b";
        let name = "a/".repeat(500) + "c";
        assert!(!check(&pattern, &name));
    }
}
