//! HTTP/2 of the client: parallel uploads share one connection if the server offers it.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, Response};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::interrupts::noise;
use crate::scripted_servers::{pmx, tls};
use crate::world::{World, raw};

/// An address of this machine that is not loopback: the API has another host there.
const HOST: &str = "0.0.0.0";

/// A server that ends TLS before a host.
struct Front {
    port: u16,
    /// The number of accepted connections.
    accepted: Arc<AtomicUsize>,
    uploads: Arc<Uploads>,
}

/// Uploads in flight.
#[derive(Default)]
struct Uploads {
    now: watch::Sender<usize>,
    /// Whether two of them were in flight at once.
    have_met: AtomicBool,
}

impl Uploads {
    /// Begins an upload, and waits a while for another one.
    async fn begin(&self) {
        self.now.send_modify(|now| *now += 1);
        let mut now = self.now.subscribe();
        let met = now.wait_for(|now| *now >= 2);
        if tokio::time::timeout(Duration::from_secs(3), met)
            .await
            .is_ok()
        {
            self.have_met.store(true, Ordering::SeqCst);
        }
    }

    fn end(&self) {
        self.now.send_modify(|now| *now -= 1);
    }
}

impl Front {
    /// Starts a front that offers protocols to clients and forwards their requests to a host's
    /// port.
    fn before(host: u16, home: &TempDir, offered: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(home.path().join("ca.pem"), certificate.pem()).unwrap();
        let mut config = (*tls(&certificate, &key)).clone();
        config.alpn_protocols = offered.iter().map(|it| it.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self {
            port: listener.local_addr().unwrap().port(),
            accepted: Arc::default(),
            uploads: Arc::default(),
        };
        let (accepted, uploads) = (Arc::clone(&front.accepted), Arc::clone(&front.uploads));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let work = accept(listener, acceptor, host, accepted, uploads);
        std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(work));
        front
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    host: u16,
    accepted: Arc<AtomicUsize>,
    uploads: Arc<Uploads>,
) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        accepted.fetch_add(1, Ordering::SeqCst);
        let (acceptor, uploads) = (acceptor.clone(), Arc::clone(&uploads));
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(answer(request, respond, host, Arc::clone(&uploads)));
            }
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    host: u16,
    uploads: Arc<Uploads>,
) {
    let (head, mut stream) = request.into_parts();
    let is_upload = head.method == Method::PUT;
    if is_upload {
        uploads.begin().await;
    }
    let mut body = Vec::new();
    while let Some(Ok(piece)) = stream.data().await {
        stream.flow_control().release_capacity(piece.len()).unwrap();
        body.extend_from_slice(&piece);
    }
    let named: HashMap<_, _> = ["authorization", "content-type"]
        .into_iter()
        .filter_map(|name| Some((name, head.headers.get(name)?.to_str().ok()?.to_owned())))
        .collect();
    let mut asked = format!(
        "{} {} HTTP/1.1\r\n",
        head.method,
        head.uri.path_and_query().unwrap()
    );
    for (name, value) in &named {
        asked += &format!("{name}: {value}\r\n");
    }
    asked += &format!(
        "host: api.localhost:{host}\r\ncontent-length: {}\r\n",
        body.len()
    );
    let asked = [asked.as_bytes(), b"connection: close\r\n\r\n", &body].concat();
    let answer = tokio::task::spawn_blocking(move || raw(host, &asked, false));
    let answer = answer.await.unwrap();
    if is_upload {
        uploads.end();
    }
    let media = answer.header("content-type").unwrap_or_default();
    let response = Response::builder()
        .status(answer.status)
        .header("content-type", media)
        .body(());
    let sent = respond.send_response(response.unwrap(), false);
    sent.unwrap().send_data(answer.body.into(), true).unwrap();
}

#[test]
fn parallel_uploads_share_one_connection() {
    let (world, home) = (World::new(), TempDir::new().unwrap());
    noise(&home, 24, 1_000_000);
    let front = Front::before(world.server.port, &home, &["h2", "http/1.1"]);
    let server = format!("https://{HOST}:{}", front.port);
    let args = [
        "sync", "site", "--space", "docs", "--json", "--cacert", "ca.pem", "--server", &server,
    ];
    let token = world.token();
    let token = token.strip_prefix("Bearer ").unwrap();
    let ran = pmx(home.path(), &args, &[("PMX_TOKEN", token)]).ok();
    assert_eq!(ran.at("/outcome"), "published");
    assert!(front.uploads.have_met.load(Ordering::SeqCst), "one by one");
    assert_eq!(front.accepted.load(Ordering::SeqCst), 1);
    let page = world.get("docs", "/0.bin");
    assert_eq!((page.status, page.body.len()), (200, 1_000_000));
}
