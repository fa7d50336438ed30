//! Publish token: the secret for publishing. No output shows it.

use std::fmt;
use std::path::Path;

use pmx_core::code::Code;
use pmx_core::limits::TOKEN_BYTES_MAX;

use crate::error::Failure;
use crate::files::{read_bounded, read_to_bound};
use crate::host::find_secret;

/// Bytes of a token's file: the longest token, and room for surrounding bytes.
const FILE_BYTES_MAX: u64 = 2 * TOKEN_BYTES_MAX as u64;

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

    /// The secret of the embedded host with this data folder, if there is one.
    pub fn of_host(folder: &Path) -> Result<Option<Self>, Failure> {
        let found = find_secret(folder)?;
        found.map(|text| Self::parse(&text)).transpose()
    }

    /// The token of a file without other content.
    pub fn of_file(path: &Path) -> Result<Self, Failure> {
        let read = read_bounded(path, FILE_BYTES_MAX);
        Self::read(&format!("the token file \"{}\"", path.display()), read)
    }

    /// The token from standard input, up to its end.
    pub fn of_stdin() -> Result<Self, Failure> {
        let read = read_to_bound(std::io::stdin().lock(), FILE_BYTES_MAX);
        Self::read("the token on standard input", read)
    }

    fn read(what: &str, read: Result<Vec<u8>, String>) -> Result<Self, Failure> {
        let fault = |why: &str| {
            Failure::usage(format!("can't read {what}: {why}"))
                .with_hint("It holds the publish secret and nothing else, in one line.")
        };
        let bytes = read.map_err(|why| fault(&why))?;
        let text = String::from_utf8(bytes).map_err(|_| fault("it is not text"))?;
        // Some editors start a file with a byte order mark.
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(fault("it is empty"));
        }
        Self::parse(text)
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
    fn token_file_holds_a_token_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (content, expected) in [
            ("s3cret\n", Ok("s3cret")),
            ("\u{feff}s3cret\r\n", Ok("s3cret")),
            ("\n", Err(2)),
            ("two words", Err(4)),
            (&*"x".repeat(4000), Err(2)),
        ] {
            std::fs::write(&path, content).unwrap();
            let token = Token::of_file(&path);
            let token = token.as_ref().map(Token::reveal).map_err(Failure::exit);
            assert_eq!(token, expected, "{content:?}");
        }
        std::fs::remove_file(&path).unwrap();
        let failure = Token::of_file(&path).unwrap_err();
        assert!(
            failure.exit() == 2 && failure.message.contains("token\""),
            "{failure}"
        );
    }

    #[test]
    fn token_is_a_legal_header_and_never_shown() {
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
