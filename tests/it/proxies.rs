//! Proxies of the environment: CONNECT and SOCKS5 reach a server, `NO_PROXY` bypasses them, and no
//! proxy sees the token of an encrypted request.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::scripted_servers::{ScriptedServer, http, no_deploys, pmx};
use crate::world::Ran;

/// An address of this machine that is not loopback, so that proxies apply to it.
const HOST: &str = "0.0.0.0";

/// The token that [`pmx`] sends.
const TOKEN: &str = "s3cret";

/// Bytes that a proxy received from clients.
type ReceivedBytes = Arc<Mutex<Vec<u8>>>;

/// A TLS server, and a folder with its certificate.
fn encrypted() -> (ScriptedServer, TempDir) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("ca.pem"), certificate.pem()).unwrap();
    (
        ScriptedServer::encrypted(&certificate, &key, |_| no_deploys()),
        home,
    )
}

/// An HTTP proxy: it opens a tunnel for CONNECT, and answers every other request itself.
fn connect_proxy(seen: &ReceivedBytes, refusal: Option<&'static str>) -> ScriptedServer {
    let seen = Arc::clone(seen);
    ScriptedServer::handling(move |mut client| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if client.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        seen.lock().unwrap().extend(&head);
        let line = String::from_utf8(head).unwrap();
        let target = line.strip_prefix("CONNECT ");
        let target = target.and_then(|rest| rest.split(' ').next()?.parse().ok());
        match (target, refusal) {
            (_, Some(refusal)) => drop(client.write_all(&http(refusal, ""))),
            (None, None) => drop(client.write_all(&no_deploys())),
            (Some(target), None) => {
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                relay(client, target, &seen);
            }
        }
    })
}

/// A proxy by SOCKS5 (RFC 1928) for IPv4 addresses, without a login.
fn socks_proxy(seen: &ReceivedBytes) -> ScriptedServer {
    let seen = Arc::clone(seen);
    ScriptedServer::handling(move |mut client| {
        let mut greeting = [0; 2];
        client.read_exact(&mut greeting).unwrap();
        client.read_exact(&mut vec![0; greeting[1].into()]).unwrap();
        client.write_all(&[5, 0]).unwrap();
        let mut request = [0; 10];
        client.read_exact(&mut request).unwrap();
        seen.lock().unwrap().extend(request);
        let [5, 1, 0, 1, a, b, c, d, high, low] = request else {
            panic!("no connection to an IPv4 address: {request:?}");
        };
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        let port = u16::from_be_bytes([high, low]);
        relay(client, (Ipv4Addr::new(a, b, c, d), port).into(), &seen);
    })
}

/// Relays bytes in both directions, and records those of the client.
fn relay(mut client: TcpStream, target: SocketAddr, seen: &ReceivedBytes) {
    let mut server = TcpStream::connect(target).unwrap();
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = client.read(&mut piece) {
        seen.lock().unwrap().extend(&piece[..read]);
        if server.write_all(&piece[..read]).is_err() {
            return;
        }
    }
}

fn list(home: &TempDir, url: &str, variables: &[(&str, &str)]) -> Ran {
    let args = ["deploys", "--space", "docs", "--server", url];
    let trust: &[&str] = match url.split_once(':') {
        Some(("https", _)) => &["--cacert", "ca.pem"],
        _ => &[],
    };
    pmx(home.path(), &[&args[..], trust].concat(), variables)
}

fn holds(seen: &ReceivedBytes, words: &str) -> bool {
    let seen = seen.lock().unwrap();
    seen.windows(words.len())
        .any(|part| part == words.as_bytes())
}

#[test]
fn connect_proxy_leads_to_an_encrypted_server_and_never_sees_the_token() {
    let (server, home) = encrypted();
    let url = server.url("https", HOST);
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let seen = ReceivedBytes::default();
        let proxy = connect_proxy(&seen, None);
        let address = format!("http://user:pass%21@127.0.0.1:{}", proxy.port);
        list(&home, &url, &[(variable, &address)]).ok();
        let target = format!("CONNECT {HOST}:{} HTTP/1.1\r\n", server.port);
        assert!(holds(&seen, &target), "{variable}");
        assert!(holds(&seen, "Basic dXNlcjpwYXNzIQ=="), "{variable}");
        let length = seen.lock().unwrap().len();
        assert!(length > 400, "the request went through it: {length} B");
        assert!(!holds(&seen, TOKEN) && !holds(&seen, "api/deploys"));
    }
    // A proxy can read plain HTTP, which shows that this test would find a token.
    let seen = ReceivedBytes::default();
    let proxy = connect_proxy(&seen, None);
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let plain = format!("http://{HOST}:9");
    list(&home, &plain, &[("HTTP_PROXY", &address)]).ok();
    assert!(holds(&seen, &format!("GET {plain}/api/deploys?")));
    assert!(holds(&seen, TOKEN));
}

#[test]
fn socks_proxy_leads_to_an_encrypted_server_and_never_sees_the_token() {
    let (server, home) = encrypted();
    let url = server.url("https", HOST);
    for scheme in ["socks5", "socks5h"] {
        let seen = ReceivedBytes::default();
        let proxy = socks_proxy(&seen);
        let address = format!("{scheme}://127.0.0.1:{}", proxy.port);
        list(&home, &url, &[("ALL_PROXY", &address)]).ok();
        let length = seen.lock().unwrap().len();
        assert!(length > 400, "the request went through it: {length} B");
        assert!(!holds(&seen, TOKEN) && !holds(&seen, "api/deploys"));
    }
}

#[test]
fn no_proxy_and_loopback_bypass_the_proxy() {
    let (server, home) = encrypted();
    let seen = ReceivedBytes::default();
    let proxy = connect_proxy(&seen, Some("403 Forbidden"));
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let through = [("HTTPS_PROXY", &*address), ("HTTP_PROXY", &*address)];
    let url = server.url("https", HOST);
    let refused = list(&home, &url, &through).fails(5, "E_NETWORK");
    assert!(refused.stderr.contains("the proxy refuses"), "{refused:?}");
    assert!(refused.stderr.contains("NO_PROXY"), "{refused:?}");
    let length = seen.lock().unwrap().len();
    assert!(length > 0, "it was asked");
    for exceptions in [HOST, "*", "intra.example, 0.0.0.0/8"] {
        list(
            &home,
            &url,
            &[&through[..], &[("NO_PROXY", exceptions)]].concat(),
        )
        .ok();
    }
    let here = ScriptedServer::answering(|_| no_deploys());
    list(&home, &here.url("http", "127.0.0.1"), &through).ok();
    assert_eq!(seen.lock().unwrap().len(), length, "it was not asked again");
    list(
        &home,
        &url,
        &[&through[..], &[("NO_PROXY", "other.example")]].concat(),
    )
    .fails(5, "E_NETWORK");
}

#[test]
fn proxy_that_wants_a_login_is_reported() {
    let (server, home) = encrypted();
    let proxy = connect_proxy(&ReceivedBytes::default(), Some("407 Who are you"));
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let url = server.url("https", HOST);
    let ran = list(&home, &url, &[("HTTPS_PROXY", &address)]).fails(5, "E_NETWORK");
    assert!(
        ran.stderr.contains("http://USER:PASSWORD@HOST:PORT"),
        "{ran:?}"
    );
}
