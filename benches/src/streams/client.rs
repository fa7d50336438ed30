//! Minimal HTTP client over one connection: sends requests in sequence.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Time limit for a server on the same machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A runtime with one thread for all connections, so that the server has the other cores.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The target of a stream that no client has requested before.
pub(crate) fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("/v1/stream/bench-{}-{number}", std::process::id())
}

/// A connection that stays open.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    port: u16,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    head: Head,
}

impl Answer {
    /// The value of a header, if it is present.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }
}

struct Head {
    status: u16,
    lines: Vec<String>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

impl Connection {
    pub(crate) async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(64 << 10, stream);
        Ok(Self { stream, port })
    }

    /// Sends a request and reads the whole answer. A status other than success is an error.
    pub(crate) async fn ask(&mut self, method: &str, target: &str, body: &str) -> Result<Answer> {
        let answer = timeout(PATIENCE, async {
            self.send(method, target, body).await?;
            let head = self.head().await?;
            let body = self.body(&head).await?;
            anyhow::Ok(Answer { body, head })
        });
        let answer = answer
            .await
            .with_context(|| format!("{method} {target} was not answered"))??;
        check(&answer.head, method, target, &answer.body)?;
        Ok(answer)
    }

    /// Requests an endless answer.
    pub(crate) async fn listen(mut self, target: &str) -> Result<Lines> {
        self.send("GET", target, "").await?;
        let head = self.head().await?;
        check(&head, "GET", target, b"")?;
        Ok(Lines {
            is_chunked: head.is_chunked(),
            connection: self,
            rest: Vec::new(),
        })
    }

    async fn send(&mut self, method: &str, target: &str, body: &str) -> Result<()> {
        let port = self.port;
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        if method != "GET" {
            let len = body.len();
            write!(
                request,
                "Content-Type: application/json\r\nContent-Length: {len}\r\n"
            )?;
        }
        request.push_str("\r\n");
        request.push_str(body);
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        Ok(())
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.stream.read_line(&mut line).await? > 0,
            "the server closed the connection"
        );
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    async fn head(&mut self) -> Result<Head> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("the server said {first:?}"))?;
        let mut lines = Vec::with_capacity(16);
        loop {
            match self.line().await? {
                line if line.is_empty() => return Ok(Head { status, lines }),
                line => lines.push(line),
            }
        }
    }

    async fn body(&mut self, head: &Head) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if head.is_chunked() {
            while let Some(len) = self.chunk_len().await? {
                self.exactly(len, &mut body).await?;
                self.line().await?;
            }
        } else if let Some(len) = head.header("content-length") {
            self.exactly(len.parse()?, &mut body).await?;
        } else {
            ensure!(head.status == 204, "an answer has no length");
        }
        Ok(body)
    }

    /// The length of the next chunk; `None` after the last.
    async fn chunk_len(&mut self) -> Result<Option<usize>> {
        let line = self.line().await?;
        let digits = line.split(';').next().unwrap_or_default();
        match usize::from_str_radix(digits.trim(), 16)? {
            0 => {
                self.line().await?;
                Ok(None)
            }
            len => Ok(Some(len)),
        }
    }

    async fn exactly(&mut self, len: usize, body: &mut Vec<u8>) -> Result<()> {
        let start = body.len();
        body.resize(start + len, 0);
        let piece = body.get_mut(start..).unwrap_or_default();
        self.stream.read_exact(piece).await?;
        Ok(())
    }
}

fn check(head: &Head, method: &str, target: &str, body: &[u8]) -> Result<()> {
    if (200..300).contains(&head.status) {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(body).chars().take(200).collect();
    bail!(
        "{method} {target} was answered with {}: {said}",
        head.status
    )
}

/// The lines of an endless answer, as they arrive.
pub(crate) struct Lines {
    connection: Connection,
    is_chunked: bool,
    rest: Vec<u8>,
}

impl Lines {
    /// The whole lines since the last call: at least one. `None` if the server has ended the
    /// answer.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if !self.more().await? {
                return Ok(None);
            }
            if let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') {
                let beyond = self.rest.split_off(end + 1);
                let lines = std::mem::replace(&mut self.rest, beyond);
                return Ok(Some(String::from_utf8(lines)?));
            }
        }
    }

    async fn more(&mut self) -> Result<bool> {
        if self.is_chunked {
            let Some(len) = self.connection.chunk_len().await? else {
                return Ok(false);
            };
            self.connection.exactly(len, &mut self.rest).await?;
            self.connection.line().await?;
            return Ok(true);
        }
        let piece = self.connection.stream.fill_buf().await?;
        let len = piece.len();
        self.rest.extend_from_slice(piece);
        self.connection.stream.consume(len);
        Ok(len > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A server that sends `answers` to each client, one for each request.
    fn saying(answers: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let _request = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        port
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let port = saying(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x\r\nbc\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno",
        ]);
        let mut said = Vec::new();
        runtime().unwrap().block_on(async {
            let mut connection = Connection::open(port).await.unwrap();
            for method in ["GET", "PUT", "POST", "POST"] {
                let answer = connection.ask(method, "/x", "").await;
                said.push(answer.map(|answer| answer.body).map_err(|e| e.to_string()));
            }
        });
        let refused = "POST /x was answered with 409: no".to_owned();
        let good = [&b"ab"[..], b"abc", b""].map(|body| Ok(body.to_vec()));
        assert_eq!(said, [&good[..], &[Err(refused)]].concat());
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\na\nb\r\n3\r\nc\nd\r\n1\r\n\n\r\n0\r\n\r\n";
        let plain = "HTTP/1.1 200 OK\r\n\r\na\nbc\nd\n";
        for answer in [chunked, plain] {
            let port = saying(Box::leak(Box::new([answer])));
            let text = runtime().unwrap().block_on(async {
                let connection = Connection::open(port).await.unwrap();
                let mut lines = connection.listen("/x").await.unwrap();
                let mut text = String::new();
                while let Some(more) = lines.next().await.unwrap() {
                    assert!(more.ends_with('\n'), "{more:?} is no line");
                    text.push_str(&more);
                }
                text
            });
            assert_eq!(text, "a\nbc\nd\n");
        }
    }
}
