//! Base URL of a server's streams, which workers call back.

use crate::limits::SUBSCRIPTION_ROOT_BYTES_MAX;

/// The URL at which clients reach the server's streams, without a trailing slash:
/// `https://host/v1/stream`. Webhooks carry it as the address to call back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Parses a URL: HTTP or HTTPS, printable ASCII, without query or fragment.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('/');
        let web = text.starts_with("https://") || text.starts_with("http://");
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = text.len() <= SUBSCRIPTION_ROOT_BYTES_MAX;
        (web && plain && fits && !text.contains(['?', '#', '"', '\\'])).then(|| Self(text.into()))
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
