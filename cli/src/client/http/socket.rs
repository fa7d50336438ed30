//! Client sockets: connections whose system buffers hold little that the line has not taken.
//!
//! A system takes megabytes for a slow line, so that a count of what it took says nothing of the
//! line. Linux can bound the bytes that are *not sent yet* (`TCP_NOTSENT_LOWAT`), whatever is in
//! flight, so a line of long delay still carries all it can. The option belongs to the socket,
//! which ureq's own connector does not hand out; otherwise this one does as that one does.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    RustlsConnector, ShutdownHandle, Transport,
};

/// Bytes that a socket holds unsent. With those of four uploads, and what each hands out at once,
/// progress stays within 256 KiB of the line.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 32 * 1024;

/// Makes the connections of a client, through a proxy and encrypted as its configuration says.
pub(super) fn connector() -> impl Connector {
    let plain = ().chain(ConnectProxyConnector::default()).chain(Plain);
    plain.chain(RustlsConnector::default())
}

/// Makes a plain connection, unless a proxy has one.
#[derive(Debug)]
struct Plain;

impl<In: Transport> Connector<In> for Plain {
    type Out = Either<In, Socket>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        proxied: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(proxied) = proxied {
            return Ok(Some(Either::A(proxied)));
        }
        let stream = Arc::new(reach(&details.addrs, details.timeout)?);
        stream.set_nodelay(details.config.no_delay())?;
        hold_little(&stream)?;
        let handle: Weak<TcpStream> = Arc::downgrade(&stream);
        let handle: Weak<dyn ShutdownHandle> = handle;
        (details.register_shutdown)(handle)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Socket { stream, buffers })))
    }
}

#[cfg(target_os = "linux")]
fn hold_little(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)
}

#[cfg(not(target_os = "linux"))]
fn hold_little(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// Connects to the first address that answers. Each has half of the time that is left, and the
/// last has all of it.
fn reach(addresses: &[SocketAddr], timeout: NextTimeout) -> Result<TcpStream, Error> {
    let until = timeout.not_zero().map(|time| Instant::now() + *time);
    let mut fault = Error::Io(ErrorKind::ConnectionRefused.into());
    for (place, address) in addresses.iter().enumerate() {
        let is_last = place + 1 == addresses.len();
        let connected = match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Err(Error::Timeout(timeout.reason)),
            Some(left) => {
                TcpStream::connect_timeout(address, if is_last { left } else { left / 2 })
            }
            None => TcpStream::connect(address),
        };
        fault = match connected {
            Ok(stream) => return Ok(stream),
            Err(error) if is_of_address(error.kind()) => failed(error, timeout),
            Err(error) => return Err(error.into()),
        };
    }
    Err(fault)
}

/// Whether another address of the same host may answer.
fn is_of_address(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::AddrNotAvailable
            | ErrorKind::TimedOut
            | ErrorKind::WouldBlock
    )
}

/// An open connection.
struct Socket {
    /// Shared with what shuts it down from another thread.
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        settled(self.stream.set_write_timeout(time(timeout)?))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        let written = (&*self.stream).write_all(output);
        written.map_err(|error| failed(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let until = time(timeout)?.map(|time| Instant::now() + time);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Error::Timeout(timeout.reason));
            }
            settled(self.stream.set_read_timeout(left))?;
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                Ok(read) => {
                    self.buffers.input_appended(read);
                    return Ok(read > 0);
                }
                // A signal ends a read that has a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error, timeout)),
            }
        }
    }

    /// Whether the server neither closed it nor sent what it was not asked for.
    fn is_open(&mut self) -> bool {
        let is_silent = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            io::Result::Ok(peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock))
        };
        is_silent().unwrap_or(false)
    }
}

/// The time that is left, if there is a limit.
fn time(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    Ok(timeout.not_zero().map(|time| *time))
}

/// macOS refuses timeouts once the peer has closed, though its answer may still be there to read.
fn settled(set: io::Result<()>) -> io::Result<()> {
    match set {
        Err(error) if cfg!(target_os = "macos") && error.kind() == ErrorKind::InvalidInput => {
            Ok(())
        }
        set => set,
    }
}

/// A fault of the connection. Systems call a timeout by one name or the other.
fn failed(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket")
            .field(&self.stream.peer_addr().ok())
            .finish()
    }
}
