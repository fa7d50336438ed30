//! The secret that allows to publish. It is never shown.

use std::fmt;
use std::path::Path;

use pmx_sync::code::Code;
use pmx_sync::limits::TOKEN_BYTES_MAX;

use crate::error::Failure;
use crate::host::find_secret;

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Parses a token: visible ASCII, so that it is a legal header.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX || !visible {
            let message = format!(
                "the token can't be one: expected at most {TOKEN_BYTES_MAX} visible ASCII characters"
            );
            return Err(Failure::new(Code::Unauthorised, message));
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret of the embedded host that keeps its sites in this folder, if there is one.
    pub fn of_host(folder: &Path) -> Result<Option<Self>, Failure> {
        let found = find_secret(folder)?;
        found.map(|text| Self::parse(&text)).transpose()
    }

    /// The secret itself, for the header.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_legal_header_and_never_shown() {
        let token = Token::parse(" s3cret\n").unwrap();
        assert_eq!(token.reveal(), "s3cret");
        assert!(!format!("{token:?}").contains("s3cret"));
        for text in ["", " ", "a b", "a\r\nX: y", "\u{fc}", &"x".repeat(513)] {
            let failure = Token::parse(text).unwrap_err();
            assert_eq!(failure.exit(), 4, "{text:?}");
            assert!(
                text.trim().is_empty() || !failure.message.contains(text),
                "{text:?}"
            );
        }
    }
}
