//! Replay server: repeats the recorded answers of a real server at once. So only the client's own
//! time remains, although a real server would share the machine's cores with it.
//!
//! In the first run, it forwards requests to the server and records the answers. Later runs of the
//! same client with the same folder get them again, request by request. It reads whole bodies, as a
//! server would have to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

/// Most bytes of a message's head.
const HEAD_MAX: u64 = 64 << 10;

/// Recorded answers to requests of each kind, in order, and the number that this run has replayed.
#[derive(Default)]
struct Notes {
    answers: BTreeMap<String, Vec<Vec<u8>>>,
    asked: BTreeMap<String, usize>,
    is_recorded: bool,
}

/// A replay server at one port. Its threads end with the process.
pub(crate) struct Echo {
    port: u16,
    notes: Arc<Mutex<Notes>>,
}

impl Echo {
    /// Starts recording the answers of the server at the loopback port `of`.
    pub(crate) fn of(of: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let notes = Arc::new(Mutex::new(Notes::default()));
        let shared = Arc::clone(&notes);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let notes = Arc::clone(&shared);
                // A failed connection is closed, and the client reports that.
                thread::spawn(move || serve(client, of, &notes));
            }
        });
        Ok(Self { port, notes })
    }

    /// The address for the client.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Replays the recorded answers from now on, starting with the first.
    pub(crate) fn repeat(&self) {
        let mut notes = lock(&self.notes);
        notes.is_recorded = true;
        notes.asked.clear();
    }
}

/// A raw message, and its first line.
struct Message {
    line: String,
    bytes: Vec<u8>,
}

fn serve(client: TcpStream, of: u16, notes: &Mutex<Notes>) -> Result<()> {
    client.set_nodelay(true)?;
    let mut to_client = client.try_clone()?;
    let mut from_client = BufReader::with_capacity(256 << 10, client);
    let mut server = None;
    while let Some(request) = read(&mut from_client)? {
        let kind = kind(&request.line);
        let noted = {
            let mut notes = lock(notes);
            let at = *notes
                .asked
                .entry(kind.clone())
                .and_modify(|at| *at += 1)
                .or_default();
            let known = notes.answers.get(&kind).filter(|_| notes.is_recorded);
            known
                .and_then(|known| known.get(at).or(known.last()))
                .cloned()
        };
        let answer = if let Some(answer) = noted {
            answer
        } else {
            let answer = ask(&mut server, of, &request)?;
            let mut notes = lock(notes);
            notes.answers.entry(kind).or_default().push(answer.clone());
            answer
        };
        to_client.write_all(&answer)?;
    }
    Ok(())
}

/// Method and path, without the ids that differ between packs.
fn kind(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next(), words.next());
    let path = target.unwrap_or_default().split('?').next();
    let path = path.unwrap_or_default();
    let path = path
        .strip_prefix("/api/publish/packs/")
        .map_or(path, |_| "a pack");
    format!("{} {path}", method.unwrap_or_default())
}

fn ask(server: &mut Option<BufReader<TcpStream>>, of: u16, request: &Message) -> Result<Vec<u8>> {
    let connection = match server {
        Some(connection) => connection,
        None => server.insert(BufReader::new(TcpStream::connect(("127.0.0.1", of))?)),
    };
    connection.get_mut().write_all(&request.bytes)?;
    let answer = read(connection)?.context("the server closed the connection")?;
    Ok(answer.bytes)
}

/// Reads a message whose body has a declared length, or the end of the stream.
fn read(from: &mut impl BufRead) -> Result<Option<Message>> {
    let mut head = Vec::new();
    let mut body = 0;
    loop {
        let start = head.len();
        let read = from.take(HEAD_MAX).read_until(b'\n', &mut head)?;
        if read == 0 {
            ensure!(start == 0, "a message ends in its head");
            return Ok(None);
        }
        let line = std::str::from_utf8(&head[start..])?.trim_end();
        if line.is_empty() {
            break;
        }
        let field = line.split_once(':');
        if let Some((name, value)) = field
            && name.eq_ignore_ascii_case("content-length")
        {
            body = value.trim().parse()?;
        }
    }
    let text = std::str::from_utf8(&head)?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    let mut bytes = head;
    let start = bytes.len();
    bytes.resize(start + body, 0);
    from.read_exact(&mut bytes[start..])?;
    Ok(Some(Message { line, bytes }))
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read(&mut BufReader::new(stream)).unwrap().unwrap();
        String::from_utf8(answer.bytes).unwrap()
    }

    #[test]
    fn answers_are_repeated_in_order_and_packs_are_alike() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let echo = Echo::of(listener.local_addr().unwrap().port()).unwrap();
        let server = thread::spawn(move || {
            for number in 0..3 {
                let (stream, _) = listener.accept().unwrap();
                let mut stream = BufReader::new(stream);
                read(&mut stream).unwrap().unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        let asked = [
            "POST /begin HTTP/1.1\r\n\r\n",
            "PUT /api/publish/packs/aa?space=x HTTP/1.1\r\nContent-Length: 2\r\n\r\nxy",
            "POST /begin HTTP/1.1\r\n\r\n",
        ];
        let first = asked.map(|request| exchange(echo.port, request));
        assert!(first[1].ends_with("\r\n\r\n1") && first[2].ends_with("\r\n\r\n2"));
        server.join().unwrap();
        for _ in 0..2 {
            echo.repeat();
            assert_eq!(asked.map(|request| exchange(echo.port, request)), first);
            let other = "PUT /api/publish/packs/bb?space=x HTTP/1.1\r\n\r\n";
            assert_eq!(exchange(echo.port, other), first[1]);
        }
    }
}
