//! Offset: a position in a stream.

use std::fmt;

use pmx_core::limits::EXACT_INTEGER_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A position in a stream: between two appends, or between two messages of a JSON stream.
///
/// Its text is two numbers of 16 digits. The first is the incarnation: the number of earlier
/// streams of the name, as far as the server has stored it. The second counts from the stream's
/// beginning, in cold storage too, and a fork continues the count of its source. So an offset needs
/// no lookup, and offsets sort as text.
///
/// A position inside an append means the whole append, unless the text has a third number. The
/// server issues such offsets where it has sent a part of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    incarnation: u64,
    position: u64,
    inside: bool,
}

/// The text is not an offset.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("an offset is two numbers joined by an underscore")]
pub struct InvalidOffset;

impl Offset {
    /// The beginning of every stream.
    pub const ZERO: Self = Self::at(0);

    /// The offset after that many bytes or messages, in the first stream of a name.
    pub const fn at(position: u64) -> Self {
        Self {
            incarnation: 0,
            position,
            inside: false,
        }
    }

    /// The same position in another incarnation.
    #[must_use]
    pub const fn of_incarnation(self, incarnation: u64) -> Self {
        Self {
            incarnation,
            ..self
        }
    }

    /// Another position of the same incarnation.
    #[must_use]
    pub const fn moved_to(self, position: u64) -> Self {
        Self {
            position,
            inside: false,
            ..self
        }
    }

    /// This exact position, also inside an append.
    #[must_use]
    pub const fn inside(self) -> Self {
        Self {
            inside: true,
            ..self
        }
    }

    /// The number of bytes or messages before it.
    pub const fn position(self) -> u64 {
        self.position
    }

    /// The number of earlier streams of the name.
    pub const fn incarnation(self) -> u64 {
        self.incarnation
    }

    /// Whether it may be inside an append.
    pub const fn is_inside(self) -> bool {
        self.inside
    }

    /// Parses an offset.
    pub fn parse(text: &str) -> Result<Self, InvalidOffset> {
        let (incarnation, rest) = text.split_once('_').ok_or(InvalidOffset)?;
        let (position, inside) = match rest.strip_suffix(INSIDE) {
            Some(position) => (position, true),
            None => (rest, false),
        };
        Ok(Self {
            incarnation: number(incarnation)?,
            position: number(position)?,
            inside,
        })
    }
}

/// Suffix of an offset inside an append.
const INSIDE: &str = "_1";

/// A number if the position alone determines the offset, as in the first release; else text.
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
        enum Stored {
            Position(u64),
            Text(String),
        }
        match Stored::deserialize(deserializer)? {
            Stored::Position(position) => Ok(Self::at(position)),
            Stored::Text(text) => Self::parse(&text).map_err(serde::de::Error::custom),
        }
    }
}

/// Parses a number of any length, saturating at the largest exact integer.
fn number(digits: &str) -> Result<u64, InvalidOffset> {
    let short = digits.len() <= DIGITS_MAX && !digits.is_empty();
    if !short || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidOffset);
    }
    let number = digits.parse().unwrap_or(EXACT_INTEGER_MAX);
    Ok(number.min(EXACT_INTEGER_MAX))
}

/// Longest number that is parsed, so that the text of an offset is bounded.
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
        fn offsets_parse_from_their_text_and_sort_as_text(a in offset(), b in offset()) {
            prop_assert_eq!(Offset::parse(&a.to_string()), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            let kept = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Offset>(&kept).unwrap(), a);
        }
    }

    #[test]
    fn offsets_of_the_first_release_deserialise_from_numbers() {
        assert_eq!(serde_json::from_str::<Offset>("7").unwrap(), Offset::at(7));
        assert_eq!(serde_json::to_string(&Offset::at(7)).unwrap(), "7");
    }

    #[test]
    fn parse_accepts_two_numbers_and_an_optional_third() {
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
