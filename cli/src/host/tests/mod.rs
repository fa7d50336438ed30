//! Embedded host tests over its socket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use pmx_sync::limits::BODY_BYTES_MAX;
use pmx_sync::serve::LivePages;

use super::*;

mod crash;

fn start(data: &Path, secret: Option<&str>) -> Result<Running, HostError> {
    Host::start(HostConfig {
        data: data.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        domain: "localhost".into(),
        home: None,
        api_host: None,
        public_url: None,
        proxies: Vec::new(),
        publish_secret: secret.map(str::to_owned),
        streams: StreamConfig::default(),
        live: LivePages::Chosen,
        shows_rules: false,
        country_header: None,
        pointer_lag: None,
        tls: Vec::new(),
        resolver: crate::host::DohUrl::default(),
        lease: pmx_sync::space::LEASE,
        objects: None,
        log: Log::Quiet,
    })
}

/// Sends `request` and returns all bytes until the host closes the connection.
fn exchange(host: &Running, request: &[u8]) -> String {
    exchange_with(TcpStream::connect(host.addr()).unwrap(), request).unwrap()
}

fn exchange_with(mut stream: TcpStream, request: &[u8]) -> std::io::Result<String> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

fn begin(host: &Running, more: &str) -> String {
    let secret = host.publish_secret();
    format!(
        "POST /api/publish/begin HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n{more}\r\n"
    )
}

#[test]
fn host_answers_and_has_a_private_folder() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("made/by/it");
    let host = start(&data, None).unwrap();
    let healthy = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&exchange(&host, healthy)), "200");
    let docs = SpaceName::parse("docs").unwrap();
    let port = host.addr().port();
    assert_eq!(host.url_of(&docs), format!("http://docs.localhost:{port}/"));
    let secret = find_secret(&data).unwrap();
    assert_eq!(secret.as_deref(), Some(host.publish_secret()));
    assert!(matches!(start(&data, None), Err(HostError::InUse { .. })));
    host.stop();
    let again = start(&data, None).unwrap();
    assert_eq!(secret.as_deref(), Some(again.publish_secret()));
    assert_eq!(status(&exchange(&again, healthy)), "200");
}

#[test]
fn port_in_use_is_reported() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = Host::start(HostConfig {
        data: home.path().to_owned(),
        listen: taken.local_addr().unwrap(),
        domain: "localhost".into(),
        home: None,
        api_host: None,
        public_url: None,
        proxies: Vec::new(),
        publish_secret: Some("x".into()),
        streams: StreamConfig::default(),
        live: LivePages::Chosen,
        shows_rules: false,
        country_header: None,
        pointer_lag: None,
        tls: Vec::new(),
        resolver: crate::host::DohUrl::default(),
        lease: pmx_sync::space::LEASE,
        objects: None,
        log: Log::Quiet,
    });
    let refused = refused.map(|_| ()).unwrap_err();
    assert!(refused.hint().contains("--listen"), "{refused}");
}

/// A client that sends a whole body before it reads must get the answer, not a reset.
#[test]
fn body_that_is_too_large_is_answered() {
    let home = tempfile::tempdir().unwrap();
    let host = start(home.path(), None).unwrap();
    let bytes = BODY_BYTES_MAX + 1;
    let head = begin(
        &host,
        &format!("content-length: {bytes}\r\nconnection: close\r\n"),
    );
    let mut request = head.into_bytes();
    request.resize(request.len() + bytes, 0);
    assert_eq!(status(&exchange(&host, &request)), "413");

    // The server may require a length, but must not accept the body.
    let head = begin(&host, "transfer-encoding: chunked\r\nconnection: close\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(format!("{bytes:x}\r\n").as_bytes());
    request.resize(request.len() + bytes, 0);
    request.extend_from_slice(b"\r\n0\r\n\r\n");
    let answer = exchange(&host, &request);
    assert!(["411", "413"].contains(&status(&answer)), "{answer}");
}

#[test]
fn expect_continue_is_refused_before_the_body() {
    let home = tempfile::tempdir().unwrap();
    let host = start(home.path(), None).unwrap();
    let asks = "content-length: 99999999\r\nexpect: 100-continue\r\n";
    let answer = exchange(&host, begin(&host, asks).as_bytes());
    assert_eq!(status(&answer), "413");
}

#[test]
fn connection_is_kept_and_closed_gracefully() {
    let home = tempfile::tempdir().unwrap();
    let host = start(home.path(), None).unwrap();
    let mut stream = TcpStream::connect(host.addr()).unwrap();
    for _ in 0..2 {
        stream
            .write_all(b"HEAD /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        // The rest of the head: an answer to HEAD ends with its head.
        let mut last = [0; 4];
        while &last != b"\r\n\r\n" {
            last.rotate_left(1);
            stream.read_exact(&mut last[3..]).unwrap();
        }
    }
    host.stop();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}
