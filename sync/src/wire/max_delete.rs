//! Deletion limit: the most files of the replaced deploy that a publish may remove.

use std::fmt;
use std::str::FromStr;

use pmx_core::code::Code;
use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::problem::Problem;
use serde::{Deserialize, Serialize};

use super::Summary;

/// The most files that a publish may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxDelete {
    /// A number of files.
    Files(u64),
    /// A percentage of the replaced deploy's files.
    Percent(u8),
}

impl MaxDelete {
    /// Refuses a publish that removes more files of the deploy that it replaces.
    pub fn check(self, summary: &Summary) -> Result<(), Problem> {
        let removed = summary.removed;
        let before = summary.removed + summary.modified + summary.unchanged;
        let is_allowed = match self {
            Self::Files(files) => removed <= files,
            Self::Percent(percent) => {
                u128::from(removed) * 100 <= u128::from(before) * u128::from(percent)
            }
        };
        if is_allowed {
            return Ok(());
        }
        let detail = format!(
            "this would remove {removed} of {before} files, and --max-delete allows {self}"
        );
        Err(Problem::new(Code::MaxDelete, detail))
    }
}

impl fmt::Display for MaxDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => write!(f, "{files}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for MaxDelete {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_suffix('%') {
            Some(percent) => percent
                .parse()
                .ok()
                .filter(|&p| p <= 100)
                .map(Self::Percent),
            None => text
                .parse()
                .ok()
                .filter(|&files| files <= EXACT_INTEGER_MAX)
                .map(Self::Files),
        };
        parsed.ok_or_else(|| "expected a number of files, or a percentage up to 100%".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_are_counted_against_the_bound() {
        for (text, removed, before, allowed) in [
            ("0", 0, 10, true),
            ("0", 1, 10, false),
            ("3", 3, 10, true),
            ("3", 4, 10, false),
            ("30%", 3, 10, true),
            ("30%", 4, 10, false),
            ("50%", 0, 0, true),
            ("100%", 10, 10, true),
        ] {
            let bound: MaxDelete = text.parse().unwrap();
            let summary = Summary {
                added: 5,
                removed,
                unchanged: before - removed,
                ..Summary::default()
            };
            let refused = bound.check(&summary).map_err(|problem| problem.code);
            let expected = if allowed {
                Ok(())
            } else {
                Err(Code::MaxDelete)
            };
            assert_eq!(refused, expected, "{text} {removed}/{before}");
            assert_eq!(bound.to_string(), text);
        }
        for text in ["", "%", "-1", "101%", "many", "9007199254740992"] {
            assert!(text.parse::<MaxDelete>().is_err(), "{text}");
        }
    }
}
