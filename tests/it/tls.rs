//! TLS of the embedded host: certificates by name, read again when they change.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::world::{Running, World, eventually, try_raw};

/// Writes a certificate for names, and its key. Returns the certificate.
fn certificate(folder: &Path, file: &str, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(
        folder.join(format!("{file}.key")),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    fs::write(folder.join(format!("{file}.pem")), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

/// The answer of a host to a client that trusts one certificate; none if the host has another.
fn get(port: u16, host: &str, trusted: &CertificateDer<'static>) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap());
    let request = format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    // A server may close without a farewell of TLS.
    let _ = stream.read_to_string(&mut answer);
    Some(answer)
}

#[test]
fn serve_speaks_tls_with_the_certificate_of_each_name() {
    let world = World::new();
    let folder = world.temp.path().to_owned();
    world.write(&[("index.html", "<body>home</body>")]);
    let one = certificate(&folder, "one", &["localhost", "docs.localhost"]);
    let two = certificate(&folder, "two", &["docs.example.com"]);
    let serve = [
        "serve",
        "--data",
        "own",
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        "one.pem",
        "--tls-key",
        "one.key",
        "--tls-cert",
        "two.pem",
        "--tls-key",
        "two.key",
    ];
    let host = Running::start(world.command(&serve));
    let port = host.port;
    let server = format!("https://localhost:{port}");
    let pmx = |args: &[&str]| {
        let of = [
            "--server", &*server, "--cacert", "one.pem", "--data", "own", "--space", "docs",
        ];
        world.pmx(&[args, &of].concat()).ok()
    };
    let url = pmx(&["sync", "site"]).stdout;
    assert_eq!(url, format!("https://docs.localhost:{port}/\n"));
    pmx(&["domain", "add", "docs.example.com", "--unverified"]);
    for (name, trusted, shows) in [
        ("docs.localhost", &one, true),
        ("docs.example.com", &two, true),
        ("docs.example.com", &one, false),
        ("docs.localhost", &two, false),
    ] {
        let answer = get(port, name, trusted);
        let is_shown = answer
            .as_ref()
            .is_some_and(|it| it.ends_with("<body>home</body>"));
        assert_eq!(is_shown, shows, "{name}: {answer:?}");
    }
    // Nothing answers a client without TLS.
    let plain = b"GET / HTTP/1.1\r\nHost: docs.localhost\r\n\r\n";
    assert!(try_raw(port, plain, false).is_none());
    let newer = certificate(&folder, "two", &["docs.example.com"]);
    eventually("the host reads the new certificate", || {
        get(port, "docs.example.com", &newer).is_some()
    });
}

#[test]
fn serve_refuses_certificates_without_keys() {
    let world = World::new();
    certificate(world.temp.path(), "one", &["localhost"]);
    let serve = |more: &[&str]| {
        let args = ["serve", "--data", "own", "--listen", "127.0.0.1:0"];
        world.pmx(&[&args[..], more].concat())
    };
    serve(&["--tls-cert", "one.pem"]).fails(2, "tls-key");
    let two = [
        "--tls-cert",
        "one.pem",
        "--tls-key",
        "one.key",
        "--tls-key",
        "one.key",
    ];
    serve(&two).fails(2, "1 of --tls-cert and 2 of --tls-key");
    serve(&["--tls-cert", "one.pem", "--tls-key", "none.key"]).fails(2, "none.key");
}
