//! Subscriptions over HTTP: the addresses under `__ds`.
//!
//! [`parse`] turns a request into a [`SubscriptionRequest`], and [`respond`] turns its result into
//! a response: refusals become errors with the protocol's codes. [`early_response`] answers what
//! needs no subscription, by the head of a request alone: preflights and missing credentials.
//! Responses leave through
//! [`add_common_headers`](crate::http::StreamSettings::add_common_headers), as those of streams do.
//!
//! [`SubscriptionRequest`]: super::SubscriptionRequest

mod access;
mod config;
mod request;
mod response;

use pmx_core::domain::Domain;

use super::base_url::BaseUrl;
use super::ssrf::WebhookPolicy;
use crate::policy::Claimable;

pub use access::{claimable, early_response, is_control, is_open};
pub use request::{base_url, parse};
pub use response::respond;

/// What [`parse`] needs beside the request.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The URL of the server's streams, as the client reached them.
    pub base_url: &'a BaseUrl,
    /// The URLs that webhooks may go to.
    pub policy: WebhookPolicy,
    /// The domain whose hosts the server can't call, if there is one.
    pub own_domain: Option<&'a Domain>,
    /// The streams whose work the client may claim, from [`claimable`].
    pub claimable: &'a Claimable,
}

#[cfg(test)]
mod tests;
