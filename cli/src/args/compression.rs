//! `--compression`.

use pmx_core::codec::Level;

/// How hard to compress what is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As hard as the line is slow.
    #[default]
    Auto,
    /// A zstd level, 1 to 19.
    Level(Level),
}

impl std::str::FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse().ok().and_then(Level::new)) {
            ("auto", _) => Ok(Self::Auto),
            (_, Some(level)) => Ok(Self::Level(level)),
            (_, None) => Err("expected auto, or a number from 1 to 19".into()),
        }
    }
}
