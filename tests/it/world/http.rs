//! Raw HTTP over TCP: requests as bytes, and the answers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Sends bytes unchanged and reads the response to the end.
pub(crate) fn raw(port: u16, request: &[u8], is_head: bool) -> Answer {
    try_raw(port, request, is_head).expect("the server answers")
}

/// Sends bytes unchanged; `None` if the connection breaks before a response.
pub(crate) fn try_raw(port: u16, request: &[u8], is_head: bool) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    // The server may refuse and close the connection before the client has sent the whole body.
    let _sent = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    // A server may keep the connection open although the client asked it to close it.
    while !is_whole(&bytes, is_head) {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
    Answer::parse(&bytes, is_head)
}

/// GET of a path at a host; `None` if the connection breaks before an answer.
pub(crate) fn get(port: u16, host: &str, path: &str) -> Option<Answer> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    try_raw(port, head.as_bytes(), false)
}

/// The content length in a head.
pub(crate) fn content_length(head: &str) -> Option<usize> {
    let head = head.to_ascii_lowercase();
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length:"));
    length.and_then(|length| length.trim().parse().ok())
}

/// Whether a response is complete; cheaper than parsing it after each read.
fn is_whole(bytes: &[u8], is_head: bool) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let body = &bytes[end + 4..];
    match content_length(&head) {
        _ if is_head || head.contains(" 204 ") || head.contains(" 304 ") => true,
        Some(length) => body.len() >= length,
        None => body.ends_with(b"0\r\n\r\n") && unchunk(body).is_some(),
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8], is_head: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(&answer.body)?;
        } else if !is_head && status != 304 && status != 204 {
            let length: usize = answer.header("content-length")?.parse().ok()?;
            // A truncated body counts as no response.
            (answer.body.len() == length).then_some(())?;
        }
        Some(answer)
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = rest.get(end + 2..)?;
        if len == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..len)?);
        rest = rest.get(len + 2..)?;
    }
}
