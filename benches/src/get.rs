//! Minimal HTTP client: one request and one answer, so that a bench can check that fast answers are
//! correct.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time limit for a server on the same machine.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A server's answer.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body, undecoded.
    pub(crate) body: Vec<u8>,
    head: String,
}

impl Answer {
    /// The value of a header, if it is present.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// `GET path` of `host` on the loopback `port`. HTTP/1.0, so that no answer is chunked: the body
/// ends after its length, or with the connection.
pub(crate) fn get(port: u16, host: &str, path: &str, headers: &[&str]) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while !is_whole(&answer) {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..read]);
    }
    parse(&answer).with_context(|| format!("reading the answer to GET {path}"))
}

/// Whether the body has the announced length. A server may keep the connection open after it.
fn is_whole(bytes: &[u8]) -> bool {
    let answer = parse(bytes);
    let length = answer.as_ref().and_then(|it| it.header("content-length"));
    let length = length.and_then(|text| text.parse::<usize>().ok());
    answer
        .zip(length)
        .is_some_and(|(it, length)| it.body.len() >= length)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    Some(Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        body: answer[end + 4..].to_vec(),
        head,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = parse(b"HTTP/1.1 404 Not Found\r\nETag: \"x\"\r\n\r\nbody").unwrap();
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (404, b"body".as_slice())
        );
        assert_eq!(answer.header("etag"), Some("\"x\""));
        assert_eq!(answer.header("vary"), None);
        assert!(parse(b"nonsense").is_none());
    }
}
