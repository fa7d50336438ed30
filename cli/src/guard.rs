//! `--max-delete`: how many files a publish may remove.

use std::fmt;
use std::str::FromStr;

use pmx_sync::code::Code;

use crate::error::Failure;

/// The most files that a publish may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxDelete {
    /// So many.
    Files(u64),
    /// So many in a hundred of the active deploy's.
    Percent(u8),
}

impl MaxDelete {
    /// Refuses to remove `removed` of `before` files if that is too many.
    pub fn check(self, removed: u64, before: u64) -> Result<(), Failure> {
        let allowed = match self {
            Self::Files(files) => removed <= files,
            Self::Percent(percent) => {
                u128::from(removed) * 100 <= u128::from(before) * u128::from(percent)
            }
        };
        if allowed {
            return Ok(());
        }
        let message = format!(
            "this would remove {removed} of {before} files, and --max-delete allows {self}"
        );
        Err(Failure::new(Code::MaxDelete, message))
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
            None => text.parse().ok().map(Self::Files),
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
            assert_eq!(
                bound.check(removed, before).is_ok(),
                allowed,
                "{text} {removed}/{before}"
            );
            assert_eq!(bound.to_string(), text);
        }
        for text in ["", "%", "-1", "101%", "many"] {
            assert!(text.parse::<MaxDelete>().is_err(), "{text}");
        }
    }
}
