//! Who serves streams: the Worker, the embedded host, the reference server.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::client::Connection;
use crate::bench::Bench;
use crate::get;
use crate::host::{self, Host, Server};
use crate::workerd::{self, Build, Workerd};

/// What survives a crash lies here: by the rules of file systems, this is on a disk.
pub(crate) const DISK: &str = "/var/tmp";

/// A server of streams.
pub(crate) enum Place {
    Worker(Workerd),
    Embedded(Host),
    Reference(Reference),
}

/// The reference server, and its folder if it has one.
pub(crate) struct Reference {
    server: Server,
    keeping: Keeping,
    _folder: TempDir,
}

/// Where the reference server keeps streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    Files,
    Memory,
}

impl Place {
    pub(crate) fn worker() -> Result<Self> {
        let build = Build::Deployed.make()?;
        Ok(Self::Worker(Workerd::start_in(&build, folder()?)?))
    }

    pub(crate) fn embedded(bench: &Bench) -> Result<Self> {
        Ok(Self::Embedded(Host::start_in(bench.pmx()?, folder()?)?))
    }

    pub(crate) fn reference(keeping: Keeping) -> Result<Self> {
        let home = workerd::root().join("benches/streams");
        let installed = home.join("node_modules/@durable-streams/server").is_dir();
        ensure!(
            installed,
            "the reference server is not installed (npm ci in benches/streams)"
        );
        let folder = folder()?;
        let port = host::free_port()?;
        let mut command = Command::new("node");
        command
            .arg(home.join("reference.js"))
            .args(["--port", &port.to_string()]);
        match keeping {
            Keeping::Files => drop(command.arg("--data").arg(folder.path())),
            Keeping::Memory => {}
        }
        let ready = |port| get::get(port, "127.0.0.1", "/v1/stream/none", &[]).is_ok();
        let server = Server::start(&mut command, port, ready)?;
        Ok(Self::Reference(Reference {
            server,
            keeping,
            _folder: folder,
        }))
    }

    /// A new connection to it.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(match self {
            Self::Worker(workerd) => workerd.port(),
            Self::Embedded(host) => host.port(),
            Self::Reference(reference) => reference.server.port(),
        })
        .await
    }

    /// Where it keeps streams, if it is the reference server.
    pub(crate) fn keeping(&self) -> Option<Keeping> {
        match self {
            Self::Worker(_) | Self::Embedded(_) => None,
            Self::Reference(reference) => Some(reference.keeping),
        }
    }

    /// The processor time it took so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        match self {
            Self::Worker(workerd) => workerd.cpu(),
            Self::Embedded(host) => host.cpu(),
            Self::Reference(reference) => host::cpu_of(reference.server.id()),
        }
    }
}

fn folder() -> Result<TempDir> {
    let disk = Path::new(DISK);
    Ok(tempfile::Builder::new()
        .prefix("pmx-streams-")
        .tempdir_in(disk)?)
}
