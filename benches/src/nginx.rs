//! nginx: serves a folder on the loopback, as the peer of a published page.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::host::{self, Server};
use crate::{peer_programs, run};

/// A running nginx, stopped when dropped.
pub(crate) struct Nginx {
    server: Server,
    program: PathBuf,
    folder: TempDir,
}

impl Nginx {
    /// Serves `root`: a worker for each core, `sendfile`, no access log, and otherwise the compiled
    /// defaults.
    pub(crate) fn serving(root: &Path) -> Result<Self> {
        let program = peer_programs::find("nginx")?;
        let folder = tempfile::Builder::new().prefix("pmx-nginx-").tempdir()?;
        let port = host::free_port()?;
        fs::write(settings(&folder), configuration(folder.path(), root, port)?)?;
        let mut command = command(&program, &folder);
        let ready = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let server = Server::start(&mut command, port, ready)?;
        Ok(Self {
            server,
            program,
            folder,
        })
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The workers belong to the master, which must be asked to stop: a kill would leave them.
        let mut command = command(&self.program, &self.folder);
        let _ = run::quietly(command.args(["-s", "stop"]));
    }
}

fn settings(folder: &TempDir) -> PathBuf {
    folder.path().join("nginx.conf")
}

fn command(program: &Path, folder: &TempDir) -> Command {
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(settings(folder))
        .arg("-p")
        .arg(folder.path());
    command.arg("-e").arg(folder.path().join("error.log"));
    command
}

fn configuration(folder: &Path, root: &Path, port: u16) -> Result<String> {
    // Workers of an nginx that root starts run as another user, which may be unable to read the
    // corpus.
    let root_user = run::quietly(Command::new("id").arg("-u"))?.trim() == "0";
    let user = if root_user { "user root;" } else { "" };
    let (folder, root) = (folder.display(), root.display());
    Ok(format!(
        "{user} daemon off; worker_processes auto; pid {folder}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
           types {{ text/html html; text/css css; text/javascript js; }}\n\
           access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
           scgi_temp_path {folder}/scgi;\n\
           server {{ listen 127.0.0.1:{port}; root {root}; }}\n\
         }}\n"
    ))
}
