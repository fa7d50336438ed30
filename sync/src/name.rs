//! The names of spaces and aliases: DNS labels, parsed once, because they are read from host names.
//!
//! Neither has two hyphens in a row, so that `<alias>--<space>` splits in one place only. No
//! `_x` can be a name, since a label has no underscore.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::code::Code;
use crate::limits::{ALIAS_NAME_BYTES_MAX, SPACE_NAME_BYTES_MAX};

/// The name of a space: a lower-case DNS label of at most [`SPACE_NAME_BYTES_MAX`] bytes.
///
/// It may be all digits (`2026` is a fair name for a site): a deploy's number is only ever read in
/// front of `--`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceName(Arc<str>);

impl SpaceName {
    /// Parses a name, refusing those that the service keeps for itself.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        refuse(label_fault(text, SPACE_NAME_BYTES_MAX), text)?;
        if RESERVED_SPACES.binary_search(&text).is_ok() {
            return Err(InvalidName::Reserved { name: text.into() });
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an alias: a lower-case DNS label of at most [`ALIAS_NAME_BYTES_MAX`] bytes that is
/// not a number, since a number in front of `--` is a deploy's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AliasName(Arc<str>);

impl AliasName {
    /// Parses a name. `xn` is reserved: `xn--space` would be an internationalised label (RFC 5890,
    /// section 2.3.2.1), which browsers decode.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let fault = label_fault(text, ALIAS_NAME_BYTES_MAX);
        refuse(fault.or_else(|| number_fault(text)), text)?;
        if text == "xn" {
            return Err(InvalidName::Reserved { name: text.into() });
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(SpaceName);
as_text!(AliasName);

/// Names under the domain that mean the service itself, or that programs look up by themselves and
/// would trust (`wpad`, `autodiscover`). Sorted.
const RESERVED_SPACES: &[&str] = &[
    "admin",
    "api",
    "autoconfig",
    "autodiscover",
    "broadcasthost",
    "ftp",
    "imap",
    "isatap",
    "localdomain",
    "localhost",
    "mail",
    "ns",
    "ns1",
    "ns2",
    "ns3",
    "ns4",
    "pmx",
    "pop",
    "root",
    "smtp",
    "status",
    "stream",
    "wpad",
    "www",
];

fn label_fault(text: &str, bytes_max: usize) -> Option<NameFault> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() {
        Some(NameFault::Empty)
    } else if text.len() > bytes_max {
        Some(NameFault::TooLong { bytes_max })
    } else if !text.bytes().all(legal) {
        Some(NameFault::Character)
    } else if text.starts_with('-') || text.ends_with('-') {
        Some(NameFault::OuterHyphen)
    } else if text.contains("--") {
        Some(NameFault::DoubleHyphen)
    } else {
        None
    }
}

fn number_fault(text: &str) -> Option<NameFault> {
    let number = text.bytes().all(|b| b.is_ascii_digit());
    number.then_some(NameFault::Number)
}

fn refuse(fault: Option<NameFault>, text: &str) -> Result<(), InvalidName> {
    match fault {
        None => Ok(()),
        Some(reason) => Err(InvalidName::Invalid {
            name: text.chars().take(80).collect(),
            reason,
        }),
    }
}

/// The text is not a name of this kind.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum InvalidName {
    /// It is not a label.
    #[error("{name:?} can't be a name: {reason}")]
    Invalid {
        /// The text, shortened.
        name: String,
        /// What is wrong with it.
        reason: NameFault,
    },
    /// It is a label that nobody may have.
    #[error("the name {name:?} is reserved")]
    Reserved {
        /// The name.
        name: String,
    },
}

impl InvalidName {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } => Code::NameInvalid,
            Self::Reserved { .. } => Code::NameReserved,
        }
    }
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum NameFault {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// It is longer than its kind allows.
    #[error("it is longer than {bytes_max} bytes")]
    TooLong {
        /// The bound that it passes.
        bytes_max: usize,
    },
    /// Something else than `a-z`, `0-9` and `-`.
    #[error("only lower-case letters, digits and hyphens are allowed")]
    Character,
    /// A hyphen at either end.
    #[error("it starts or ends with a hyphen")]
    OuterHyphen,
    /// `--`, which separates an alias from its space.
    #[error("it has two hyphens in a row")]
    DoubleHyphen,
    /// An alias that would be read as the number of a deploy.
    #[error("a number names a deploy")]
    Number,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(text: &str) -> Result<(), Code> {
        SpaceName::parse(text)
            .map(drop)
            .map_err(|error| error.code())
    }

    fn alias(text: &str) -> Result<(), Code> {
        AliasName::parse(text)
            .map(drop)
            .map_err(|error| error.code())
    }

    #[test]
    fn names_are_labels() {
        for good in ["a", "docs", "my-site", "2026", "a1-b2", &"x".repeat(63)] {
            assert_eq!(space(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a--b",
            "xn--bcher-kva",
            "_x",
            "A",
            "a.b",
            "a b",
            "a\n",
            "b\u{fc}cher",
            &"x".repeat(64),
        ] {
            assert_eq!(space(bad), Err(Code::NameInvalid), "{bad:?}");
            assert_eq!(alias(bad), Err(Code::NameInvalid), "{bad:?}");
        }
    }

    #[test]
    fn reserved_names_are_refused_as_such() {
        assert!(RESERVED_SPACES.is_sorted());
        for name in RESERVED_SPACES {
            assert_eq!(space(name), Err(Code::NameReserved), "{name}");
        }
        assert_eq!(alias("xn"), Err(Code::NameReserved));
    }

    #[test]
    fn an_alias_is_no_number_and_short() {
        assert_eq!(alias("12"), Err(Code::NameInvalid));
        assert_eq!(alias("v12"), Ok(()));
        assert_eq!(alias(&"x".repeat(37)), Ok(()));
        assert_eq!(alias(&"x".repeat(38)), Err(Code::NameInvalid));
    }

    #[test]
    fn names_travel_as_strings_and_are_parsed_on_arrival() {
        let name = SpaceName::parse("docs").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), r#""docs""#);
        assert_eq!(
            serde_json::from_str::<SpaceName>(r#""docs""#).unwrap(),
            name
        );
        assert!(serde_json::from_str::<SpaceName>(r#""a--b""#).is_err());
    }
}
