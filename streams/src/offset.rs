//! Offset: a position in a stream.

use std::fmt;

use pmx_core::limits::EXACT_INTEGER_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A place in a stream: between two appends, or between two messages of a JSON stream.
///
/// It is spelt as two numbers of 16 digits. The first is the incarnation: how many streams had the
/// name before, as far as the server remembers. The second counts from the stream's beginning and
/// never starts again, whatever is moved to cold storage, and a fork goes on where it left its
/// source. So an offset needs no table to be understood, and offsets sort as text.
///
/// A place inside an append means the whole append, unless it is spelt with a third number: only
/// the server hands out such offsets, where it has sent a part of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    incarnation: u64,
    position: u64,
    inside: bool,
}

/// The text is no offset.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("an offset is two numbers joined by an underscore")]
pub struct InvalidOffset;

impl Offset {
    /// Where every stream begins.
    pub const ZERO: Self = Self::at(0);

    /// The place after so many bytes or messages, in the first stream of a name.
    pub const fn at(position: u64) -> Self {
        Self {
            incarnation: 0,
            position,
            inside: false,
        }
    }

    /// The same place in another stream of the name.
    #[must_use]
    pub const fn of_incarnation(self, incarnation: u64) -> Self {
        Self {
            incarnation,
            ..self
        }
    }

    /// Another place of the same stream.
    #[must_use]
    pub const fn moved_to(self, position: u64) -> Self {
        Self {
            position,
            inside: false,
            ..self
        }
    }

    /// This very place, also if it lies inside an append.
    #[must_use]
    pub const fn inside(self) -> Self {
        Self {
            inside: true,
            ..self
        }
    }

    /// How many bytes or messages lie before it.
    pub const fn position(self) -> u64 {
        self.position
    }

    /// How many streams had the name before.
    pub const fn incarnation(self) -> u64 {
        self.incarnation
    }

    /// Whether it may lie inside an append.
    pub const fn is_inside(self) -> bool {
        self.inside
    }

    /// Reads an offset.
    pub fn parse(text: &str) -> Result<Self, InvalidOffset> {
        let (incarnation, place) = text.split_once('_').ok_or(InvalidOffset)?;
        let (position, inside) = match place.strip_suffix(INSIDE) {
            Some(position) => (position, true),
            None => (place, false),
        };
        Ok(Self {
            incarnation: number(incarnation)?,
            position: number(position)?,
            inside,
        })
    }
}

/// What follows the position of a place inside an append.
const INSIDE: &str = "_1";

/// As it always was where two numbers say nothing new: a number; else as text.
impl Serialize for Offset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::at(self.position) {
            serializer.serialize_u64(self.position)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Kept {
            Position(u64),
            Text(String),
        }
        match Kept::deserialize(deserializer)? {
            Kept::Position(position) => Ok(Self::at(position)),
            Kept::Text(text) => Self::parse(&text).map_err(serde::de::Error::custom),
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
        let inside = if self.inside { INSIDE } else { "" };
        write!(f, "{:016}_{:016}{inside}", self.incarnation, self.position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offset() -> impl Strategy<Value = Offset> {
        let numbers = (0..=EXACT_INTEGER_MAX, 0..=EXACT_INTEGER_MAX, any::<bool>());
        numbers.prop_map(|(incarnation, position, inside)| {
            let offset = Offset::at(position).of_incarnation(incarnation);
            if inside { offset.inside() } else { offset }
        })
    }

    proptest! {
        #[test]
        fn offsets_return_and_sort_as_text(a in offset(), b in offset()) {
            prop_assert_eq!(Offset::parse(&a.to_string()), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            let kept = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Offset>(&kept).unwrap(), a);
        }
    }

    /// What a database of the first release has.
    #[test]
    fn offsets_of_the_first_release_are_numbers() {
        assert_eq!(serde_json::from_str::<Offset>("7").unwrap(), Offset::at(7));
        assert_eq!(serde_json::to_string(&Offset::at(7)).unwrap(), "7");
    }

    #[test]
    fn spellings() {
        let far = Ok(Offset::at(EXACT_INTEGER_MAX));
        for (text, expected) in [
            ("0000000000000000_0000000000000000", Ok(Offset::ZERO)),
            ("0_7", Ok(Offset::at(7))),
            ("2_7", Ok(Offset::at(7).of_incarnation(2))),
            ("0_7_1", Ok(Offset::at(7).inside())),
            (
                "9999999999999999_9999999999999999",
                Ok(Offset::at(EXACT_INTEGER_MAX).of_incarnation(EXACT_INTEGER_MAX)),
            ),
            ("0_99999999999999999999999", far),
            ("", Err(InvalidOffset)),
            ("-1", Err(InvalidOffset)),
            ("now", Err(InvalidOffset)),
            ("0_", Err(InvalidOffset)),
            ("0_+7", Err(InvalidOffset)),
            ("0_7_7", Err(InvalidOffset)),
            ("0_7_1_1", Err(InvalidOffset)),
            ("0__1", Err(InvalidOffset)),
            (" 0_7", Err(InvalidOffset)),
        ] {
            assert_eq!(Offset::parse(text), expected, "{text}");
        }
    }
}
