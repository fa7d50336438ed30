//! Base URL of a server's streams, which webhooks call back.

use crate::limits::SUBSCRIPTION_ROOT_BYTES_MAX;

/// The address of the server's streams, as its clients reach it, without a slash at its end:
/// `https://host/v1/stream`. Webhooks are told to call back there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Takes an address if it looks like one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('/');
        let web = text.starts_with("https://") || text.starts_with("http://");
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = text.len() <= SUBSCRIPTION_ROOT_BYTES_MAX;
        (web && plain && fits && !text.contains(['?', '#', '"', '\\'])).then(|| Self(text.into()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
