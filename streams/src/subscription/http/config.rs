//! Subscription configuration in JSON: parsing and validation.

use std::time::Duration;

use serde::Deserialize;

use super::RequestContext;
use crate::StreamName;
use crate::limits::{
    SUBSCRIPTION_STREAMS_MAX, SUBSCRIPTION_TEXT_BYTES_MAX, WAKE_LEASE_DEFAULT, WAKE_LEASE_MAX,
    WAKE_LEASE_MIN,
};
use crate::registry::is_registry;
use crate::subscription::config::{Delivery, SubscriptionConfig};
use crate::subscription::engine::OWN_STREAM;
use crate::subscription::pattern::{Pattern, is_reserved};
use crate::subscription::response::SubscriptionRefusal;
use crate::subscription::ssrf::WebhookUrl;

/// A configuration as the client writes it.
#[derive(Deserialize)]
pub(super) struct RawConfig {
    #[serde(rename = "type")]
    kind: Option<String>,
    pattern: Option<String>,
    streams: Option<Vec<String>>,
    webhook: Option<RawWebhook>,
    wake_stream: Option<String>,
    target_stream: Option<String>,
    lease_ttl_ms: Option<u64>,
    description: Option<String>,
    filter: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RawWebhook {
    url: Option<String>,
}

impl RawConfig {
    pub(super) fn validate(
        self,
        context: &RequestContext<'_>,
    ) -> Result<SubscriptionConfig, SubscriptionRefusal> {
        let invalid = SubscriptionRefusal::invalid;
        if self.filter.is_some() {
            return Err(invalid("filter is not supported"));
        }
        let pattern = self.pattern.as_deref().filter(|text| !text.is_empty());
        let pattern = pattern.map(Pattern::parse).transpose();
        let pattern = pattern.map_err(|error| invalid(&error.to_string()))?;
        let streams = stream_names(self.streams.as_deref().unwrap_or_default())?;
        if pattern.is_none() && streams.is_empty() {
            return Err(invalid("at least one of pattern and streams is required"));
        }
        let delivery = self.delivery(context)?;
        let own_stream = delivery.own_stream();
        if own_stream.is_some_and(|own| streams.contains(own)) {
            return Err(invalid(OWN_STREAM));
        }
        let lease = self.lease()?;
        if self.description.as_deref().is_some_and(is_too_long) {
            return Err(invalid("description is too long"));
        }
        Ok(SubscriptionConfig {
            pattern,
            streams: streams.into_iter().collect(),
            delivery,
            lease,
            description: self.description,
        })
    }

    fn delivery(&self, context: &RequestContext<'_>) -> Result<Delivery, SubscriptionRefusal> {
        let required = |text: &Option<String>, why| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            let text = text.ok_or_else(|| SubscriptionRefusal::invalid(why))?;
            writable_stream(text)
        };
        match self.kind.as_deref() {
            Some("webhook") => self.webhook_url(context).map(Delivery::Webhook),
            Some("pull-wake") => {
                let why = "a pull-wake subscription needs wake_stream";
                required(&self.wake_stream, why).map(Delivery::PullWake)
            }
            Some("fan-out") => {
                let why = "a fan-out subscription needs target_stream";
                required(&self.target_stream, why).map(Delivery::FanOut)
            }
            Some(_) | None => {
                let why = "type must be \"webhook\", \"pull-wake\" or \"fan-out\"";
                Err(SubscriptionRefusal::invalid(why))
            }
        }
    }

    fn webhook_url(&self, context: &RequestContext<'_>) -> Result<WebhookUrl, SubscriptionRefusal> {
        let url = self.webhook.as_ref().and_then(|it| it.url.as_deref());
        let missing = || SubscriptionRefusal::invalid("a webhook subscription needs webhook.url");
        let url = WebhookUrl::parse(url.ok_or_else(missing)?, context.policy)?;
        match context.own_domain {
            Some(own) => Ok(url.outside(own)?),
            None => Ok(url),
        }
    }

    fn lease(&self) -> Result<Duration, SubscriptionRefusal> {
        let lease = self.lease_ttl_ms;
        let lease = lease.map_or(WAKE_LEASE_DEFAULT, Duration::from_millis);
        if (WAKE_LEASE_MIN..=WAKE_LEASE_MAX).contains(&lease) {
            Ok(lease)
        } else {
            let why = "lease_ttl_ms must be an integer from 1000 to 600000";
            Err(SubscriptionRefusal::invalid(why))
        }
    }
}

/// Whether a description or a worker's name exceeds the limit.
pub(super) fn is_too_long(text: &str) -> bool {
    text.len() > SUBSCRIPTION_TEXT_BYTES_MAX
}

/// Parses the names of streams that a subscription follows.
pub(super) fn stream_names(texts: &[String]) -> Result<Vec<StreamName>, SubscriptionRefusal> {
    if texts.len() > SUBSCRIPTION_STREAMS_MAX {
        let why = "streams has more names than a subscription can have";
        return Err(SubscriptionRefusal::invalid(why));
    }
    texts.iter().map(|text| stream_name(text)).collect()
}

/// Parses the name of a stream that a subscription follows.
pub(super) fn stream_name(text: &str) -> Result<StreamName, SubscriptionRefusal> {
    let name = StreamName::parse(text.trim_matches('/'));
    let name = name.map_err(|error| SubscriptionRefusal::invalid(&error.to_string()))?;
    if is_reserved(&name) {
        let why = "the segment __ds is reserved: no stream is there";
        return Err(SubscriptionRefusal::invalid(why));
    }
    Ok(name)
}

/// Parses the name of a stream that the server writes to.
fn writable_stream(text: &str) -> Result<StreamName, SubscriptionRefusal> {
    let name = stream_name(text)?;
    if is_registry(&name) {
        let why = "the registry takes nothing but its own entries";
        return Err(SubscriptionRefusal::invalid(why));
    }
    Ok(name)
}
