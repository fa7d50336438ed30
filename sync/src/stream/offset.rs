//! A place in a stream.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::EXACT_INTEGER_MAX;

/// A place in a stream: between two bytes, or between two messages of a JSON stream.
///
/// It is spelt as two numbers of 16 digits. The first is always zero; the second counts from the
/// stream's beginning and never starts again, whatever is moved to cold storage, and a fork goes
/// on where it left its source. So an offset needs no table to be understood, and offsets sort as
/// text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(u64);

/// The text is no offset.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("an offset is two numbers joined by an underscore")]
pub struct InvalidOffset;

impl Offset {
    /// Where every stream begins.
    pub const ZERO: Self = Self(0);

    /// The place after so many bytes or messages.
    pub const fn at(position: u64) -> Self {
        Self(position)
    }

    /// How many bytes or messages lie before it.
    pub const fn position(self) -> u64 {
        self.0
    }

    /// Reads an offset. One whose first number is not zero is none of ours, but it is spelt like
    /// one: it lies beyond every tail.
    pub fn parse(text: &str) -> Result<Self, InvalidOffset> {
        let (epoch, position) = text.split_once('_').ok_or(InvalidOffset)?;
        match (number(epoch)?, number(position)?) {
            (0, position) => Ok(Self(position)),
            (_, _) => Ok(Self(EXACT_INTEGER_MAX)),
        }
    }
}

/// A number of any length; beyond what is exact all are the same.
fn number(digits: &str) -> Result<u64, InvalidOffset> {
    let short = digits.len() <= DIGITS_MAX && !digits.is_empty();
    if !short || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidOffset);
    }
    let number = digits.parse().unwrap_or(EXACT_INTEGER_MAX);
    Ok(number.min(EXACT_INTEGER_MAX))
}

/// Digits that are read; two numbers of them stay below what any protocol calls an offset.
const DIGITS_MAX: usize = 120;

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}_{:016}", 0, self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn offsets_return_and_sort_as_text(a in 0..=EXACT_INTEGER_MAX, b in 0..=EXACT_INTEGER_MAX) {
            let (a, b) = (Offset::at(a), Offset::at(b));
            prop_assert_eq!(Offset::parse(&a.to_string()), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }

    #[test]
    fn spellings() {
        let far = Ok(Offset::at(EXACT_INTEGER_MAX));
        for (text, expected) in [
            ("0000000000000000_0000000000000000", Ok(Offset::ZERO)),
            ("0_7", Ok(Offset::at(7))),
            ("9999999999999999_9999999999999999", far.clone()),
            ("0_99999999999999999999999", far),
            ("", Err(InvalidOffset)),
            ("-1", Err(InvalidOffset)),
            ("now", Err(InvalidOffset)),
            ("0_", Err(InvalidOffset)),
            ("0_+7", Err(InvalidOffset)),
            ("0_7_7", Err(InvalidOffset)),
            (" 0_7", Err(InvalidOffset)),
        ] {
            assert_eq!(Offset::parse(text), expected, "{text}");
        }
    }
}
