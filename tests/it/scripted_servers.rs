//! Scripted servers on loopback, in place of a PathMX server: over TCP or TLS.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::world::http::content_length;
use crate::world::{Ran, pmx_path};

/// A request as it arrived.
pub(crate) struct Asked {
    pub(crate) method: String,
}

/// A server that answers each request by a script, one request per connection.
pub(crate) struct ScriptedServer {
    pub(crate) port: u16,
    pub(crate) asked: Arc<AtomicUsize>,
}

/// A server's side of a connection.
type Handler = dyn Fn(TcpStream) + Send + Sync;

impl ScriptedServer {
    /// A server that sends bytes and closes the connection.
    pub(crate) fn answering(script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut server = Self::handling(move |stream| {
            count.fetch_add(1, Ordering::SeqCst);
            answer(stream, &script);
        });
        server.asked = asked;
        server
    }

    /// The same over TLS.
    pub(crate) fn encrypted(
        certificate: &rcgen::Certificate,
        key: &rcgen::KeyPair,
        script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let config = tls(certificate, key);
        Self::handling(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("TLS");
            answer(StreamOwned::new(connection, stream), &script);
        })
    }

    /// A server that runs `handle` on each connection.
    pub(crate) fn handling(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::handling_on(listener, handle)
    }

    /// The same with the connections of a listener.
    pub(crate) fn handling_on(
        listener: TcpListener,
        handle: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let handle: Arc<Handler> = Arc::new(handle);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || handle(stream));
            }
        });
        Self {
            port,
            asked: Arc::default(),
        }
    }

    /// The server's URL, under a given host name.
    pub(crate) fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}", self.port)
    }
}

/// The TLS configuration of a server with a certificate.
pub(crate) fn tls(certificate: &rcgen::Certificate, key: &rcgen::KeyPair) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = config
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate");
    Arc::new(config)
}

/// Answers one request. The client may disconnect in between.
fn answer(stream: impl Read + Write, script: &impl Fn(&Asked) -> Vec<u8>) {
    let mut reader = BufReader::new(stream);
    if let Some(asked) = read_request(&mut reader) {
        let stream = reader.get_mut();
        let _gone = stream
            .write_all(&script(&asked))
            .and_then(|()| stream.flush());
    }
}

/// Reads a request with its body.
pub(crate) fn read_request(reader: &mut BufReader<impl Read>) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let mut body = vec![0; content_length(&head).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let method = head.split(' ').next()?.to_owned();
    Some(Asked { method })
}

/// An HTTP/1.1 response, after which the connection closes.
pub(crate) fn http(head: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}").into()
}

/// The response with an empty history of a site.
pub(crate) fn no_deploys() -> Vec<u8> {
    let body = r#"{"active":0,"deploys":[],"url":"http://docs.localhost/"}"#;
    http("200 OK\r\nContent-Type: application/json", body)
}

/// `pmx` in a folder of its own, with only these variables in its environment.
pub(crate) fn command(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(pmx_path());
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("HOME", folder).env("NO_COLOR", "1");
    command.env("PMX_CACHE", folder.join("cache"));
    command.env("PMX_DATA", folder.join("data"));
    command.env("PMX_TOKEN", "s3cret");
    command.envs(variables.iter().copied());
    command
}

/// Runs `pmx` as [`command`] says.
pub(crate) fn pmx(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let output = command(folder, args, variables).output();
    output.expect("pmx runs").into()
}
