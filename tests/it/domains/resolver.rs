//! Stand-in resolver: DNS over HTTPS (RFC 8484) on this machine, with records that a story sets.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The records of a resolver that is running.
pub(crate) struct Resolver {
    url: String,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    texts: HashMap<String, Vec<String>>,
    is_down: bool,
    asked: usize,
}

impl Resolver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/dns-query", listener.local_addr().unwrap());
        let zone = Arc::<Mutex<Zone>>::default();
        let shared = Arc::clone(&zone);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let zone = Arc::clone(&shared);
                thread::spawn(move || serve(&socket.unwrap(), &zone));
            }
        });
        Self { url, zone }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sets the texts of the TXT records of a name.
    pub(crate) fn set(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        self.zone
            .lock()
            .unwrap()
            .texts
            .insert(name.to_owned(), texts);
    }

    /// Makes all lookups fail, or work again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.zone.lock().unwrap().is_down = is_down;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.zone.lock().unwrap().asked
    }
}

/// Answers the requests of one connection.
fn serve(socket: &TcpStream, zone: &Mutex<Zone>) {
    let mut reader = BufReader::new(socket);
    while let Some(query) = request(&mut reader) {
        let answer = answer(&query, &mut zone.lock().unwrap());
        let (status, body) = match answer {
            Some(body) => ("200 OK", body),
            None => ("503 Service Unavailable", Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/dns-message\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut socket = socket;
        if socket
            .write_all(&[head.as_bytes(), &body].concat())
            .is_err()
        {
            return;
        }
    }
}

/// The body of the next request.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    let mut is_dns = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        is_dns |= line == "content-type: application/dns-message";
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.parse().unwrap();
        }
    }
    assert!(is_dns, "the request has the media type of DNS messages");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// The answer to a query for TXT records; `None` if the resolver is down.
fn answer(query: &[u8], zone: &mut Zone) -> Option<Vec<u8>> {
    zone.asked += 1;
    if zone.is_down {
        return None;
    }
    let (mut name, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let texts = zone.texts.get(&name.join("."));
    let mut message = query.to_vec();
    // A name that does not exist has code 3.
    let code = if texts.is_some() { 0 } else { 3 };
    message[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    for text in texts.into_iter().flatten() {
        message[7] += 1;
        message.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, text.len() as u8 + 1]);
        message.push(text.len() as u8);
        message.extend(text.as_bytes());
    }
    Some(message)
}
