//! What an operator decides about streams, as the variables of the Worker say it.

use std::time::Duration;

use pmx_sync::stream::Shape;
use pmx_sync::stream::http::{Origins, Settings};
use pmx_sync::stream::subscription::WebhookPolicy;
use worker::Env;

/// What an operator decides about streams.
pub(crate) struct StreamConfig {
    /// Who may use them.
    pub(crate) settings: Settings,
    /// How they are kept.
    pub(crate) shape: Shape,
    /// How long a reader waits for one answer.
    pub(crate) long_poll: Duration,
    /// Where webhooks may go.
    pub(crate) webhooks: WebhookPolicy,
    /// How the streams are reached from outside, if not as their clients say.
    pub(crate) url: Option<String>,
}

/// How long a reader waits unless it is said otherwise.
const LONG_POLL: Duration = Duration::from_secs(20);

impl StreamConfig {
    /// Reads `STREAM_SECRET`, `STREAM_ORIGINS` (a list with commas), `STREAM_LONG_POLL_MS`,
    /// `STREAM_URL` (`https://host`) and `STREAM_WEBHOOKS` (`loopback`, where the Worker runs on
    /// the machine of its developer). For tests, `PMX_STREAM_CHUNK_BYTES`,
    /// `PMX_STREAM_SEGMENT_BYTES`, `PMX_STREAM_SEGMENT_MESSAGES` and `PMX_STREAM_READ_BYTES`
    /// change how streams are kept. What is no number counts as unset.
    pub(crate) fn of(env: &Env) -> Self {
        Self::read(|name| {
            let text = env.var(name).ok()?.to_string();
            (!text.is_empty()).then_some(text)
        })
    }

    fn read(var: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name| var(name).and_then(|text| text.parse::<u64>().ok());
        let own = Shape::default();
        let size = |name, own: usize| number(name).map_or(own, |bytes| bytes as usize);
        let shape = Shape {
            chunk_bytes: size("PMX_STREAM_CHUNK_BYTES", own.chunk_bytes),
            segment_bytes: number("PMX_STREAM_SEGMENT_BYTES").unwrap_or(own.segment_bytes),
            segment_messages: number("PMX_STREAM_SEGMENT_MESSAGES").unwrap_or(own.segment_messages),
            read_bytes: size("PMX_STREAM_READ_BYTES", own.read_bytes),
            ..own
        };
        let origins = var("STREAM_ORIGINS");
        Self {
            settings: Settings {
                secret: var("STREAM_SECRET"),
                origins: origins.map_or(Origins::Any, |list| Origins::parse(&list)),
            },
            shape,
            long_poll: number("STREAM_LONG_POLL_MS").map_or(LONG_POLL, Duration::from_millis),
            webhooks: match var("STREAM_WEBHOOKS").as_deref() {
                Some("loopback") => WebhookPolicy::Loopback,
                Some(_) | None => WebhookPolicy::Public,
            },
            url: var("STREAM_URL"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read() {
        let plain = StreamConfig::read(|_| None);
        assert_eq!(plain.settings.secret, None);
        assert_eq!(plain.shape, Shape::default());
        assert_eq!(plain.long_poll, LONG_POLL);
        let all = StreamConfig::read(|name| {
            let text = match name {
                "STREAM_SECRET" => "s3cret",
                "STREAM_LONG_POLL_MS" => "700",
                "PMX_STREAM_SEGMENT_MESSAGES" => "2",
                "PMX_STREAM_READ_BYTES" => "lots",
                _ => return None,
            };
            Some(text.to_owned())
        });
        assert_eq!(all.settings.secret.as_deref(), Some("s3cret"));
        assert_eq!(all.shape.segment_messages, 2);
        assert_eq!(all.shape.read_bytes, Shape::default().read_bytes);
        assert_eq!(all.long_poll, Duration::from_millis(700));
    }
}
