//! Arguments of `pmx doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{ServerArgs, SiteArgs};

/// `pmx doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Check a Worker that was deployed, at the address of its API
    #[arg(long, value_name = "URL", required = true)]
    pub cloudflare: String,
    /// Space for the small sites that are published on the way
    #[arg(short, long, value_name = "NAME", default_value = "pmx-doctor")]
    pub space: String,
    /// File that holds the publish secret (-: standard input) [env: PMX_TOKEN]
    #[arg(long, value_name = "FILE|-", allow_hyphen_values = true)]
    pub token_file: Option<PathBuf>,
    /// PEM file of the only authorities to trust [env: PMX_CACERT] [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Data folder of a server on this machine, to find its secret in [env: PMX_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Mebibytes that nothing compresses, for each of two publishers at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub mib: u16,
    /// Sockets of live pages that are opened
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub sockets: u16,
    /// Seconds for which a deploy is watched for addresses that are not found
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=600))]
    pub watch: u16,
    /// Keep the sockets open until the Worker was deployed again, and count those that come back
    #[arg(long)]
    pub redeploy: bool,
    /// The same server by plain http [default: port 80 of its host]
    #[arg(long, value_name = "URL")]
    pub http: Option<String>,
}

impl DoctorArgs {
    /// The site to which `pmx doctor` publishes.
    pub fn site(&self) -> SiteArgs {
        let at = ServerArgs {
            server: Some(self.cloudflare.clone()),
            token: None,
            token_file: self.token_file.clone(),
            cacert: self.cacert.clone(),
            data: self.data.clone(),
        };
        at.site(&self.space)
    }
}
