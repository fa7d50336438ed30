//! Embedded host: the server on this machine, over a folder and SQLite.
//!
//! It implements each port and decides nothing: [`ObjectFolder`] or [`ObjectStore`] stores objects,
//! [`Database`] a space's state, and a table names the active deploy to readers. The process may
//! end at any instruction without damage. One data folder holds everything but objects in a store,
//! and one process serves it at a time:
//!
//! ```text
//! lock                              the process that serves the folder
//! secret                            the publish secret that the host created
//! host.db                           the active deploy of each space
//! access.db                         the domains of spaces
//! spaces/<name>.db                  a space's ledger
//! objects/spaces/<id>/<aa>/<object> immutable objects
//! objects/scratch/                  objects being written
//! server-id                         the id of the folder, if its objects are in a store
//! streams.db                        the streams
//! streams/                          their older parts
//! ```

mod access_log;
mod admission;
mod alarm;
mod any_body;
mod blobs;
mod blocking;
mod budget;
mod compress;
mod config;
mod connections;
mod domains;
mod durable;
mod error;
mod http;
mod incident;
mod live;
mod local_backend;
mod lock;
mod objects;
mod panics;
mod pointers;
mod private;
mod proxy;
mod public;
mod request_body;
mod response_body;
mod secret;
mod sockets;
mod spaces;
mod sql;
mod state;
mod store;
mod streams;
mod tls;
mod tracked_body;
mod write_timeout;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmx_core::domain::{Domain, Selector};
use pmx_core::limits::SECTION_RAW_BYTES_MAX;
use pmx_core::name::SpaceName;
use pmx_core::schema::SchemaError;
use pmx_core::time::Timestamp;
use pmx_streams::http::CorsOrigins;
use pmx_streams::policy::AccessMode;
use pmx_sync::limits::FILES_MAX;
use pmx_sync::scan::{DATA_MARKER, DATA_MARKER_TEXT};
use pmx_sync::serve::{DictionaryPolicy, Server, ServerSettings, SiteUrls};
use pmx_sync::site::{Hosts, LocalMode};
use pmx_sync::space::LEASE;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use admission::Front;
use error::disk;
use live::{LiveState, Notice};
use local_backend::LocalBackend;
use lock::Lock;
use objects::Objects;
use proxy::Proxies;
use state::AppState;
use streams::Streams;

pub use access_log::Log;
pub use blobs::ObjectFolder;
pub use config::HostConfig;
pub use domains::{DohUrl, InvalidDohUrl};
pub use error::HostError;
pub use pointers::PointerTable;
pub use proxy::AddressRange;
pub use public::PublicUrl;
pub use secret::{SECRET_FILE, find_secret};
pub use spaces::LocalSpaces;
pub use sql::Database;
pub use store::{InvalidStoreUrl, ObjectStore, StoreConfig, StoreUrl, StoreVariables};
pub use streams::StreamConfig;
pub use tls::TlsFiles;

/// Marks a data folder before it gets any file, so that no scan takes it for content.
fn mark(data: &Path) -> Result<(), HostError> {
    let marker = data.join(DATA_MARKER);
    if marker.exists() {
        return Ok(());
    }
    let written = durable::write_new(data, &marker, DATA_MARKER_TEXT.as_bytes());
    match written {
        Err(error)
            if error.kind() != io::ErrorKind::AlreadyExists && !durable::is_unwritable(&error) =>
        {
            Err(disk("write", &marker)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The embedded host.
pub struct Host;

impl Host {
    /// Starts a host on its own threads. It answers requests as soon as this returns.
    pub fn start(config: HostConfig) -> Result<Running, HostError> {
        let domain = Domain::parse(&config.domain)?;
        durable::make_folder(&config.data).map_err(disk("make", &config.data))?;
        mark(&config.data)?;
        let lock = Lock::take(&config.data)?;
        private::tighten(&config.data);
        let secret = secret::settle(&config.data, config.publish_secret.as_deref())?;
        let (listener, addr) = listen(config.listen)?;
        let mut front = front(&config, &domain, addr)?;
        let scheme = front.scheme;
        let urls = site_urls(addr, scheme, config.public_url.as_ref());
        let mode = mode(&front);
        let own = (!config.tls.is_empty()).then(|| tls::acceptor(&config.tls, config.log));
        let own = own.transpose()?;
        let own_scheme = own_scheme(&config);
        let settings = settings(&config, &front, secret.clone(), urls.clone());
        let runtime = threads()?;
        let (stop, stopped) = watch::channel(false);
        let (changed, changes) = mpsc::unbounded_channel();
        let blobs = Arc::new(Objects::open(&config)?);
        let (lag, resolver) = (config.pointer_lag, config.resolver);
        let of_owner = Arc::clone(&blobs).watch_owner(config.log);
        let local = LocalBackend::open(&config.data, blobs, changed, lag, resolver, config.log)?;
        front.domains = Arc::clone(local.domains.routes());
        let mut streams = config.streams;
        streams.settings = streams.settings.in_local_mode(front.local.is_some());
        let access_mode = streams.settings.access.access_mode();
        let topics = Arc::clone(local.spaces.topics());
        let (notice, noticed) = watch::channel(Notice::default());
        let live = LiveState::new(topics, streams.long_poll, stopped.clone(), noticed);
        let streams = match Streams::open(&config.data, streams, stopped.clone(), config.log) {
            Ok(streams) => Some(Arc::new(streams)),
            Err(HostError::Schema { path, source }) if !matches!(source, SchemaError::Sql(_)) => {
                return Err(HostError::Schema { path, source });
            }
            // The host serves sites anyway.
            Err(error) => {
                let doing = "opening the streams, which answer 500 until a restart";
                config.log.fault(doing, &error);
                None
            }
        };
        let server = Server::new(local, settings);
        let state = Arc::new(AppState::new(front, server, streams, live, config.log));
        let serving = {
            let _inside = runtime.enter();
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(HostError::Threads)?;
            let alarm = alarm::watch_outboxes(Arc::clone(&state), changes, stopped.clone());
            runtime.spawn(alarm);
            runtime.spawn(of_owner);
            runtime.spawn(domains::watch_domains(Arc::clone(&state), stopped.clone()));
            runtime.spawn(sockets::serve(listener, own, state, stopped))
        };
        Ok(Running {
            addr,
            domain,
            urls,
            own_scheme,
            mode,
            home: config.home,
            secret: secret.unwrap_or_default(),
            data: config.data,
            access_mode,
            stop,
            notice,
            threads: Some((runtime, serving)),
            _lock: lock,
        })
    }
}

fn settings(
    config: &HostConfig,
    front: &Front,
    publish_secret: Option<String>,
    urls: SiteUrls,
) -> ServerSettings {
    ServerSettings {
        hosts: front.hosts.clone(),
        publish_secret,
        urls,
        live: config.live,
        shows_rules: config.shows_rules,
        dictionaries: DictionaryPolicy::Passed,
        lease: match mode(front) {
            HostMode::Local => config.lease,
            HostMode::Public => config.lease.max(LEASE),
        },
        files_max: FILES_MAX,
        section_raw_bytes_max: SECTION_RAW_BYTES_MAX,
    }
}

/// The scheme of the listener itself.
const fn own_scheme(config: &HostConfig) -> &'static str {
    if config.tls.is_empty() {
        "http"
    } else {
        "https"
    }
}

/// Reach of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostMode {
    /// Programs of this machine, which need no credential for streams.
    Local,
    /// Any client.
    Public,
}

impl HostMode {
    /// The name in the output of programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Public => "public",
        }
    }
}

const fn mode(front: &Front) -> HostMode {
    match front.local {
        Some(_) => HostMode::Local,
        None => HostMode::Public,
    }
}

fn front(config: &HostConfig, domain: &Domain, addr: SocketAddr) -> Result<Front, HostError> {
    let mut hosts = Hosts::new(domain.clone());
    if let Some(api) = &config.api_host {
        hosts = hosts.with_api(api)?;
    }
    if let Some(home) = &config.home {
        hosts = hosts.with_home(home.clone());
    }
    let own = own_scheme(config);
    let is_local = addr.ip().is_loopback()
        && domain.as_str() == "localhost"
        && config.public_url.is_none()
        && config.proxies.is_empty()
        && config.tls.is_empty();
    let streams = &config.streams.settings;
    let opens_streams =
        streams.origins == CorsOrigins::Any || streams.access.access_mode() == AccessMode::Open;
    let origins = match &streams.origins {
        CorsOrigins::These(origins) => origins.clone(),
        CorsOrigins::Any | CorsOrigins::Unset => Vec::new(),
    };
    Ok(Front {
        country: config.country_header.clone(),
        hosts,
        local: is_local
            .then(|| LocalMode::new(addr.port(), origins).with_open_streams(opens_streams)),
        proxies: Proxies(config.proxies.clone()),
        domains: Arc::default(),
        scheme: config.public_url.as_ref().map_or(own, |url| url.scheme),
    })
}

/// A running host, until it is stopped or dropped. Both wait for its threads, so neither may happen
/// inside an asynchronous runtime.
pub struct Running {
    addr: SocketAddr,
    domain: Domain,
    urls: SiteUrls,
    own_scheme: &'static str,
    mode: HostMode,
    home: Option<SpaceName>,
    secret: String,
    data: PathBuf,
    access_mode: AccessMode,
    stop: watch::Sender<bool>,
    notice: watch::Sender<Notice>,
    threads: Option<(Runtime, JoinHandle<()>)>,
    // Rust drops fields in order, so the folder's lock is released last.
    _lock: Lock,
}

impl Running {
    /// The address that it listens on.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The token that may publish.
    pub fn publish_secret(&self) -> &str {
        &self.secret
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Clients that may use streams without a credential.
    pub const fn access_mode(&self) -> AccessMode {
        self.access_mode
    }

    /// The address of the API, as this machine reaches it.
    pub fn url(&self) -> String {
        let mut reachable = self.addr;
        if reachable.ip().is_unspecified() {
            reachable.set_ip(match self.addr {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{}://{reachable}", self.own_scheme)
    }

    /// The clients that can reach it.
    pub const fn mode(&self) -> HostMode {
        self.mode
    }

    /// The address of a site.
    pub fn url_of(&self, space: &SpaceName) -> String {
        let host = self.domain.host_of(space, &Selector::Active);
        self.url_at(&host.expect("a space alone fits a label"))
    }

    /// The address of the site at the domain itself, if there is one. Every program resolves
    /// `localhost`, but some programs resolve no name below it.
    pub fn home_url(&self) -> Option<String> {
        self.home.as_ref()?;
        Some(self.url_at(self.domain.as_str()))
    }

    fn url_at(&self, host: &str) -> String {
        let port = self.urls.port.map(|port| format!(":{port}"));
        format!("{}://{host}{}/", self.urls.scheme, port.unwrap_or_default())
    }

    /// Shows lines in every open page of a site; an empty list removes them.
    pub fn notify(&self, space: &SpaceName, lines: Vec<String>) {
        let space = Some(space.clone());
        self.notice.send_replace(Notice { space, lines });
    }

    /// Stops the host within half a second: by then requests in progress have finished or are cut
    /// off.
    pub fn stop(mut self) {
        self.shut_down();
    }

    /// Serves until the process gets SIGINT or SIGTERM, then stops.
    pub fn wait(mut self) -> Result<(), HostError> {
        if let Some((runtime, _)) = &self.threads {
            runtime
                .block_on(termination_signal())
                .map_err(HostError::Threads)?;
        }
        self.shut_down();
        Ok(())
    }

    fn shut_down(&mut self) {
        let Some((runtime, serving)) = self.threads.take() else {
            return;
        };
        // Fails only without a receiver: then the host has stopped already.
        let _ = self.stop.send(true);
        let _ = runtime.block_on(serving);
        // A thread that does not end loses no data: the host may stop at any moment.
        runtime.shutdown_timeout(THREADS_TIME);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// The current time, as a timestamp of the server.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_millis(since.unwrap_or_default().as_millis() as u64)
}

/// How long threads may take to end.
const THREADS_TIME: Duration = Duration::from_millis(100);

/// Blocking threads at once: for the publish API, the alarm, and large bodies.
const BLOCKING_MAX: usize = 32;

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), HostError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    });
    bound.map_err(|source| HostError::Listen { address, source })
}

fn threads() -> Result<Runtime, HostError> {
    Builder::new_multi_thread()
        .thread_name("pmx-host")
        .max_blocking_threads(BLOCKING_MAX)
        .enable_all()
        .build()
        .map_err(HostError::Threads)
}

fn site_urls(addr: SocketAddr, scheme: &'static str, public: Option<&PublicUrl>) -> SiteUrls {
    if let Some(public) = public {
        return SiteUrls {
            scheme: public.scheme,
            port: public.port,
        };
    }
    let own = if scheme == "https" { 443 } else { 80 };
    SiteUrls {
        scheme,
        port: (addr.port() != own).then_some(addr.port()),
    }
}

#[cfg(unix)]
async fn termination_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn termination_signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests;
