//! Media types, resolved once at scan time and carried by the manifest, so no server needs a table.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::MEDIA_BYTES_MAX;

/// A media type with its parameters, ready for a `Content-Type` header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Media(Arc<str>);

impl Media {
    /// Parses `type/subtype[; parameters]`: visible ASCII and spaces, so that it is a legal header.
    pub fn parse(text: &str) -> Result<Self, InvalidMedia> {
        let visible = text.bytes().all(|b| (0x20..0x7f).contains(&b)) && text.trim() == text;
        let essence = text.split(';').next().unwrap_or("");
        let halves = essence.trim_end().split_once('/');
        let named = halves.is_some_and(|(kind, name)| is_token(kind) && is_token(name));
        if visible && named && text.len() <= MEDIA_BYTES_MAX {
            Ok(Self(text.into()))
        } else {
            Err(InvalidMedia {
                text: text.chars().take(MEDIA_BYTES_MAX).collect(),
            })
        }
    }

    /// The type for which nothing is known.
    pub fn unknown() -> Self {
        Self("application/octet-stream".into())
    }

    /// The header value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type without parameters.
    pub fn essence(&self) -> &str {
        self.0.split(';').next().unwrap_or(&self.0).trim_end()
    }

    /// Whether this is a page: what a browser navigates to.
    pub fn is_html(&self) -> bool {
        matches!(self.essence(), "text/html" | "application/xhtml+xml")
    }

    /// Whether the format is already compressed, so that zstd would only cost time.
    pub fn is_compressed(&self) -> bool {
        let essence = self.essence();
        let (kind, name) = essence.split_once('/').unwrap_or((essence, ""));
        match kind {
            "image" => !matches!(name, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
            "audio" | "video" => name != "wav",
            "font" => matches!(name, "woff" | "woff2"),
            "application" => matches!(
                name,
                "zip"
                    | "gzip"
                    | "x-gzip"
                    | "zstd"
                    | "x-7z-compressed"
                    | "x-xz"
                    | "x-bzip2"
                    | "vnd.rar"
                    | "pdf"
                    | "epub+zip"
                    | "font-woff"
                    | "java-archive"
                    | "x-brotli"
            ),
            _ => false,
        }
    }
}

fn is_token(text: &str) -> bool {
    // RFC 9110, section 5.6.2.
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The text is not a media type.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not a media type")]
pub struct InvalidMedia {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_legal_headers() {
        for good in ["text/html", "text/html; charset=utf-8", "image/svg+xml"] {
            assert!(Media::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text",
            "text/",
            "/html",
            "text/html\r\nX: y",
            "text/h\u{e9}",
            " a/b",
        ] {
            assert!(Media::parse(bad).is_err(), "{bad:?}");
        }
    }
}
