//! HTTP clients: the parts of reqwest that the publish client, `pmx doctor` and the webhook sender
//! share, and their event loop.
//!
//! The callers are threads that wait. One background thread runs the event loop, so all of them
//! share the connections of a client. HTTP/2 carries their requests on one connection.

use std::env;
use std::error::Error as StdError;
use std::io;
use std::thread;

use pmx_core::code::Code;
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, NoProxy, Proxy};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Failure;
use crate::trust::Trust;

/// The HTTP versions that a client offers to a TLS server. Plain connections use HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Only HTTP/1.1.
    Http1,
    /// HTTP/2, or HTTP/1.1 if the server does not have it.
    Http2,
}

/// A client and the event loop of its connections.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    runtime: Handle,
    /// Its drop ends the event loop.
    _running: oneshot::Sender<()>,
}

impl HttpClient {
    /// Builds a client and starts its event loop. It does not connect yet.
    pub(crate) fn new(builder: ClientBuilder) -> Result<Self, Failure> {
        let client = builder.build().map_err(|error| unusable(&cause(&error)))?;
        let (runtime, running) = event_loop().map_err(|error| unusable(&error.to_string()))?;
        Ok(Self {
            client,
            runtime,
            _running: running,
        })
    }

    /// The client, for use within [`Self::wait`].
    pub(crate) const fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Starts work on the event loop's thread. Any thread may wait for its end.
    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(work)
    }

    /// Waits on this thread until a future is done.
    pub(crate) fn wait<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }
}

/// Starts a thread that polls connections until the sender is dropped. It does not wait for a name
/// lookup that never returns.
fn event_loop() -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (running, ended) = oneshot::channel();
    let work = move || {
        let _ended = runtime.block_on(ended);
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name("pmx-http".to_owned());
    thread.spawn(work).map(|_| (handle, running))
}

/// Builder with the settings of all clients: no redirects, no decoding of bodies, no retries, and
/// no proxy unless a caller adds one.
pub(crate) fn builder(trust: &Trust, versions: Versions) -> Result<ClientBuilder, Failure> {
    let alpn: &[&[u8]] = match versions {
        Versions::Http1 => &[b"http/1.1"],
        Versions::Http2 => &[b"h2", b"http/1.1"],
    };
    let builder = ClientBuilder::new()
        .tls_backend_preconfigured(trust.config(alpn)?)
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .no_proxy()
        .tcp_keepalive(None);
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(None);
    Ok(match versions {
        Versions::Http1 => builder.http1_only(),
        Versions::Http2 => builder,
    })
}

/// Adds the proxies of the environment. A scheme's own proxy has priority, then `ALL_PROXY`, then
/// the proxy of the other scheme. Hosts of `NO_PROXY` have no proxy. An invalid proxy address
/// counts as none.
pub(crate) fn with_proxies(mut builder: ClientBuilder) -> ClientBuilder {
    let of = |make: fn(String) -> reqwest::Result<Proxy>, names: [&str; 3]| {
        let values = names.into_iter().flat_map(variable);
        values.flat_map(make).next()
    };
    let http = ["HTTP_PROXY", "ALL_PROXY", "HTTPS_PROXY"];
    let https = ["HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY"];
    for proxy in [of(Proxy::http, http), of(Proxy::https, https)] {
        builder = match proxy {
            Some(proxy) => builder.proxy(proxy.no_proxy(exceptions())),
            None => builder,
        };
    }
    builder
}

/// The hosts of `NO_PROXY`. A domain includes its subdomains, with or without `*.` before it. `*`
/// means every host, which reqwest applies to every name.
fn exceptions() -> Option<NoProxy> {
    let list = variable("NO_PROXY").next()?.to_ascii_lowercase();
    let entries = list.split(',').map(|entry| match entry.trim() {
        "*" => "*,0.0.0.0/0,::/0",
        entry => entry.trim_start_matches('*'),
    });
    NoProxy::from_string(&entries.collect::<Vec<_>>().join(","))
}

/// The non-empty values of a variable, in capitals and in small letters.
fn variable(name: &str) -> impl Iterator<Item = String> + use<> {
    let names = [name.to_owned(), name.to_ascii_lowercase()];
    let values = names.into_iter().filter_map(|name| env::var(name).ok());
    values.filter(|value| !value.is_empty())
}

/// The chain of an error's causes, beginning with the error itself. An I/O error that wraps another
/// is followed by that one.
pub(crate) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

/// The causes of an error, without reqwest's name and without the address.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let last = chain(error).last();
    last.map_or_else(|| error.to_string(), ToString::to_string)
}

fn unusable(why: &str) -> Failure {
    Failure::new(Code::Network, format!("preparing connections: {why}"))
}
