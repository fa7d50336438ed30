//! Country of a client, as the platform or a proxy that the operator names reports it.

use http::request::Parts;

/// A country by its code (ISO 3166-1 alpha-2), in lower case. A platform puts it into the request's
/// extensions; without it the country is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country([u8; 2]);

impl Country {
    /// Parses a code of two letters.
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        let is_code = code.iter().all(u8::is_ascii_alphabetic);
        is_code.then(|| Self(code.map(|letter| letter.to_ascii_lowercase())))
    }

    /// The country of a request.
    pub fn of(head: &Parts) -> Option<Self> {
        head.extensions.get().copied()
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_takes_two_letters() {
        for (text, expected) in [
            ("DE", Some("de")),
            ("us", Some("us")),
            ("T1", None),
            ("DEU", None),
            ("", None),
        ] {
            let country = Country::parse(text);
            assert_eq!(country.as_ref().map(Country::as_str), expected, "{text}");
        }
    }
}
