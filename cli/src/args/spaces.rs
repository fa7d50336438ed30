//! `pmx spaces`: the spaces of a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SiteArgs;

/// `pmx spaces`
#[derive(Debug, Subcommand)]
pub enum SpacesCommand {
    /// List the spaces of a server
    List(SpacesListArgs),
    /// Delete a space with all its deploys, previews and domains; its name is free then
    Delete(SpacesDeleteArgs),
}

/// `pmx spaces list`
#[derive(Debug, Args)]
pub struct SpacesListArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `pmx spaces delete`
#[derive(Debug, Args)]
pub struct SpacesDeleteArgs {
    /// Name of the space
    #[arg(value_name = "NAME")]
    pub space: String,
    /// Delete it; without this, the command only says what it would delete
    #[arg(short, long)]
    pub yes: bool,
    /// Delete the content now, not after 24 hours: some readers see errors for a minute
    #[arg(long)]
    pub purge: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// A server, and the secret that opens it.
#[derive(Debug, Clone, Args)]
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
        let Self {
            server,
            token,
            token_file,
            cacert,
            data,
        } = self.clone();
        SiteArgs {
            space: Some(space.to_owned()),
            server,
            token,
            token_file,
            cacert,
            data,
        }
    }
}
