//! Socket check: how many live-page sockets open, and how many stay open.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio_tungstenite::tungstenite::handshake::HandshakeError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::sites::PublishedVersion;
use super::updates::seconds;
use super::visit::Visitor;
use super::{CheckFinding, Doctor};
use crate::error::Failure;
use crate::interrupt::Interrupt;

/// Time limit for a connection and its first frame.
const PATIENCE: Duration = Duration::from_secs(30);

/// Interval at which a thread that reads a socket checks the time.
const TICK: Duration = Duration::from_millis(200);

/// The message of a page that wants its events.
const SUBSCRIPTION: &str = r#"{"page":"/","uses":[],"offset":"now"}"#;

/// Opens sockets of one site.
pub(super) struct Dialer<'a> {
    visitor: &'a Visitor,
    url: String,
    tls: Option<Arc<ClientConfig>>,
    pub(super) interrupt: &'a Interrupt,
}

/// An open socket of a page.
pub(super) struct Socket(WebSocket<Stream>);

enum Stream {
    Plain(TcpStream),
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Doctor<'_> {
    /// Opens sockets and holds them open.
    pub(super) fn sockets(&self, shown: &PublishedVersion) -> Result<(), Failure> {
        self.context.interrupt.check()?;
        let dialer = self.dialer(shown)?;
        let wanted = self.args.sockets;
        let opened: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..wanted).map(|_| scope.spawn(|| dialer.open())).collect();
            let lost = |_| Err("a thread ended without a reason".to_owned());
            let joined = threads.into_iter().map(|it| it.join().unwrap_or_else(lost));
            joined.collect()
        });
        let (mut sockets, mut faults) = (Vec::new(), Vec::new());
        for outcome in opened {
            match outcome {
                Ok(socket) => sockets.push(socket),
                Err(why) => faults.push(why),
            }
        }
        let count = sockets.len();
        let until = Instant::now() + self.watch();
        let sockets = kept(sockets, until, dialer.interrupt);
        let stayed = sockets.len();
        let words = format!(
            "{count} of {wanted} opened, {stayed} stayed for {}",
            seconds(self.watch())
        );
        faults.truncate(3);
        if stayed < count {
            faults.push(format!("{} closed", count - stayed));
        }
        self.see("sockets", || CheckFinding::of(&[words], &faults))?;
        let redeployed = || self.redeployed(&dialer, sockets);
        self.check("redeploy", redeployed)
    }

    fn dialer(&self, shown: &PublishedVersion) -> Result<Dialer<'_>, Failure> {
        let is_plain = self.site.server.as_str().starts_with("http://");
        let tls = if is_plain {
            None
        } else {
            Some(Arc::new(self.visitor.trust.config(&[b"http/1.1"])?))
        };
        Ok(Dialer {
            visitor: &self.visitor,
            url: format!("{}_events", shown.url),
            tls,
            interrupt: &self.context.interrupt,
        })
    }
}

/// The sockets that are still open at a time.
fn kept(sockets: Vec<Socket>, until: Instant, interrupt: &Interrupt) -> Vec<Socket> {
    thread::scope(|scope| {
        let watched = sockets.into_iter().map(|mut socket| {
            scope.spawn(move || socket.stays(until, interrupt).then_some(socket))
        });
        let threads: Vec<_> = watched.collect();
        let joined = threads
            .into_iter()
            .filter_map(|it| it.join().ok().flatten());
        joined.collect()
    })
}

impl Dialer<'_> {
    /// Opens a socket and waits until the site has accepted its subscription.
    pub(super) fn open(&self) -> Result<Socket, String> {
        let target = self.visitor.target(&self.url);
        let uri: Uri = target.url.parse().map_err(|_| "no address".to_owned())?;
        let host = uri.host().unwrap_or_default();
        let stream = self.connect(&uri).map_err(|error| error.to_string())?;
        let authority = uri.authority().map_or(host, |it| it.as_str());
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let request = http::Request::get(format!("{scheme}://{authority}{}", uri.path()))
            .header("host", target.host.as_deref().unwrap_or(authority))
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .header("sec-websocket-protocol", "pmx.v1");
        let request = request.body(()).map_err(|error| error.to_string())?;
        let opened = tungstenite::client(request, stream).map_err(|error| match error {
            HandshakeError::Failure(tungstenite::Error::Http(answer)) => {
                format!("refused with {}", answer.status().as_u16())
            }
            HandshakeError::Failure(error) => error.to_string(),
            HandshakeError::Interrupted(_) => "no answer in time".to_owned(),
        });
        let mut socket = Socket(opened?.0);
        socket.admitted()?;
        Ok(socket)
    }

    fn connect(&self, uri: &Uri) -> io::Result<Stream> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = if self.tls.is_some() { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(port);
        let mut last = io::Error::from(ErrorKind::NotFound);
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return self.encrypted(stream, host),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn encrypted(&self, stream: TcpStream, host: &str) -> io::Result<Stream> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Some(config) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name);
        let connection = connection.map_err(io::Error::other)?;
        let stream = StreamOwned::new(connection, stream);
        Ok(Stream::Encrypted(Box::new(stream)))
    }
}

impl Socket {
    /// Sends the subscription, and waits for the answer.
    fn admitted(&mut self) -> Result<(), String> {
        let said = self.0.send(Message::text(SUBSCRIPTION));
        said.map_err(|error| error.to_string())?;
        match self.0.read() {
            Ok(Message::Close(frame)) => {
                let code: u16 = frame.map_or(1005, |frame| frame.code.into());
                Err(format!("closed with {code}"))
            }
            Ok(_) => {
                let tcp = self.0.get_ref().tcp();
                let set = tcp.set_read_timeout(Some(TICK));
                set.map_err(|error| error.to_string())
            }
            Err(error) => Err(format!("no first frame: {error}")),
        }
    }

    /// Whether the socket stays open until a time, and then answers.
    pub(super) fn stays(&mut self, until: Instant, interrupt: &Interrupt) -> bool {
        self.is_open(until, interrupt)
            && self.0.send(Message::text("ping")).is_ok()
            && self.answers(Instant::now() + PATIENCE)
    }

    /// Reads until a time. Returns whether the socket is still open.
    pub(super) fn is_open(&mut self, until: Instant, interrupt: &Interrupt) -> bool {
        while Instant::now() < until && !interrupt.is_raised() {
            if self.text_came().is_err() {
                return false;
            }
        }
        true
    }

    /// Whether the server sends a message before a time.
    fn answers(&mut self, until: Instant) -> bool {
        while Instant::now() < until {
            match self.text_came() {
                Ok(true) => return true,
                Ok(false) => {}
                Err(()) => return false,
            }
        }
        false
    }

    /// Whether a text arrived within a tick. Fails if the socket is closed.
    fn text_came(&mut self) -> Result<bool, ()> {
        match self.0.read() {
            Ok(Message::Close(_)) => Err(()),
            Ok(message) => Ok(message.is_text()),
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                Ok(false)
            }
            Err(_) => Err(()),
        }
    }
}

impl Stream {
    const fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Encrypted(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}
