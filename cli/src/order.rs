//! Build order: a build's number in its sequence, from `--order` or from the CI environment.

use std::str::FromStr;

use pmx_core::code::Code;
use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_sync::wire::Order;

use crate::ci;
use crate::env::Environment;

/// Value of `--order`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OrderChoice {
    /// The number of the run under CI, in its own sequence; no order elsewhere.
    #[default]
    Auto,
    /// No order: this build replaces any active deploy.
    None,
    /// The user's order.
    Given(Order),
}

impl OrderChoice {
    /// The order to send.
    pub fn resolve(self, env: &Environment) -> Option<Order> {
        match self {
            Self::Auto => ci::order(env),
            Self::None => None,
            Self::Given(order) => Some(order),
        }
    }
}

impl FromStr for OrderChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let (kind, number) = text.split_once(':').unwrap_or(("run", text));
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let value: u64 = match number.parse() {
            Ok(value) if digits && value <= EXACT_INTEGER_MAX => value,
            Ok(_) | Err(_) if digits => return Err(too_large(number)),
            Ok(_) | Err(_) => return Err(EXPECTED.into()),
        };
        match kind {
            "run" => Ok(Self::Given(Order::run(value))),
            "commit" => Ok(Self::Given(Order::commit(value))),
            _ => Err(EXPECTED.into()),
        }
    }
}

const EXPECTED: &str = "expected auto, none, run:N, commit:SECONDS or N";

/// The server's error for the same number, so that a search for the code finds both.
fn too_large(number: &str) -> String {
    let code = Code::NumberTooLarge;
    format!("{code}: {number} is above the limit of {EXACT_INTEGER_MAX}")
}

/// What to make of a newer build that was published before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Older {
    /// A failure.
    #[default]
    Refuse,
    /// Nothing: the publish is superseded.
    Ok,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_parsed() {
        for (text, expected) in [
            ("auto", OrderChoice::Auto),
            ("none", OrderChoice::None),
            ("7", OrderChoice::Given(Order::run(7))),
            ("run:7", OrderChoice::Given(Order::run(7))),
            (
                "commit:1700000000",
                OrderChoice::Given(Order::commit(1_700_000_000)),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "run:",
            "run:-1",
            "+7",
            "run:+7",
            "build:7",
            "x",
            "9007199254740992",
        ] {
            assert!(text.parse::<OrderChoice>().is_err(), "{text}");
        }
    }
}
