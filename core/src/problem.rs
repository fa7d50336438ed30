//! Problem details (RFC 9457): errors in responses, with a stable code.

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::limits::EXACT_INTEGER_MAX;

/// The media type of errors.
pub const PROBLEM_MEDIA: &str = "application/problem+json";

/// Refuses a number that is not exact in JSON or in a Durable Object's database.
pub fn check_number(name: &str, number: Option<u64>) -> Result<(), Problem> {
    match number {
        Some(number) if number > EXACT_INTEGER_MAX => {
            let detail = format!("{name} is {number}, above the limit of {EXACT_INTEGER_MAX}");
            Err(Problem::new(Code::NumberTooLarge, detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// A failure, in the form that is sent and received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The kind of failure.
    pub code: Code,
    /// The HTTP status.
    pub status: u16,
    /// The meaning of the code, in a few words.
    pub title: String,
    /// The operation, its object, and the reason why it failed.
    pub detail: String,
    /// The hint for the user.
    pub hint: String,
    /// The active deploy, if it helps to resolve a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<u64>,
    /// Some of the paths or ids concerned, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
}

impl Problem {
    /// A problem with a code, and the details of the failure.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status(),
            title: code
                .explanation()
                .split(". ")
                .next()
                .unwrap_or_default()
                .to_owned(),
            detail: detail.into(),
            hint: code.hint().to_owned(),
            active: None,
            items: Vec::new(),
        }
    }

    /// Adds the active deploy.
    #[must_use]
    pub fn with_active(mut self, number: Option<u64>) -> Self {
        self.active = number;
        self
    }

    /// Adds the paths or ids concerned.
    #[must_use]
    pub fn with_items(mut self, items: Vec<String>) -> Self {
        self.items = items;
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Problem {}
