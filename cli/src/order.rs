//! Where a build stands in its sequence, from `--order` or from the CI system's environment.

use std::str::FromStr;

use pmx_sync::limits::EXACT_INTEGER_MAX;
use pmx_sync::wire::Order;

use crate::env::Environment;

/// What `--order` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OrderChoice {
    /// The number of the run under CI, nothing elsewhere.
    #[default]
    Auto,
    /// Nothing: this build replaces whatever is live.
    None,
    /// This.
    Given(Order),
}

impl OrderChoice {
    /// The order to send.
    pub fn resolve(self, env: &Environment) -> Option<Order> {
        match self {
            Self::Auto => env.ci_run().map(Order::Run),
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
        let value = number
            .parse()
            .ok()
            .filter(|&n| digits && n <= EXACT_INTEGER_MAX);
        value
            .and_then(|value| Order::from_parts(kind, value))
            .map(Self::Given)
            .ok_or_else(|| "expected auto, none, run:N, commit:SECONDS or N".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().copied().collect()
    }

    #[test]
    fn orders_are_parsed() {
        for (text, expected) in [
            ("auto", OrderChoice::Auto),
            ("none", OrderChoice::None),
            ("7", OrderChoice::Given(Order::Run(7))),
            ("run:7", OrderChoice::Given(Order::Run(7))),
            (
                "commit:1700000000",
                OrderChoice::Given(Order::Commit(1_700_000_000)),
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

    #[test]
    fn a_run_is_sent_only_under_ci() {
        let cases: &[(&[(&str, &str)], Option<u64>)] = &[
            (&[], None),
            (&[("CI", "true")], None),
            (&[("CI", "true"), ("GITHUB_RUN_NUMBER", "41")], Some(41)),
            (&[("CI_PIPELINE_IID", "5")], Some(5)),
            (&[("BUILDKITE_BUILD_NUMBER", "6")], Some(6)),
            (&[("GITHUB_RUN_NUMBER", "many")], None),
            // Jenkins's name is too plain to be believed alone.
            (&[("BUILD_NUMBER", "9")], None),
            (
                &[("BUILD_NUMBER", "9"), ("JENKINS_URL", "http://ci")],
                Some(9),
            ),
        ];
        for (pairs, run) in cases {
            let expected = run.map(Order::Run);
            assert_eq!(
                OrderChoice::Auto.resolve(&env(pairs)),
                expected,
                "{pairs:?}"
            );
            assert_eq!(OrderChoice::None.resolve(&env(pairs)), None);
        }
    }
}
