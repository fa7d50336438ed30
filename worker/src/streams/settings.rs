//! Stream settings of the Worker, from its variables.

use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_streams::EngineConfig;
use pmx_streams::http::StreamSettings;
use pmx_streams::subscription::WebhookPolicy;
use worker::Env;

/// The operator's configuration of streams on the Worker.
pub(crate) struct StreamConfig {
    /// Access, caching and rates.
    pub(crate) settings: StreamSettings,
    /// Sizes of storage and reads.
    pub(crate) engine_config: EngineConfig,
    /// How long a long poll waits.
    pub(crate) long_poll: Duration,
    /// The URLs that webhooks may go to.
    pub(crate) webhooks: WebhookPolicy,
    /// The server's public URL; the default is the one in each request.
    pub(crate) url: Option<String>,
}

/// Default time of a long poll.
const LONG_POLL: Duration = Duration::from_secs(20);

/// Time of a long poll, without reading the other settings.
pub(crate) fn long_poll(env: &Env) -> Duration {
    let text = env.var("STREAM_LONG_POLL_MS").map(|text| text.to_string());
    long_poll_of(text.ok().as_deref())
}

fn long_poll_of(text: Option<&str>) -> Duration {
    let millis = text.and_then(|text| text.parse().ok());
    millis.map_or(LONG_POLL, Duration::from_millis)
}

impl StreamConfig {
    /// Reads what [`StreamSettings::read`] does, `STREAM_LONG_POLL_MS`, `STREAM_URL`
    /// (`https://host`) and `STREAM_WEBHOOKS` (`loopback`, where the Worker runs on the machine of
    /// its developer). For tests, `PMX_STREAM_CHUNK_BYTES`, `PMX_STREAM_SEGMENT_BYTES`,
    /// `PMX_STREAM_SEGMENT_MESSAGES`, `PMX_STREAM_READ_BYTES` and `PMX_STREAM_COLD_READS` change
    /// the engine's configuration. An invalid number counts as unset; invalid settings are an
    /// error.
    pub(crate) fn of(env: &Env) -> Result<Self, Problem> {
        Self::read(|name| {
            let text = env.var(name).ok()?.to_string();
            (!text.is_empty()).then_some(text)
        })
    }

    fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let number = |name| var(name).and_then(|text| text.parse::<u64>().ok());
        let own = EngineConfig::default();
        let size = |name, own: usize| number(name).map_or(own, |bytes| bytes as usize);
        let engine_config = EngineConfig {
            chunk_bytes: size("PMX_STREAM_CHUNK_BYTES", own.chunk_bytes),
            segment_bytes: number("PMX_STREAM_SEGMENT_BYTES").unwrap_or(own.segment_bytes),
            segment_messages: number("PMX_STREAM_SEGMENT_MESSAGES").unwrap_or(own.segment_messages),
            read_bytes: size("PMX_STREAM_READ_BYTES", own.read_bytes),
            cold_reads: number("PMX_STREAM_COLD_READS").is_some(),
            ..own
        };
        let settings = StreamSettings::read(&var);
        Ok(Self {
            settings: settings
                .map_err(|error| Problem::new(Code::NotConfigured, error.to_string()))?,
            engine_config,
            long_poll: long_poll_of(var("STREAM_LONG_POLL_MS").as_deref()),
            webhooks: match var("STREAM_WEBHOOKS").as_deref() {
                Some("loopback") => WebhookPolicy::Loopback,
                Some(_) | None => WebhookPolicy::Public,
            },
            url: var("STREAM_URL"),
        })
    }
}

#[cfg(test)]
mod tests {
    use pmx_streams::policy::AccessMode;

    use super::*;

    #[test]
    fn stream_config_reads_variables() {
        let plain = StreamConfig::read(|_| None).unwrap();
        assert_eq!(plain.settings.access.access_mode(), AccessMode::Closed);
        assert_eq!(plain.engine_config, EngineConfig::default());
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
        let all = all.unwrap();
        assert_eq!(all.settings.access.access_mode(), AccessMode::Guarded);
        assert_eq!(all.engine_config.segment_messages, 2);
        assert_eq!(
            all.engine_config.read_bytes,
            EngineConfig::default().read_bytes
        );
        assert_eq!(all.long_poll, Duration::from_millis(700));
        for name in [
            "STREAM_TOKEN_KEYS",
            "STREAM_PUBLIC_READ",
            "STREAM_RATE_READS",
        ] {
            let invalid = |var: &str| (var == name).then(|| "a b".to_owned());
            assert!(StreamConfig::read(invalid).is_err(), "{name}");
        }
    }
}
