//! Names of spaces and aliases: DNS labels, parsed once, because host names contain them.
//!
//! Neither kind has two hyphens in a row, so that `<alias>--<space>` splits in one place only. No
//! name begins with `_`, since a label has no underscore.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::code::Code;
use crate::hash::Hash;
use crate::limits::{ALIAS_NAME_BYTES_MAX, SPACE_NAME_BYTES_MAX};
use crate::problem::Problem;

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
/// not a number. A number in front of `--` is a deploy's.
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

    /// The name for a branch, or for any text: `Feature/Login_Page` is `feature-login-page`. A name
    /// that has to be cut ends with digits of the text's hash, so that two long branches differ.
    pub fn slug(text: &str) -> Result<Self, InvalidName> {
        let label = label_of(text);
        if label.is_empty() {
            refuse(Some(LabelFault::NoLetters), text)?;
        }
        if label.len() <= ALIAS_NAME_BYTES_MAX {
            return Self::parse(&label);
        }
        let hash = Hash::of(text.as_bytes()).to_hex();
        let room = ALIAS_NAME_BYTES_MAX - SLUG_DIGITS - 1;
        let cut = label[..room].trim_end_matches('-');
        Self::parse(&format!("{cut}-{}", &hash[..SLUG_DIGITS]))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Digits of a hash at the end of a name that was cut.
const SLUG_DIGITS: usize = 8;

/// Letters and digits of a text, without accents, and a hyphen for each gap between them.
fn label_of(text: &str) -> String {
    let mut label = String::new();
    let chars = text.nfkd().filter(|&char| !is_combining_mark(char));
    for char in chars.flat_map(char::to_lowercase) {
        match char {
            'a'..='z' | '0'..='9' => label.push(char),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.truncate(label.trim_end_matches('-').len());
    label
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

/// Names under the domain that mean the service itself, or that programs look up automatically and
/// trust (`wpad`, `autodiscover`). Sorted.
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
];

fn label_fault(text: &str, bytes_max: usize) -> Option<LabelFault> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() {
        Some(LabelFault::Empty)
    } else if text.len() > bytes_max {
        Some(LabelFault::TooLong { bytes_max })
    } else if !text.bytes().all(legal) {
        Some(LabelFault::Character)
    } else if text.starts_with('-') || text.ends_with('-') {
        Some(LabelFault::OuterHyphen)
    } else if text.contains("--") {
        Some(LabelFault::DoubleHyphen)
    } else {
        None
    }
}

fn number_fault(text: &str) -> Option<LabelFault> {
    let number = text.bytes().all(|b| b.is_ascii_digit());
    number.then_some(LabelFault::Number)
}

fn refuse(fault: Option<LabelFault>, text: &str) -> Result<(), InvalidName> {
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
    /// The text is not a label.
    #[error("{name:?} can't be a name: {reason}")]
    Invalid {
        /// The text, shortened.
        name: String,
        /// The fault.
        reason: LabelFault,
    },
    /// The text is a reserved label.
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

/// Fault of a name.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum LabelFault {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The text has no letter or digit of a label.
    #[error("it has no letter a-z and no digit; choose another name, such as preview-1")]
    NoLetters,
    /// The text is longer than its kind allows.
    #[error("it is longer than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// A character other than `a-z`, `0-9` and `-`.
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

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Self::new(error.code(), error.to_string())
    }
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
        for good in [
            "a",
            "docs",
            "my-site",
            "2026",
            "a1-b2",
            "www",
            &"x".repeat(63),
        ] {
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
    fn slug_makes_a_name_of_a_branch() {
        let slug = |text: &str| AliasName::slug(text).map(|name| name.as_str().to_owned());
        for (text, expected) in [
            ("pr-7", "pr-7"),
            ("feature/X", "feature-x"),
            ("Feature/Login_Page", "feature-login-page"),
            ("refs/heads/a--b", "refs-heads-a-b"),
            ("-x-", "x"),
            ("\u{dc}bung caf\u{e9}", "ubung-cafe"),
            (&"x".repeat(37), &"x".repeat(37)),
        ] {
            assert_eq!(slug(text).as_deref(), Ok(expected), "{text}");
        }
        let (one, two) = (
            slug(&"a/".repeat(40)).unwrap(),
            slug(&"a/".repeat(41)).unwrap(),
        );
        assert!(
            one.len() <= ALIAS_NAME_BYTES_MAX && one.starts_with("a-a-"),
            "{one}"
        );
        assert_ne!(one, two);
        for text in ["", "///", "\u{65e5}\u{672c}", "12", "xn"] {
            assert!(slug(text).is_err(), "{text}");
        }
        let text = AliasName::slug("/").unwrap_err().to_string();
        assert!(text.contains("such as preview-1"), "{text}");
    }

    #[test]
    fn alias_is_no_number_and_short() {
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
