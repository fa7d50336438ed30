//! Media types: derived once from a file's name, and stored in the manifest.

mod names;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::MEDIA_BYTES_MAX;

pub use names::media_of_name;

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

    /// The default type.
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

    /// Whether this is a text type, whose charset the server adds.
    pub fn is_text(&self) -> bool {
        self.essence().starts_with("text/")
    }

    /// The type for a response. If the bytes are UTF-8, or unknown, a text type gets its charset
    /// where that is true. Older clients wrote `charset=utf-8` for every text, so in the manifest
    /// it proves nothing; another charset is the publisher's claim.
    #[must_use]
    pub fn served(&self, is_utf8: bool) -> Self {
        let parameters = || self.0.split(';').skip(1).map(str::trim);
        let is_charset = |parameter: &&str| {
            let name = parameter.split('=').next().unwrap_or_default();
            name.eq_ignore_ascii_case("charset")
        };
        let is_utf8_named = |parameter: &str| {
            let value = parameter.split_once('=').map_or("", |(_, value)| value);
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        };
        let mut charsets = parameters().filter(is_charset);
        if !self.is_text() || charsets.any(|named| !is_utf8_named(named)) {
            return self.clone();
        }
        let kept = parameters().filter(|parameter| !is_charset(parameter));
        let charset = is_utf8.then_some("charset=utf-8");
        let mut text = self.essence().to_owned();
        for parameter in kept.chain(charset) {
            text.push_str("; ");
            text.push_str(parameter);
        }
        Self(text.into())
    }

    /// Whether this is a page that a browser navigates to.
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
    fn charset_is_added_where_it_is_true() {
        for (media, utf8, other) in [
            ("text/html", "text/html; charset=utf-8", "text/html"),
            (
                "text/html; charset=utf-8",
                "text/html; charset=utf-8",
                "text/html",
            ),
            (
                "text/css;charset=\"UTF-8\"",
                "text/css; charset=utf-8",
                "text/css",
            ),
            (
                "text/plain; a=b; charset=utf-8",
                "text/plain; a=b; charset=utf-8",
                "text/plain; a=b",
            ),
            (
                "text/html; charset=big5",
                "text/html; charset=big5",
                "text/html; charset=big5",
            ),
            ("application/json", "application/json", "application/json"),
            ("image/svg+xml", "image/svg+xml", "image/svg+xml"),
        ] {
            let media = Media::parse(media).unwrap();
            assert_eq!(media.served(true).as_str(), utf8);
            assert_eq!(media.served(false).as_str(), other);
        }
    }

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
