//! `pmx serve`: runs the embedded host until a signal ends it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::HeaderName;
use pmx_streams::subscription::WebhookPolicy;
use pmx_sync::serve::{LivePages, unknown_secrets};
use pmx_sync::space::{LEASE, parse_lease};
use serde_json::json;

use super::{Context, Ended};
use crate::args::{HostArgs, ServeArgs};
use crate::env::Environment;
use crate::error::Failure;
use crate::host::{
    AddressRange, DohUrl, Host, HostConfig, HostMode, Log, PublicUrl, Running, SECRET_FILE,
    StoreConfig, StoreUrl, StoreVariables, StreamConfig, TlsFiles,
};

/// The default port of the host.
pub(super) const PORT: u16 = 8787;

pub(super) fn run(args: &ServeArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let mut config = config(&args.host, Log::Json, context)?;
    config.objects = objects(args, context)?;
    let place = config.objects.as_ref().map(|store| store.url.to_string());
    let running = Host::start(config)?;
    Log::Json.take_panics();
    let ui = context.ui;
    let data = running.data().display().to_string();
    introduce(&running, context);
    ui.note(format!(
        "sites and the publish secret (`{SECRET_FILE}`) are kept in {data}"
    ));
    if let Some(place) = &place {
        ui.note(format!("objects are kept in {place}"));
    }
    ui.note(running.access_mode().statement());
    ui.result(running.url());
    let (mode, streams) = (running.mode().name(), running.access_mode().as_str());
    let mut serving =
        json!({ "url": running.url(), "data": data, "mode": mode, "streams": streams });
    if let Some(place) = place {
        serving["objects"] = place.into();
    }
    ui.object("serving", &serving);
    wait(context);
    running.stop();
    ui.stopped();
    Ok(Ended::Done)
}

/// The settings of the host.
pub(super) fn config(
    args: &HostArgs,
    log: Log,
    context: &Context<'_>,
) -> Result<HostConfig, Failure> {
    let env = &context.layers.env;
    let public_url = public_url(args, env)?;
    let domain = args.domain.as_deref().or_else(|| env.var("DOMAIN"));
    let domain = domain.or_else(|| public_url.as_ref().map(PublicUrl::domain));
    let mut streams = StreamConfig::of(env)?;
    if args.allow_loopback_webhooks {
        streams.webhooks = WebhookPolicy::Loopback;
    }
    Ok(HostConfig {
        data: context.layers.data(args.data.as_deref())?,
        listen: args
            .listen
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))),
        domain: domain.unwrap_or("localhost").to_owned(),
        home: None,
        api_host: env.var("API_HOST").map(str::to_owned),
        proxies: proxies(args, env)?,
        publish_secret: env.var("PUBLISH_SECRET").map(str::to_owned),
        streams,
        live: match env.var("LIVE") {
            Some("all") => LivePages::All,
            Some(_) | None => LivePages::Chosen,
        },
        shows_rules: false,
        country_header: country_header(args, env)?,
        lease: lease(env)?,
        resolver: resolver(env)?,
        tls: tls(args)?,
        pointer_lag: env
            .var("PMX_POINTER_LAG_MS")
            .and_then(|text| text.parse().ok())
            .map(Duration::from_millis),
        log,
        objects: None,
        public_url,
    })
}

/// The store of the objects, and its credentials: from the environment and a file, never from
/// `pmx.toml`, which may be published.
fn objects(args: &ServeArgs, context: &Context<'_>) -> Result<Option<StoreConfig>, Failure> {
    let env = &context.layers.env;
    let Some(url) = args.objects.as_deref().or_else(|| env.var("OBJECTS_URL")) else {
        if args.objects_credentials.is_some() || args.take_over {
            let why = "--objects-credentials and --take-over need --objects";
            return Err(
                Failure::usage(why).with_hint("Name the store: --objects s3://BUCKET/PREFIX.")
            );
        }
        return Ok(None);
    };
    let url = url.parse::<StoreUrl>();
    let url = url.map_err(|why| Failure::usage(format!("reading --objects: {why}")))?;
    let mut variables = StoreVariables::of(env);
    if let Some(file) = &args.objects_credentials {
        variables = variables.with_file(file)?;
    }
    Ok(Some(StoreConfig {
        url,
        variables,
        takes_over: args.take_over || env.var("TAKE_OVER") == Some("true"),
    }))
}

fn public_url(args: &HostArgs, env: &Environment) -> Result<Option<PublicUrl>, Failure> {
    let own = env.var("PUBLIC_URL").map(str::parse).transpose();
    let own = own.map_err(|why| Failure::usage(format!("reading PUBLIC_URL: {why}")))?;
    Ok(args.public_url.clone().or(own))
}

fn country_header(args: &HostArgs, env: &Environment) -> Result<Option<HeaderName>, Failure> {
    let own = env.var("COUNTRY_HEADER").map(str::parse).transpose();
    let own = own.map_err(|why| Failure::usage(format!("reading COUNTRY_HEADER: {why}")))?;
    Ok(args.country_header.clone().or(own))
}

fn lease(env: &Environment) -> Result<Duration, Failure> {
    let Some(text) = env.var("LEASE") else {
        return Ok(LEASE);
    };
    parse_lease(text).ok_or_else(|| {
        let why = "it is a number and a unit, such as 10s, 5m, 24h";
        Failure::usage(format!("reading LEASE={text:?}: {why}"))
    })
}

/// The certificates of the listener: as many as keys, in the same order.
fn tls(args: &HostArgs) -> Result<Vec<TlsFiles>, Failure> {
    let (certificates, keys) = (&args.tls_cert, &args.tls_key);
    if certificates.len() != keys.len() {
        let (one, two) = (certificates.len(), keys.len());
        let why = format!("there are {one} of --tls-cert and {two} of --tls-key");
        return Err(Failure::usage(why).with_hint("Name each certificate with its key."));
    }
    let pairs = certificates.iter().cloned().zip(keys.iter().cloned());
    Ok(pairs
        .map(|(certificate, key)| TlsFiles { certificate, key })
        .collect())
}

fn resolver(env: &Environment) -> Result<DohUrl, Failure> {
    let Some(text) = env.var("DOH_URL") else {
        return Ok(DohUrl::default());
    };
    let parsed = text.parse::<DohUrl>();
    parsed.map_err(|why| Failure::usage(format!("reading DOH_URL={text:?}: {why}")))
}

fn proxies(args: &HostArgs, env: &Environment) -> Result<Vec<AddressRange>, Failure> {
    let mut proxies = args.trusted_proxy.clone();
    let listed = env.var("TRUSTED_PROXIES").unwrap_or_default().split(',');
    for text in listed.map(str::trim).filter(|text| !text.is_empty()) {
        let range = text.parse::<AddressRange>();
        proxies
            .push(range.map_err(|why| Failure::usage(format!("reading TRUSTED_PROXIES: {why}")))?);
    }
    Ok(proxies)
}

/// Prints which clients can reach a host, and what its streams require.
pub(super) fn introduce(running: &Running, context: &Context<'_>) {
    let ui = context.ui;
    match running.mode() {
        HostMode::Local => ui.note(
            "local mode: only programs and own pages of this machine get answers; streams need no token",
        ),
        HostMode::Public => ui.note("public mode: requests may come from other machines"),
    }
    let unknown = unknown_secrets(context.layers.env.names());
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        ui.warn(format!(
            "the environment has {names}, which the host does not know: check the spelling"
        ));
    }
}

/// Waits until the user wants to stop.
pub(super) fn wait(context: &Context<'_>) {
    while context.interrupt.sleep(Duration::from_hours(1)).is_ok() {}
}
