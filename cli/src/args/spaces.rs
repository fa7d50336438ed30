//! `pmx spaces`: the spaces of a server.

use clap::{Args, Subcommand};

use super::ServerArgs;

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
