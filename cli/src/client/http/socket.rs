//! Socket options of client connections: they bound the unsent bytes in the system's buffer.
//!
//! The system buffers megabytes for a slow line, so the bytes that it took say little about the
//! line. Linux can bound the bytes that are *not sent yet* (`TCP_NOTSENT_LOWAT`), independently of
//! those in flight. So a line with a long delay still reaches its full rate. The option belongs to
//! the socket, but reqwest exposes only a connection's addresses. So this module finds the
//! descriptor with these addresses, and sets the option on a duplicate. In a sandbox that forbids
//! `pidfd_getfd`, the system's buffers remain, and progress runs ahead of the line by their size.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::Connection;
use tower_layer::Layer;
use tower_service::Service;

/// Sets the options of each connection that a client makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketOptions;

impl<S> Layer<S> for SocketOptions {
    type Service = SocketConnector<S>;

    fn layer(&self, inner: S) -> SocketConnector<S> {
        SocketConnector(inner)
    }
}

/// A connector that sets the options of its connections.
#[derive(Debug, Clone)]
pub(super) struct SocketConnector<S>(S);

impl<S, R> Service<R> for SocketConnector<S>
where
    S: Service<R>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.0.call(request);
        Box::pin(async move {
            let connection = connecting.await?;
            #[cfg(target_os = "linux")]
            linux::bound_unsent(&connection.connected());
            Ok(connection)
        })
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::SocketAddr;

    use hyper_util::client::legacy::connect::{Connected, HttpInfo};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    use socket2::{SockRef, Socket};

    /// Unsent bytes that a socket may hold. With four uploads, progress stays within 256 KiB of the
    /// line.
    const UNSENT_BYTES: u32 = 32 * 1024;

    pub(super) fn bound_unsent(connected: &Connected) {
        let mut extras = http::Extensions::new();
        connected.get_extras(&mut extras);
        let Some(info) = extras.get::<HttpInfo>() else {
            return;
        };
        if let Some(socket) = duplicate(info.local_addr(), info.remote_addr()) {
            // Best effort: the option only makes progress more accurate.
            let _ = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES);
        }
    }

    /// A second descriptor of this process's socket between two addresses.
    fn duplicate(local: SocketAddr, remote: SocketAddr) -> Option<Socket> {
        let process = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
        let open = std::fs::read_dir("/proc/self/fd").ok()?;
        let sockets = open.flatten().filter(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            target.to_string_lossy().starts_with("socket:")
        });
        let numbers = sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let duplicates = numbers.filter_map(|number| {
            let duplicate = pidfd_getfd(&process, number, PidfdGetfdFlags::empty());
            duplicate.ok().map(Socket::from)
        });
        let is_ours = |socket: &Socket| {
            let of = |address: std::io::Result<socket2::SockAddr>| address.ok()?.as_socket();
            of(socket.local_addr()) == Some(local) && of(socket.peer_addr()) == Some(remote)
        };
        let mut duplicates = duplicates;
        duplicates.find(is_ours)
    }

    #[cfg(test)]
    mod tests {
        use std::net::{TcpListener, TcpStream};

        use super::*;

        #[test]
        fn duplicate_is_of_the_socket_between_the_addresses() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found = duplicate(local, remote).expect("this system permits it");
            found.set_tcp_notsent_lowat(UNSENT_BYTES).unwrap();
            let of = |stream: &TcpStream| SockRef::from(stream).tcp_notsent_lowat().unwrap();
            assert_eq!(of(&client), UNSENT_BYTES);
            assert_ne!(of(&other), UNSENT_BYTES);
            drop(client);
            drop(found);
            assert!(duplicate(local, remote).is_none());
        }
    }
}
