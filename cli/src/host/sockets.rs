//! Connection sockets: accepts connections and speaks HTTP/1.1 on each, within limits of time and
//! rate.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connections::{Connection, Connections};
use super::http::answer;
use super::state::AppState;
use super::write_timeout::TimeoutWriter;

/// Serves until `stop` changes, then lets the connections finish their requests.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<AppState>,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Connections::new(CONNECTIONS_MAX);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // If no connection may end for the new one, the new one ends.
                if let Ok(connection) = connections.admit() {
                    let (state, stop) = (Arc::clone(&state), stop.clone());
                    let stream = (stream, tls.clone());
                    tasks.spawn(serve_one(stream, peer.ip(), connection, state, stop));
                }
            }
            Err(error) => {
                // Usually the process is out of files, and some close soon.
                state.log.fault("accepting a connection", &error);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(GRACE_TIME, all).await;
}

/// Time limit for the head of a request, and for an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// How long a client may leave an answer unread.
const UNREAD_TIME: Duration = Duration::from_mins(1);

/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Time for requests to finish after a stop. The host may stop at any moment: clients repeat a
/// request that is cut off.
const GRACE_TIME: Duration = Duration::from_millis(350);

/// Connections at once, besides those that wait for events. With them, the process stays below the
/// 1,024 files that most systems allow.
const CONNECTIONS_MAX: usize = 512;

async fn serve_one(
    (stream, tls): (TcpStream, Option<TlsAcceptor>),
    peer: IpAddr,
    connection: Connection,
    state: Arc<AppState>,
    stop: watch::Receiver<bool>,
) {
    let connection = Arc::new(connection);
    let shared = Arc::clone(&connection);
    let answering = move |request| answer(Arc::clone(&state), request, peer, Arc::clone(&shared));
    // Without the option, only latency suffers.
    let _ = stream.set_nodelay(true);
    let socket = TimeoutWriter::new(stream, UNREAD_TIME, Arc::clone(&connection));
    let serving = async {
        let Some(tls) = tls else {
            return serve_connection(socket, answering, stop).await;
        };
        // A client that fails or delays the handshake gets no answer.
        if let Ok(Ok(socket)) = timeout(HEAD_TIME, tls.accept(socket)).await {
            serve_connection(socket, answering, stop).await;
        }
    };
    tokio::select! {
        () = serving => {}
        () = connection.evicted() => {}
    }
}

/// Answers the requests of one connection.
async fn serve_connection<S, A, F, B>(socket: S, answering: A, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answering(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        // A client may close its half after its request, and still gets the answer.
        .half_close(true);
    let io = TokioIo::new(socket);
    let mut connection = pin!(http.serve_connection(io, service).with_upgrades());
    // A connection error concerns only its client, which is gone.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use pmx_core::backend::{Blobs as _, ObjectKey};
    use pmx_core::id::{ObjectId, SpaceId};
    use pmx_sync::serve::{Body, BodyRange, Open};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::blobs::ObjectFolder;
    use super::super::response_body::sendable;
    use super::*;

    /// The head and the received body length of an answer. It announces `bytes` bytes; the object
    /// has one million.
    async fn sent(method: &str, bytes: u64) -> (String, usize) {
        let home = tempfile::tempdir().unwrap();
        let blobs = Arc::new(ObjectFolder::open(home.path()).unwrap());
        let key = ObjectKey {
            space: SpaceId::from_bytes([1; 16]),
            object: ObjectId::from_bytes([2; 16]),
        };
        blobs
            .write(key, vec![b'x'; 1_000_000].into())
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (_stop, stopped) = watch::channel(false);
        let answering = move |request: Request<Incoming>| {
            let piece = BodyRange {
                key,
                range: 0..bytes,
                open: Open::AsIs,
                check: None,
            };
            let mut answer = Response::new(Body::Pieces(vec![piece]));
            answer
                .headers_mut()
                .insert("content-length", HeaderValue::from(bytes));
            let (method, blobs) = (request.method().clone(), Arc::clone(&blobs));
            async move { sendable(answer, &method, &blobs).await }
        };
        let connection = Arc::new(Connections::new(1).admit().unwrap());
        let socket = TimeoutWriter::new(stream, UNREAD_TIME, connection);
        let connection = tokio::spawn(serve_connection(socket, answering, stopped));
        let request = format!("{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        // The host may break a connection with a reset.
        let _ = client.read_to_end(&mut received).await;
        connection.await.unwrap();
        let received = String::from_utf8(received).unwrap();
        let (head, body) = received.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.len())
    }

    #[tokio::test]
    async fn length_on_the_socket() {
        for (method, bytes, expected) in [
            ("GET", 1_000_000, 1_000_000),
            ("GET", 10, 10),
            ("HEAD", 1_000_000, 0),
            ("HEAD", 10, 0),
        ] {
            let (head, received) = sent(method, bytes).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert!(
                head.contains(&format!("content-length: {bytes}\r\n")),
                "{head}"
            );
            assert_eq!(received, expected, "{method} {bytes}");
        }
    }

    #[tokio::test]
    async fn part_is_not_taken_for_the_whole() {
        let (head, received) = sent("GET", 1_000_001).await;
        assert!(head.contains("content-length: 1000001\r\n"), "{head}");
        assert!(received < 1_000_001);
    }
}
