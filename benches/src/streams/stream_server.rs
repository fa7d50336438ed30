//! Stream servers in the comparison: the Worker, the embedded host, the reference server.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use super::client::Connection;
use crate::bench::Bench;
use crate::get;
use crate::host::{self, Host, Server};
use crate::workerd::{self, Build, Node, Workerd};

/// Folder of data that must survive a crash: by convention, it is on a disk.
pub(crate) const DISK: &str = "/var/tmp";

/// A server of streams.
pub(crate) enum StreamServer {
    Worker(Workerd),
    Embedded(Host),
    Bare(Bare),
    Reference(Reference),
}

/// A Durable Object that only appends, and its folder.
pub(crate) struct Bare {
    node: Node,
    _folder: TempDir,
}

/// The reference server, and its folder if it has one.
pub(crate) struct Reference {
    server: Server,
    keeping: Keeping,
    _folder: TempDir,
}

/// Where the reference server stores streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keeping {
    Files,
    Memory,
}

impl StreamServer {
    pub(crate) fn worker() -> Result<Self> {
        let build = Build::Deployed.make()?;
        Ok(Self::Worker(Workerd::start_in(&build, folder()?)?))
    }

    pub(crate) fn embedded(bench: &Bench) -> Result<Self> {
        Ok(Self::Embedded(Host::start_in(bench.pmx()?, folder()?)?))
    }

    pub(crate) fn bare() -> Result<Self> {
        let folder = folder()?;
        let mut command = Command::new("node");
        command
            .arg(workerd::root().join("benches/streams/bare.js"))
            .arg("--data")
            .arg(folder.path());
        let node = Node::start(&mut command, &folder.path().join("log"))?;
        Ok(Self::Bare(Bare {
            node,
            _folder: folder,
        }))
    }

    pub(crate) fn reference(keeping: Keeping) -> Result<Self> {
        let home = workerd::root().join("benches/streams");
        let installed = home.join("node_modules/@durable-streams/server").is_dir();
        ensure!(
            installed,
            "the reference server is not installed (npm install in benches/streams)"
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
            Self::Bare(bare) => bare.node.port,
            Self::Reference(reference) => reference.server.port(),
        })
        .await
    }

    /// The server, if its streams can be read.
    pub(crate) fn readable(&self) -> Result<&Self> {
        match self {
            Self::Worker(_) | Self::Embedded(_) | Self::Reference(_) => Ok(self),
            Self::Bare(_) => bail!("it can only append"),
        }
    }

    /// The server, if it can serve many live readers in reasonable time.
    pub(crate) fn followed(&self) -> Result<&Self> {
        match self {
            Self::Worker(_) | Self::Embedded(_) => Ok(self),
            Self::Bare(_) => self.readable(),
            Self::Reference(reference) => match reference.keeping {
                Keeping::Memory => Ok(self),
                Keeping::Files => bail!("it commits to disk for each reader: seconds an append"),
            },
        }
    }

    /// Its processor time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        match self {
            Self::Worker(workerd) => workerd.cpu(),
            Self::Embedded(host) => host.cpu(),
            Self::Bare(bare) => bare.node.cpu(),
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
