//! Server arguments: which server a command asks, and the secret that opens it.

use std::path::PathBuf;

use clap::Args;

use super::SiteArgs;

/// Which server.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Address of the server [env: PMX_SERVER] [default: http://127.0.0.1:8787]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The server's publish secret [env: PMX_TOKEN]
    #[arg(long, value_name = "SECRET", allow_hyphen_values = true)]
    pub token: Option<String>,
    /// File that holds the publish secret (-: standard input)
    #[arg(
        long,
        value_name = "FILE|-",
        allow_hyphen_values = true,
        conflicts_with = "token"
    )]
    pub token_file: Option<PathBuf>,
    /// PEM file of the only authorities to trust [env: PMX_CACERT] [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Data folder of the embedded host, to find its secret in [env: PMX_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl ServerArgs {
    /// The arguments of a site of this server.
    pub fn site(&self, space: &str) -> SiteArgs {
        SiteArgs {
            space: Some(space.to_owned()),
            at: self.clone(),
        }
    }
}
