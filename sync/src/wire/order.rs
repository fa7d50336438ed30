//! Build order: a build's place in a sequence. An older build never replaces a newer one.

use std::fmt;

use pmx_core::limits::EXACT_INTEGER_MAX;
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::ORDER_KIND_BYTES_MAX;

/// The place of a build in its sequence. Only orders of equal kinds are comparable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    kind: OrderKind,
    value: u64,
}

/// The name of a sequence of builds. Users name `run` and `commit`. Other names are made from a CI
/// system's variables for the provider, the repository and the workflow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct OrderKind(String);

impl OrderKind {
    /// Parses a kind: printable ASCII without spaces, within its limit.
    pub fn parse(name: &str) -> Option<Self> {
        let is_good = !name.is_empty()
            && name.len() <= ORDER_KIND_BYTES_MAX
            && name.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for OrderKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "an order's kind has 1 to {ORDER_KIND_BYTES_MAX} printable ASCII characters"
            ))
        })
    }
}

impl Order {
    const RUN: &str = "run";
    const COMMIT: &str = "commit";

    /// A place in a sequence.
    pub const fn new(kind: OrderKind, value: u64) -> Self {
        Self { kind, value }
    }

    /// The number of a run, of any build system.
    pub fn run(value: u64) -> Self {
        Self::new(OrderKind(Self::RUN.to_owned()), value)
    }

    /// The time of the commit, in seconds since the Unix epoch.
    pub fn commit(value: u64) -> Self {
        Self::new(OrderKind(Self::COMMIT.to_owned()), value)
    }

    /// The kind's name, as the ledger stores it.
    pub fn kind(&self) -> &str {
        self.kind.as_str()
    }

    /// The place in the sequence.
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// The order of a kind's name and a place; `None` if either exceeds its limits.
    pub fn from_parts(kind: &str, value: u64) -> Option<Self> {
        let kind = OrderKind::parse(kind)?;
        (value <= EXACT_INTEGER_MAX).then_some(Self { kind, value })
    }

    /// Whether this build must not replace one of `live`.
    pub fn is_older_than(&self, live: &Self) -> bool {
        self.kind == live.kind && self.value < live.value
    }

    /// Whether clients older than named sequences can read it.
    fn is_plain(&self) -> bool {
        matches!(self.kind(), Self::RUN | Self::COMMIT)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, value } = self;
        match kind.as_str() {
            Self::RUN => write!(f, "CI run {value}"),
            Self::COMMIT => write!(f, "the commit of Unix time {value}"),
            name => write!(f, "run {value} of {name}"),
        }
    }
}

/// A deploy's order on the wire: `order` if older clients know its kind, else `sequence`, which
/// they ignore.
pub(super) mod of_deploy {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Order;

    #[derive(Serialize)]
    struct Written<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        order: Option<&'a Order>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sequence: Option<&'a Order>,
    }

    #[derive(Deserialize)]
    struct Read {
        #[serde(default)]
        order: Option<Order>,
        #[serde(default)]
        sequence: Option<Order>,
    }

    #[expect(clippy::ref_option, reason = "serde passes it so")]
    pub(in crate::wire) fn serialize<S: Serializer>(
        order: &Option<Order>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let (plain, named) = (
            order.as_ref().filter(|order| order.is_plain()),
            order.as_ref().filter(|order| !order.is_plain()),
        );
        let written = Written {
            order: plain,
            sequence: named,
        };
        written.serialize(serializer)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Order>, D::Error> {
        let Read { order, sequence } = Read::deserialize(deserializer)?;
        Ok(sequence.or(order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_kinds_are_bounded_and_printable() {
        let longest = "k".repeat(ORDER_KIND_BYTES_MAX);
        for good in ["run", "github:1:.github%2Fworkflows%2Fx.yml", &longest] {
            assert!(OrderKind::parse(good).is_some(), "{good}");
        }
        let long = format!("{longest}k");
        for bad in ["", "a b", "a\n", "\u{1b}[2J", "é", &long] {
            assert!(OrderKind::parse(bad).is_none(), "{bad}");
            let json = serde_json::json!({ "kind": bad, "value": 1 });
            assert!(serde_json::from_value::<Order>(json).is_err(), "{bad}");
        }
    }

    #[test]
    fn order_compares_equal_kinds_only() {
        let of = |kind, value| Order::from_parts(kind, value).unwrap();
        assert!(of("github:1:a", 1).is_older_than(&of("github:1:a", 2)));
        for newer in [of("github:1:a", 1), of("github:1:b", 2), of("run", 2)] {
            assert!(!of("github:1:a", 1).is_older_than(&newer), "{newer}");
        }
        assert_eq!(Order::from_parts("run", EXACT_INTEGER_MAX + 1), None);
    }
}
