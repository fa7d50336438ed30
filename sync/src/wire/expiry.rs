//! Expiry of a preview: how long it stays after a publish.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use pmx_core::time::{Timestamp, parse_duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::PREVIEW_TIME_MAX;

/// How long a preview stays after a publish. On the wire it is a number of milliseconds; 0 is
/// [`PreviewExpiry::Never`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewExpiry {
    /// Until it is removed.
    Never,
    /// So long, from the moment of the publish.
    After(Duration),
}

impl PreviewExpiry {
    /// The end of a preview that is published now.
    pub fn end(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::After(time) => Some(now.after(time)),
        }
    }

    fn of_millis(millis: u64) -> Result<Self, String> {
        match Duration::from_millis(millis) {
            Duration::ZERO => Ok(Self::Never),
            time if time > PREVIEW_TIME_MAX => Err(format!(
                "{} days is more than the {} that a preview may stay; `never` has no end",
                time.as_secs() / 86_400,
                PREVIEW_TIME_MAX.as_secs() / 86_400
            )),
            time => Ok(Self::After(time)),
        }
    }
}

impl FromStr for PreviewExpiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let time = parse_duration(text);
        let time = time.ok_or("expected a time such as 12h or 7d, or never")?;
        Self::of_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for PreviewExpiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::After(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

impl Serialize for PreviewExpiry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = match self {
            Self::Never => 0,
            Self::After(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        };
        serializer.serialize_u64(millis)
    }
}

impl<'de> Deserialize<'de> for PreviewExpiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let millis = u64::deserialize(deserializer)?;
        Self::of_millis(millis).map_err(serde::de::Error::custom)
    }
}

/// An expiry as people write it: `12h`, `7d` or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExpiryText(pub PreviewExpiry);

impl TryFrom<String> for ExpiryText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl From<ExpiryText> for String {
    fn from(ExpiryText(expiry): ExpiryText) -> Self {
        expiry.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_a_time_with_a_unit_within_bounds() {
        let days = |days: u64| Ok(PreviewExpiry::After(Duration::from_hours(24 * days)));
        for (text, expected) in [
            ("7d", days(7)),
            ("365d", days(365)),
            ("36h", Ok(PreviewExpiry::After(Duration::from_hours(36)))),
            ("never", Ok(PreviewExpiry::Never)),
        ] {
            assert_eq!(text.parse::<PreviewExpiry>(), expected, "{text}");
            let spelt = serde_json::to_string(&expected.unwrap()).unwrap();
            assert_eq!(
                serde_json::from_str::<PreviewExpiry>(&spelt).ok(),
                text.parse().ok()
            );
        }
        for text in [
            "",
            "0s",
            "7",
            "d",
            "-1d",
            "366d",
            "99999999999999999999d",
            "1w",
        ] {
            assert!(text.parse::<PreviewExpiry>().is_err(), "{text}");
        }
        for json in ["-1", "1.5", "\"7d\"", "18446744073709551615"] {
            assert!(
                serde_json::from_str::<PreviewExpiry>(json).is_err(),
                "{json}"
            );
        }
    }
}
