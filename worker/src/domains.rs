//! Domain ports on Cloudflare: the registry is one Durable Object, its routes are in KV, and the
//! resolver is reached by `fetch`.

use std::time::Duration;

use bytes::Bytes;
use pmx_core::backend::BackendError;
use pmx_core::code::Code;
use pmx_core::crossing::arrived;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::bounded_cache::BoundedCache;
use pmx_sync::domains::{
    CustomHost, DomainCall, DomainCommand, DomainRegistry, DomainReply, DomainResponse, Resolver,
    Route,
};
use pmx_sync::limits::DNS_MESSAGE_BYTES_MAX;
use pmx_sync::serve::DomainRoutes;
use worker::js_sys::Uint8Array;
use worker::{
    AbortController, Env, Fetch, Headers, KvStore, Method, ObjectNamespace, Request, RequestInit,
    RequestRedirect,
};

use crate::crossing::{Callee, encoded};
use crate::js_error::{backend, problem, unavailable};
use crate::op_counts::{self, OpKind};
use crate::streams::notify::timeout;

/// The domains of all spaces.
pub(crate) struct Domains {
    /// The registry; `None` where the operator did not bind it.
    namespace: Option<ObjectNamespace>,
    routes: Routes,
    resolver: DohResolver,
}

impl Domains {
    pub(crate) fn new(env: &Env, store: KvStore, moment: Duration) -> Self {
        Self {
            namespace: env.durable_object(BINDING).ok(),
            routes: Routes::new(store, moment),
            resolver: DohResolver::new(env),
        }
    }
}

/// The binding of the registry's objects.
const BINDING: &str = "DOMAINS";

/// The one object of the registry.
const NAME: &str = "domains";

const ADDRESS: &str = "https://domains/";

impl DomainRegistry for Domains {
    async fn call(&self, command: DomainCommand, now: Timestamp) -> Result<DomainReply, Problem> {
        let Some(namespace) = &self.namespace else {
            let detail = "the Worker has no binding DOMAINS, so its spaces have no domains";
            return Err(Problem::new(Code::NotConfigured, detail));
        };
        let doing = "asking the registry of domains";
        let callee = Callee {
            namespace,
            name: NAME,
            address: ADDRESS,
            hint: None,
            may_repeat: true,
            depth: 1,
        };
        let body = encoded(DomainCall { now, command }).map_err(problem(doing))?;
        let (_, answer) = callee.ask(&body).await.map_err(unavailable(doing))?;
        let response = arrived::<DomainResponse>(&answer);
        response
            .map_err(|foreign| foreign.into_problem(doing))?
            .outcome
    }
}

impl DomainRoutes for Domains {
    async fn route(
        &self,
        host: &CustomHost,
        now: Timestamp,
    ) -> Result<Option<Route>, BackendError> {
        self.routes.read(host, now).await
    }
}

impl Resolver for Domains {
    async fn exchange(&self, query: Bytes) -> Result<Bytes, BackendError> {
        self.resolver.exchange(query).await
    }
}

/// The routes of custom hosts in KV, and those that this isolate read a moment ago.
pub(crate) struct Routes {
    store: KvStore,
    read: BoundedCache<CustomHost, (Timestamp, Option<Route>)>,
    moment: Duration,
}

/// Bytes of cached routes: about a thousand hosts, invented ones included.
const READ_BYTES: usize = 256 * 1024;

/// Seconds for which a location may cache a route: the least that KV accepts.
const CACHE_SECONDS: u64 = 30;

impl Routes {
    pub(crate) fn new(store: KvStore, moment: Duration) -> Self {
        let read = BoundedCache::new(READ_BYTES);
        Self {
            store,
            read,
            moment,
        }
    }

    async fn read(&self, host: &CustomHost, now: Timestamp) -> Result<Option<Route>, BackendError> {
        let is_fresh = |at: Timestamp| at <= now && now < at.after(self.moment);
        if let Some((at, route)) = self.read.find(host)
            && is_fresh(at)
        {
            return Ok(route);
        }
        let doing = || format!("reading the route of {host}");
        op_counts::note(OpKind::KvRead);
        let read = self.store.get(&key(host)).cache_ttl(CACHE_SECONDS);
        let text = read.text().await.map_err(backend(doing()))?;
        let route = text
            .map(|text| serde_json::from_str::<Route>(&text))
            .transpose();
        let route = route.map_err(|error| BackendError::new(doing(), error))?;
        let bytes = host.as_str().len() + 200;
        self.read.insert(host.clone(), (now, route.clone()), bytes);
        Ok(route)
    }

    /// Writes the route of a host. Only the registry's object calls this.
    pub(crate) async fn write(
        &self,
        host: &CustomHost,
        route: Option<&Route>,
    ) -> Result<(), BackendError> {
        let doing = || format!("writing the route of {host}");
        op_counts::note(OpKind::KvWrite);
        let Some(route) = route else {
            return self
                .store
                .delete(&key(host))
                .await
                .map_err(backend(doing()));
        };
        let text = serde_json::to_string(route);
        let text = text.map_err(|error| BackendError::new(doing(), error))?;
        let put = self.store.put(&key(host), text).map_err(backend(doing()))?;
        put.execute().await.map_err(backend(doing()))
    }
}

fn key(host: &CustomHost) -> String {
    format!("domain/{host}")
}

/// DNS over HTTPS client (RFC 8484).
pub(crate) struct DohResolver {
    url: String,
}

/// The resolver, unless the operator names another.
const DEFAULT_URL: &str = "https://cloudflare-dns.com/dns-query";

const DNS_MEDIA: &str = "application/dns-message";

/// Time limit of a lookup.
const LOOKUP_TIME: Duration = Duration::from_secs(10);

impl DohResolver {
    pub(crate) fn new(env: &Env) -> Self {
        let url = env.var("DOH_URL").map(|url| url.to_string());
        let url = url.ok().filter(|url| !url.is_empty());
        Self {
            url: url.unwrap_or_else(|| DEFAULT_URL.to_owned()),
        }
    }

    fn request(&self, query: &Bytes) -> worker::Result<Request> {
        let headers = Headers::new();
        for name in ["content-type", "accept"] {
            headers.set(name, DNS_MEDIA)?;
        }
        let mut init = RequestInit::new();
        init.with_method(Method::Post)
            .with_headers(headers)
            .with_redirect(RequestRedirect::Manual)
            .with_body(Some(Uint8Array::from(&**query).into()));
        Request::new_with_init(&self.url, &init)
    }

    /// The answer; none if the resolver sends something else, or too much.
    async fn ask(&self, query: Bytes, abort: &AbortController) -> worker::Result<Option<Bytes>> {
        let request = Fetch::Request(self.request(&query)?);
        let mut answer = request.send_with_signal(&abort.signal()).await?;
        let length = answer.headers().get("content-length")?;
        let length = length.and_then(|text| text.parse::<usize>().ok());
        // A resolver is the operator's choice. One that announces no length is trusted to be brief.
        if answer.status_code() != 200 || length.is_some_and(|it| it > DNS_MESSAGE_BYTES_MAX) {
            return Ok(None);
        }
        let bytes = answer.bytes().await?;
        Ok((bytes.len() <= DNS_MESSAGE_BYTES_MAX).then(|| bytes.into()))
    }
}

impl Resolver for DohResolver {
    async fn exchange(&self, query: Bytes) -> Result<Bytes, BackendError> {
        let doing = || format!("asking the resolver {}", self.url);
        let abort = AbortController::default();
        match timeout(LOOKUP_TIME, self.ask(query, &abort)).await {
            Some(Ok(Some(answer))) => Ok(answer),
            Some(Ok(None)) => Err(BackendError::new(doing(), "it gave no DNS message").passing()),
            Some(Err(thrown)) => Err(backend(doing())(thrown)),
            None => {
                abort.abort();
                Err(BackendError::new(doing(), "it did not answer in time").passing())
            }
        }
    }
}
