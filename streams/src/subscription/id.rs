//! Subscription id, chosen by the client.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use thiserror::Error;

use crate::limits::SUBSCRIPTION_ID_BYTES_MAX;

/// A subscription's id, percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SubscriptionId(String);

/// The text is not a subscription id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the id of a subscription has 1 to {SUBSCRIPTION_ID_BYTES_MAX} bytes, none of a control")]
pub struct InvalidSubscriptionId;

/// Characters that a path segment percent-encodes: all but the unreserved ones (RFC 3986, 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

impl SubscriptionId {
    /// Parses a percent-decoded id.
    pub fn parse(text: &str) -> Result<Self, InvalidSubscriptionId> {
        let fits = !text.is_empty() && text.len() <= SUBSCRIPTION_ID_BYTES_MAX;
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSubscriptionId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a percent-encoded path segment.
    pub fn segment(&self) -> impl fmt::Display + '_ {
        utf8_percent_encode(&self.0, SEGMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscription_ids_are_short_texts_and_encode_as_one_segment() {
        let long = "x".repeat(SUBSCRIPTION_ID_BYTES_MAX + 1);
        for (text, fits) in [
            ("sub-1", true),
            ("caf\u{e9} / 1", true),
            ("", false),
            ("a\nb", false),
            (&long, false),
        ] {
            assert_eq!(SubscriptionId::parse(text).is_ok(), fits, "{text:?}");
        }
        let id = SubscriptionId::parse("caf\u{e9} / 1_~.-").unwrap();
        assert_eq!(id.segment().to_string(), "caf%C3%A9%20%2F%201_~.-");
    }
}
