//! Isolate state between requests: the server, with its caches.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::domain::Domain;
use pmx_core::problem::Problem;
use pmx_sync::limits::{ISOLATE_FILES_MAX, PATCH_RAW_BYTES_MAX};
use pmx_sync::serve::{
    Backend, BodyBudget, BodyPermit, DictionaryPolicy, Lag, LivePages, Server, ServerSettings,
    SiteUrls, unknown_secrets,
};
use pmx_sync::site::Hosts;
use pmx_sync::space::{LEASE, parse_lease};
use worker::js_sys::Object;
use worker::wasm_bindgen::JsCast as _;
use worker::{Env, ObjectNamespace, console_warn, web_sys};

use crate::domains::Domains;
use crate::edge_cache::EdgeCache;
use crate::http::now;
use crate::kv::Kv;
use crate::location::LocationHint;
use crate::r2::R2;
use crate::recent_pointers::MOMENT;
use crate::spaces::Objects;

/// The ports on Cloudflare.
pub(crate) struct Cloudflare {
    blobs: R2,
    pointers: Rc<Kv>,
    spaces: Objects,
    domains: Domains,
}

impl Backend for Cloudflare {
    type Blobs = R2;
    type Pointers = Kv;
    type Spaces = Objects;
    type Domains = Domains;

    fn blobs(&self) -> &R2 {
        &self.blobs
    }

    fn pointers(&self) -> &Kv {
        &self.pointers
    }

    fn spaces(&self) -> &Objects {
        &self.spaces
    }

    fn domains(&self) -> &Domains {
        &self.domains
    }
}

/// The server of this isolate, which its first request creates. Bindings outlive requests. Neither
/// they nor the settings change while the isolate lives.
pub(crate) fn server(env: &Env) -> Result<Rc<Server<Cloudflare>>, Problem> {
    SERVER.with(|kept| {
        if let Some(server) = kept.get() {
            return Ok(Rc::clone(server));
        }
        let server = Server::keeping(CACHE_BYTES, cloudflare(env)?, settings(env)?);
        let server = Rc::new(server);
        warn_of_unknown_secrets(env);
        Ok(Rc::clone(kept.get_or_init(|| server)))
    })
}

/// Warns of secrets that the Worker does not read, once in each isolate.
fn warn_of_unknown_secrets(env: &Env) {
    let names = Object::keys(env.unchecked_ref::<Object>());
    let names: Vec<String> = names.iter().filter_map(|name| name.as_string()).collect();
    let unknown = unknown_secrets(names.iter().map(String::as_str));
    if !unknown.is_empty() {
        console_warn!("the Worker does not know {}", unknown.join(", "));
    }
}

/// Bytes of index nodes and small bodies that an isolate caches. It has 128 MB. Packs and commits
/// may need most of it at any time.
const CACHE_BYTES: usize = 12 * 1024 * 1024;

/// Bytes of request bodies that an isolate handles at once. Memory may hold a body three times: as
/// received, decoded, and as stored. Three parts of a big file fit, with their heads.
const BODIES_BYTES_MAX: usize = 25 * 1024 * 1024;

/// Takes a permit for the body of a request, before the server reads it.
pub(crate) fn room(
    request: &web_sys::Request,
    announced: Option<u64>,
    limit: usize,
) -> Result<BodyPermit, Problem> {
    let announced = match announced {
        Some(0) | None if request.body().is_none() => Some(0),
        Some(_) | None => announced,
    };
    ROOM.with(|room| room.take(announced, limit, now()))
}

/// Takes a permit for rows that move to a segment, one group of rows after the other.
pub(crate) fn room_for(rows_bytes: u64) -> Result<BodyPermit, Problem> {
    ROOM.with(|room| room.take(Some(rows_bytes), BODIES_BYTES_MAX, now()))
}

thread_local! {
    static ROOM: Rc<BodyBudget> = BodyBudget::new(BODIES_BYTES_MAX);
    static SERVER: OnceCell<Rc<Server<Cloudflare>>> = const { OnceCell::new() };
}

/// The bucket that holds all objects.
pub(crate) fn bucket(env: &Env) -> Result<R2, Problem> {
    let bucket = env.bucket("OBJECTS");
    let bucket = bucket.map_err(unset("the binding OBJECTS"))?;
    Ok(R2::new(bucket, EdgeCache::new(hosts(env)?.domain())))
}

/// The objects of all spaces.
pub(crate) fn spaces(env: &Env) -> Result<ObjectNamespace, Problem> {
    let namespace = env.durable_object("SPACE");
    namespace.map_err(unset("the binding SPACE"))
}

/// The objects of all streams.
pub(crate) fn streams(env: &Env) -> Result<ObjectNamespace, Problem> {
    let namespace = env.durable_object("STREAM");
    namespace.map_err(unset("the binding STREAM"))
}

/// The object that knows all streams.
pub(crate) fn hub(env: &Env) -> Result<ObjectNamespace, Problem> {
    let namespace = env.durable_object("HUB");
    namespace.map_err(unset("the binding HUB"))
}

/// The hosts of sites and of the API: those of `DOMAIN`, and `API_HOST`. Only the runtime on a
/// developer's machine has the domain `localhost`.
pub(crate) fn hosts(env: &Env) -> Result<Hosts, Problem> {
    let text = |name: &str| env.var(name).ok().map(|value| value.to_string());
    let domain = text("DOMAIN").ok_or_else(|| unset("the variable DOMAIN")("it is not set"))?;
    let domain = Domain::parse(&domain).map_err(unset("the variable DOMAIN"))?;
    let is_local = domain.as_str() == "localhost";
    let hosts = Hosts::new(domain);
    let hosts = match text("API_HOST").filter(|host| !host.is_empty()) {
        Some(host) => hosts
            .with_api(&host)
            .map_err(unset("the variable API_HOST"))?,
        None => hosts,
    };
    Ok(if is_local {
        hosts.with_loopback()
    } else {
        hosts
    })
}

fn cloudflare(env: &Env) -> Result<Cloudflare, Problem> {
    let store = env.kv("POINTERS").map_err(unset("the binding POINTERS"))?;
    let lag = millis(env, "PMX_POINTER_LAG_MS").map(Lag::new);
    let moment = millis(env, "PMX_POINTER_MOMENT_MS").unwrap_or(MOMENT);
    let domains = Domains::new(env, store.clone(), moment);
    let pointers = Rc::new(Kv::new(store, lag, moment));
    Ok(Cloudflare {
        domains,
        blobs: bucket(env)?,
        pointers: Rc::clone(&pointers),
        spaces: Objects::new(spaces(env)?, pointers, location_hint(env)?),
    })
}

/// A duration that only tests set.
fn millis(env: &Env, name: &str) -> Option<Duration> {
    let text = env.var(name).ok()?.to_string();
    text.parse().ok().map(Duration::from_millis)
}

/// Where the platform creates the objects of spaces, if the operator chooses.
pub(crate) fn location_hint(env: &Env) -> Result<Option<LocationHint>, Problem> {
    let text = env.var("LOCATION_HINT").map(|text| text.to_string());
    let text = text.ok().filter(|text| !text.is_empty());
    text.map(|text| LocationHint::parse(&text)).transpose()
}

fn settings(env: &Env) -> Result<ServerSettings, Problem> {
    let text = |name: &str| env.var(name).ok().map(|value| value.to_string());
    let urls = site_urls(text("SITE_SCHEME").as_deref(), text("SITE_PORT").as_deref())?;
    Ok(ServerSettings {
        hosts: hosts(env)?,
        publish_secret: text("PUBLISH_SECRET"),
        urls,
        live: match text("LIVE").as_deref() {
            Some("all") => LivePages::All,
            Some(_) | None => LivePages::Chosen,
        },
        shows_rules: false,
        dictionaries: match text("DICTIONARIES").as_deref() {
            Some("passed") => DictionaryPolicy::Passed,
            Some(_) | None => DictionaryPolicy::Stopped,
        },
        lease: lease(text("LEASE").as_deref(), text("DOMAIN").as_deref())?,
        files_max: ISOLATE_FILES_MAX,
        section_raw_bytes_max: PATCH_RAW_BYTES_MAX,
    })
}

/// How long uploads wait for their commit. Only local mode may shorten the default.
fn lease(text: Option<&str>, domain: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else {
        return Ok(LEASE);
    };
    let lease = parse_lease(text);
    let lease = lease.ok_or_else(|| unset("the variable LEASE")(text))?;
    let is_local = domain == Some("localhost");
    Ok(if is_local { lease } else { lease.max(LEASE) })
}

/// The URLs of sites: https at its default port, unless a local setup sets others.
fn site_urls(scheme: Option<&str>, port: Option<&str>) -> Result<SiteUrls, Problem> {
    let scheme = match scheme {
        None | Some("https") => "https",
        Some("http") => "http",
        Some(other) => return Err(unset("the variable SITE_SCHEME")(other)),
    };
    let port = port.map(str::parse::<u16>).transpose();
    let port = port.map_err(unset("the variable SITE_PORT"))?;
    Ok(SiteUrls { scheme, port })
}

fn unset<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Problem {
    move |why| Problem::new(Code::NotConfigured, format!("reading {what}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_sites() {
        let spelt = |scheme, port| match site_urls(scheme, port) {
            Ok(urls) => format!("{} {:?}", urls.scheme, urls.port),
            Err(problem) => problem.code.to_string(),
        };
        assert_eq!(spelt(None, None), "https None");
        assert_eq!(spelt(Some("http"), Some("8787")), "http Some(8787)");
        assert_eq!(spelt(Some("ftp"), None), "E_NOT_CONFIGURED");
        assert_eq!(spelt(None, Some("65536")), "E_NOT_CONFIGURED");
    }
}
