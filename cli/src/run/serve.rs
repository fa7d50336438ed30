//! `pmx serve`: the embedded host, until it is told to end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use pmx_sync::serve::LivePages;
use serde_json::json;

use super::{Context, Ended};
use crate::args::{HostArgs, ServeArgs};
use crate::error::Failure;
use crate::host::{Config, Host, Log, SECRET_FILE, StreamConfig};

/// The port that the host listens on if none is named.
pub(super) const PORT: u16 = 8787;

pub(super) fn run(args: &ServeArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let running = Host::start(config(&args.host, Log::Json, context)?)?;
    let ui = context.ui;
    let data = running.data().display().to_string();
    ui.note(format!(
        "sites and the publish secret (`{SECRET_FILE}`) are kept in {data}"
    ));
    ui.result(running.url());
    ui.object("serving", &json!({ "url": running.url(), "data": data }));
    wait(context);
    running.stop();
    Ok(Ended::Done)
}

/// What the host shall be like.
pub(super) fn config(args: &HostArgs, log: Log, context: &Context<'_>) -> Result<Config, Failure> {
    let env = &context.layers.env;
    let domain = args.domain.as_deref().or_else(|| env.var("DOMAIN"));
    Ok(Config {
        data: context.layers.data(args.data.as_deref())?,
        listen: args
            .listen
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))),
        domain: domain.unwrap_or("localhost").to_owned(),
        publish_secret: env.var("PUBLISH_SECRET").map(str::to_owned),
        streams: StreamConfig::of(env)?,
        live: match env.var("LIVE") {
            Some("all") => LivePages::All,
            Some(_) | None => LivePages::Chosen,
        },
        pointer_lag: env
            .var("PMX_POINTER_LAG_MS")
            .and_then(|text| text.parse().ok())
            .map(Duration::from_millis),
        log,
    })
}

/// Waits until the user wants to stop.
pub(super) fn wait(context: &Context<'_>) {
    while context.interrupt.sleep(Duration::from_hours(1)).is_ok() {}
}
