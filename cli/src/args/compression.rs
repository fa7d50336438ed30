//! `--compression`.

/// How hard to compress what is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As hard as the line is slow.
    #[default]
    Auto,
    /// A zstd level, 1 to 19.
    Level(u8),
}

impl std::str::FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(level @ 1..=19)) => Ok(Self::Level(level)),
            _ => Err("expected auto, or a number from 1 to 19".into()),
        }
    }
}
