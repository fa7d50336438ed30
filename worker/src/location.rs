//! Location hints: where in the world Cloudflare creates the objects of spaces.
//!
//! An object stays where its first request created it, even if a stranger sent that request. So
//! each request names the operator's location, if one is set. The platform uses the first hint and
//! ignores later ones.

use pmx_core::code::Code;
use pmx_core::problem::Problem;

/// A location that Cloudflare knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocationHint(&'static str);

/// All locations (docs: durable-objects/reference/data-location).
const LOCATIONS: [&str; 9] = [
    "wnam", "enam", "sam", "weur", "eeur", "apac", "oc", "afr", "me",
];

impl LocationHint {
    /// Reads the variable `LOCATION_HINT`.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let known = LOCATIONS.iter().find(|known| **known == text);
        let known = known.ok_or_else(|| {
            let detail = format!(
                "reading the variable LOCATION_HINT: {text:?} is none of {}",
                LOCATIONS.join(", ")
            );
            Problem::new(Code::NotConfigured, detail)
        })?;
        Ok(Self(known))
    }

    /// The platform's spelling.
    pub(crate) const fn as_str(self) -> &'static str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_hints_are_known_locations() {
        assert_eq!(LocationHint::parse("weur").unwrap().as_str(), "weur");
        let refused = LocationHint::parse("Paris").unwrap_err();
        assert!(refused.to_string().contains("weur, eeur"), "{refused}");
    }
}
