//! Client sockets for live pages, and for event streams.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tungstenite::handshake::HandshakeError;
use tungstenite::{Message, WebSocket};

use crate::world::World;

/// An open socket.
pub(crate) struct Socket(WebSocket<TcpStream>);

/// Status of a refused socket; 0 without a response.
pub(crate) type Refused = u16;

impl Socket {
    /// Opens a visitor's socket to a site.
    pub(crate) fn open(port: u16, site: &str, origin: Option<&str>) -> Result<Self, Refused> {
        let mut headers = vec![("sec-websocket-protocol", "pmx.v1")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        Self::open_with(port, site, &headers)
    }

    /// Opens a socket of a client that has the server's token.
    pub(crate) fn held(port: u16, site: &str, token: &str) -> Result<Self, Refused> {
        let headers = [
            ("sec-websocket-protocol", "pmx.v1"),
            ("authorization", token),
        ];
        Self::open_with(port, site, &headers)
    }

    /// Opens a socket without a subprotocol, like the first clients of the protocol.
    pub(crate) fn silent(port: u16, site: &str) -> Result<Self, Refused> {
        Self::open_with(port, site, &[])
    }

    fn open_with(port: u16, site: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        Self::open_at(port, &format!("{site}.localhost:{port}"), headers)
    }

    /// Opens a socket at any host and port that a client may name.
    pub(crate) fn open_at(
        port: u16,
        authority: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|_| 0u16)?;
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = http::Request::get(format!("ws://{authority}/_events"))
            .header("host", authority)
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match tungstenite::client(request.body(()).unwrap(), stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(_) => Err(0),
        }
    }

    /// Opens a socket with the token and sends its subscription. Returns it with the first frame.
    pub(crate) fn listen(world: &World, site: &str, wish: &str) -> (Self, Value) {
        let mut socket = Self::held(world.server.port, site, &world.token()).unwrap();
        socket.say(wish);
        let first = socket.frame();
        (socket, first)
    }

    /// Sends a text.
    pub(crate) fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// The next text; `Err` has the close code of the socket.
    pub(crate) fn text(&mut self) -> Result<String, u16> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Ok(text.to_string()),
                Ok(Message::Close(frame)) => {
                    return Err(frame.map_or(1005, |frame| frame.code.into()));
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("{other}"),
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("nothing came");
                }
                // The server is gone.
                Err(_) => return Err(1006),
            }
        }
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> Value {
        let text = self.text().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Whether no text arrives before the answer to a ping: every text that was sent before it
    /// would.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.say("ping");
        self.text().unwrap() == "pong"
    }
}

/// A reader of server-sent events.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// Requests the events of a site.
    pub(crate) fn open(world: &World, site: &str, query: &str, headers: &str) -> Self {
        let (port, token) = (world.server.port, world.token());
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        let head = format!(
            "GET /_events?live=sse&{query} HTTP/1.1\r\nHost: {site}.localhost:{port}\r\n\
             Authorization: {token}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next non-empty batch of messages, and the id after it.
    pub(crate) fn next(&mut self) -> (Vec<Value>, String) {
        let mut messages = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.0.read_line(&mut line).expect("events come");
            assert_ne!(read, 0, "the reader is let go");
            if let Some(data) = line.trim_end().strip_prefix("data:[") {
                messages = serde_json::from_str(&format!("[{data}")).unwrap();
            } else if let Some(id) = line.trim_end().strip_prefix("id:") {
                return (messages, id.to_owned());
            }
        }
    }
}
