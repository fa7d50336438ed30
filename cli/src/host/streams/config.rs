//! Stream configuration of the embedded host, from its environment.

use std::time::Duration;

use pmx_streams::EngineConfig;
use pmx_streams::http::StreamSettings;
use pmx_streams::subscription::WebhookPolicy;

use crate::env::Environment;
use crate::error::Failure;

/// The operator's configuration of streams on the embedded host.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Access, caching and rates.
    pub settings: StreamSettings,
    /// Sizes of storage and reads.
    pub engine_config: EngineConfig,
    /// How long a long poll waits.
    pub long_poll: Duration,
    /// The URLs that webhooks may go to: this machine only if the operator allows it.
    pub webhooks: WebhookPolicy,
    /// The host's public URL; the default is the one in each request.
    pub url: Option<String>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            settings: StreamSettings::default(),
            engine_config: EngineConfig::default(),
            long_poll: Duration::from_secs(20),
            webhooks: WebhookPolicy::Public,
            url: None,
        }
    }
}

impl StreamConfig {
    /// Reads what [`StreamSettings::read`] does, `STREAM_LONG_POLL_MS`, `STREAM_WEBHOOKS`
    /// (`loopback` lets webhooks go to this machine) and `STREAM_URL` (`https://host`). For tests,
    /// `PMX_STREAM_CHUNK_BYTES`, `PMX_STREAM_SEGMENT_BYTES`, `PMX_STREAM_SEGMENT_MESSAGES`,
    /// `PMX_STREAM_READ_BYTES` and `PMX_STREAM_COLD_READS` change the engine's configuration. An
    /// invalid number counts as unset; invalid settings are an error.
    pub fn of(env: &Environment) -> Result<Self, Failure> {
        let number = |name| env.var(name).and_then(|text| text.parse::<u64>().ok());
        let own = Self::default();
        let engine_config = EngineConfig {
            chunk_bytes: number("PMX_STREAM_CHUNK_BYTES")
                .map_or(own.engine_config.chunk_bytes, |bytes| bytes as usize),
            segment_bytes: number("PMX_STREAM_SEGMENT_BYTES")
                .unwrap_or(own.engine_config.segment_bytes),
            segment_messages: number("PMX_STREAM_SEGMENT_MESSAGES")
                .unwrap_or(own.engine_config.segment_messages),
            read_bytes: number("PMX_STREAM_READ_BYTES")
                .map_or(own.engine_config.read_bytes, |bytes| bytes as usize),
            cold_reads: number("PMX_STREAM_COLD_READS").is_some(),
            ..own.engine_config
        };
        let settings = StreamSettings::read(|name| env.var(name).map(str::to_owned));
        Ok(Self {
            settings: settings.map_err(|error| Failure::usage(error.to_string()))?,
            engine_config,
            long_poll: number("STREAM_LONG_POLL_MS").map_or(own.long_poll, Duration::from_millis),
            webhooks: match env.var("STREAM_WEBHOOKS") {
                Some("loopback") => WebhookPolicy::Loopback,
                Some(_) | None => WebhookPolicy::Public,
            },
            url: env.var("STREAM_URL").map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use pmx_streams::http::CorsOrigins;
    use pmx_streams::policy::{AccessMode, CacheMode};

    use super::*;

    #[test]
    fn stream_config_reads_the_environment() {
        let read = |pairs: &[(&str, &str)]| StreamConfig::of(&pairs.iter().copied().collect());
        let of = |pairs: &[(&str, &str)]| read(pairs).unwrap();
        let plain = of(&[]);
        assert_eq!(plain.settings.access.access_mode(), AccessMode::Closed);
        assert_eq!(plain.settings.caching, CacheMode::Private);
        assert_eq!(plain.settings.origins, CorsOrigins::Unset);
        assert_eq!(plain.engine_config, EngineConfig::default());
        assert_eq!(plain.long_poll, Duration::from_secs(20));
        let all = of(&[
            ("STREAM_SECRET", "s3cret"),
            ("STREAM_ORIGINS", "https://a.example, https://B.example"),
            ("STREAM_LONG_POLL_MS", "700"),
            ("PMX_STREAM_CHUNK_BYTES", "4096"),
            ("PMX_STREAM_SEGMENT_MESSAGES", "2"),
            ("PMX_STREAM_READ_BYTES", "lots"),
        ]);
        assert_eq!(all.settings.access.access_mode(), AccessMode::Guarded);
        for name in [
            "STREAM_TOKEN_KEYS",
            "STREAM_PUBLIC_READ",
            "STREAM_RATE_READS",
            "STREAM_ACCESS",
        ] {
            let failure = read(&[(name, "a b")]).unwrap_err();
            assert_eq!(failure.exit(), 2);
            assert!(failure.message.contains(name), "{failure}");
        }
        let origins = ["https://a.example", "https://b.example"];
        assert_eq!(
            all.settings.origins,
            CorsOrigins::These(origins.map(str::to_owned).to_vec())
        );
        assert_eq!(
            (
                all.engine_config.chunk_bytes,
                all.engine_config.segment_messages
            ),
            (4_096, 2)
        );
        assert_eq!(
            all.engine_config.read_bytes,
            EngineConfig::default().read_bytes
        );
        assert_eq!(all.long_poll, Duration::from_millis(700));
    }
}
