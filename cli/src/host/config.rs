//! Host settings: everything that an operator decides about an embedded host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use pmx_core::name::SpaceName;
use pmx_sync::serve::LivePages;

use super::access_log::Log;
use super::domains::DohUrl;
use super::proxy::AddressRange;
use super::public::PublicUrl;
use super::store::StoreConfig;
use super::streams::StreamConfig;
use super::tls::TlsFiles;

/// Settings of an embedded host, by its operator.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The folder that holds everything; the host creates it if needed.
    pub data: PathBuf,
    /// The address to listen on; port 0 selects a free one.
    pub listen: SocketAddr,
    /// The domain under which every label is a site.
    pub domain: String,
    /// The site of the domain itself and of the names of this machine.
    pub home: Option<SpaceName>,
    /// A separate host of the API.
    pub api_host: Option<String>,
    /// The public address, if clients do not use the host's own.
    pub public_url: Option<PublicUrl>,
    /// The reverse proxies whose forwarding headers count.
    pub proxies: Vec<AddressRange>,
    /// The token that may publish; without one the host creates its own (see
    /// [`find_secret`](super::find_secret)).
    pub publish_secret: Option<String>,
    /// Durable Streams.
    pub streams: StreamConfig,
    /// The pages that receive events of changes.
    pub live: LivePages,
    /// Whether responses of live sites name the rule that answered.
    pub shows_rules: bool,
    /// The header in which a trusted proxy names the client's country.
    pub country_header: Option<HeaderName>,
    /// How long uploads wait for their commit; at least an hour outside local mode.
    pub lease: Duration,
    /// The lag of pointers, for tests: otherwise the embedded host has none.
    pub pointer_lag: Option<Duration>,
    /// The resolver of the records that prove domains.
    pub resolver: DohUrl,
    /// The certificates of the listener, which then speaks TLS alone; the first is the default.
    pub tls: Vec<TlsFiles>,
    /// The store that keeps the objects; without one the data folder keeps them.
    pub objects: Option<StoreConfig>,
    /// The log for the operator.
    pub log: Log,
}
