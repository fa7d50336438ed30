//! `pmx serve`, and the options of every command that runs the embedded host.

use std::path::PathBuf;

use clap::Args;
use http::HeaderName;

use crate::host::{AddressRange, PublicUrl};

/// `pmx serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The host.
    #[command(flatten)]
    pub host: HostArgs,
    /// Where the objects are kept: s3://BUCKET or s3://BUCKET/PREFIX [env: OBJECTS_URL] [default:
    /// the data folder]
    ///
    /// The endpoint, the region and the credentials are those of the environment: AWS_ENDPOINT_URL,
    /// AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN.
    #[arg(long, value_name = "URL", help_heading = "Host")]
    pub objects: Option<String>,
    /// File with such variables, as lines NAME=VALUE, which only you can read
    #[arg(long, value_name = "FILE", help_heading = "Host")]
    pub objects_credentials: Option<PathBuf>,
    /// Become the owner of the objects, whichever server owns them: that one then only reads [env:
    /// TAKE_OVER]
    #[arg(long, help_heading = "Host")]
    pub take_over: bool,
}

/// The embedded host.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Host")]
pub struct HostArgs {
    /// Data folder [env: PMX_DATA] [default: the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<std::net::SocketAddr>,
    /// Domain under which every label is a site [env: DOMAIN] [default: localhost]
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
    /// Address by which clients reach the host behind a proxy [env: PUBLIC_URL]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<PublicUrl>,
    /// Proxy whose forwarding headers count: an address or a range (repeatable) [env:
    /// TRUSTED_PROXIES]
    #[arg(long, value_name = "ADDRESS")]
    pub trusted_proxy: Vec<AddressRange>,
    /// Certificate to speak https with, a PEM file (repeatable: one for each name of a client)
    ///
    /// The first is for clients that name no known host. Files that change are read again.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Vec<PathBuf>,
    /// Private key of a certificate, a PEM file (repeatable, in the order of --tls-cert)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Vec<PathBuf>,
    /// Header in which a trusted proxy names the client's country, for rules with Country= [env:
    /// COUNTRY_HEADER]
    #[arg(long, value_name = "NAME")]
    pub country_header: Option<HeaderName>,
    /// Let subscriptions call webhooks on this machine
    #[arg(long)]
    pub allow_loopback_webhooks: bool,
}
