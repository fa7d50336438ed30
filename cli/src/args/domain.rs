//! `pmx domain`: hosts outside of the server's domain that show a site.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SiteArgs;

/// `pmx domain`
#[derive(Debug, Subcommand)]
pub enum DomainSubcommand {
    /// Let a host of your own show the site, once a TXT record proves that it is yours
    Add(DomainAddArgs),
    /// List the domains of a site
    List(DomainListArgs),
    /// Look the record of a domain up now; exits with 1 if the host shows nothing
    Check(DomainCheckArgs),
    /// Take a domain away: its host shows nothing any more
    Rm(DomainRmArgs),
}

/// `pmx domain add`
#[derive(Debug, Args)]
pub struct DomainAddArgs {
    /// The host, such as docs.example.com or example.com
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Vouch for the host: no record is looked up, now or later (for the holder of the publish
    /// secret)
    #[arg(long)]
    pub unverified: bool,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx domain list`
#[derive(Debug, Args)]
pub struct DomainListArgs {
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx domain check`
#[derive(Debug, Args)]
pub struct DomainCheckArgs {
    /// The host [default: all domains of the site]
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx domain rm`
#[derive(Debug, Args)]
pub struct DomainRmArgs {
    /// The host
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}
