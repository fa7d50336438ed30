//! Start-up errors of the embedded host.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pmx_core::code::Code;
use pmx_core::domain::InvalidDomain;
use pmx_core::schema::SchemaError;
use thiserror::Error;

/// The embedded host could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// The host can't create, read or write one of its files or folders.
    #[error("can't {doing} {}", .path.display())]
    Disk {
        /// The operation.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process serves the folder.
    #[error("{} is in use by {}", .folder.display(), named(*.pid))]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The other process, if the lock file names it.
        pid: Option<u32>,
    },
    /// The host can't listen on the address.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
    /// The domain is invalid.
    #[error(transparent)]
    Domain(#[from] InvalidDomain),
    /// The publish secret is invalid or unsafe.
    #[error("the publish secret in {origin} {fault}")]
    Secret {
        /// The file or the setting that holds it.
        origin: String,
        /// The fault.
        fault: &'static str,
    },
    /// The host's own database is not usable.
    #[error("can't use the database {}: {why}", .path.display())]
    Ledger {
        /// The database.
        path: PathBuf,
        /// SQLite's error.
        why: String,
    },
    /// A database is not usable, perhaps because newer code wrote it.
    #[error("can't use the database {}: {source}", .path.display())]
    Schema {
        /// The database.
        path: PathBuf,
        /// Why.
        source: SchemaError,
    },
    /// A file of credentials is not usable.
    #[error("can't use the credentials in {}: it {fault}", .path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: String,
    },
    /// The host can't use the place that is to hold its objects.
    #[error("can't keep objects in {place}: {why}")]
    Objects {
        /// The place.
        place: String,
        /// The stable code.
        code: Code,
        /// Why.
        why: String,
    },
    /// A certificate or its key is not usable.
    #[error("can't use {} for TLS: {why}", .path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The operating system gives no threads.
    #[error("can't start the host's threads")]
    Threads(#[source] io::Error),
    /// The operating system gives no randomness.
    #[error("can't draw randomness: {0}")]
    Randomness(getrandom::Error),
}

impl HostError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Disk { .. } | Self::Threads(_) | Self::Randomness(_) => Code::Local,
            Self::InUse { .. }
            | Self::Listen { .. }
            | Self::Domain(_)
            | Self::Tls { .. }
            | Self::Credentials { .. }
            | Self::Secret { .. } => Code::Usage,
            Self::Ledger { .. } => Code::Storage,
            Self::Schema { source, .. } => source.code(),
            Self::Objects { code, .. } => *code,
        }
    }

    /// The hint for the operator.
    pub fn hint(&self) -> String {
        match self {
            Self::Disk { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "The disk is full: make room, or pass another folder with --data.".into()
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "Check who owns it and its permissions, or pass another folder with --data."
                        .into()
                }
                _ => Code::Local.hint().into(),
            },
            Self::InUse { .. } => {
                "Use the host that already runs, stop it, or pass another folder with --data."
                    .into()
            }
            Self::Tls { .. } => {
                "Name a PEM file with the chain, and the one with its private key, in the same order."
                    .into()
            }
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "Something else listens there: stop it, or pass another --listen (port 0 picks \
                     a free one)."
                        .into()
                }
                io::ErrorKind::PermissionDenied => {
                    "Ports below 1024 need privileges: pass another --listen.".into()
                }
                _ => "Pass an address of this machine to --listen.".into(),
            },
            Self::Domain(_) => "Pass a name such as localhost to --domain.".into(),
            Self::Secret { origin, .. } => {
                format!("Make {origin} a line of visible ASCII that only its owner can read.")
            }
            Self::Ledger { .. } => Code::Storage.hint().into(),
            Self::Credentials { .. } => {
                "Write lines such as AWS_ACCESS_KEY_ID=…, in a file that only you can read (chmod 600)."
                    .into()
            }
            Self::Objects { .. } => {
                "Check --objects, and the variables AWS_… for the endpoint, the region and the \
                 credentials (docs/operations.md)."
                    .into()
            }
            Self::Schema { source, .. } => source.code().hint().into(),
            Self::Threads(_) | Self::Randomness(_) => {
                "Check the limits that the system sets for this process.".into()
            }
        }
    }
}

/// Wraps an I/O error with its operation and path.
pub(crate) fn disk(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostError {
    let path = path.to_owned();
    move |source| HostError::Disk {
        doing,
        path,
        source,
    }
}

fn named(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}
