//! S3 server of the stories: moto on a loopback port, behind a relay that can cut it off.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::world::{Answer, eventually, port_in, raw, skipped};

/// The name of the bucket.
pub(super) const BUCKET: &str = "sites";

/// Values that no output may show.
pub(super) const SECRET: &str = "hunter2-secret-access-key";
pub(super) const SESSION: &str = "hunter2-session-token";

/// An S3 server with one bucket.
pub(super) struct Bucket {
    process: Child,
    port: u16,
    relay: Relay,
    /// The lines of its log: one for each request.
    log: Arc<Mutex<Vec<String>>>,
    marks: AtomicUsize,
}

impl Bucket {
    /// Starts a server; `None`, after a message, if it is not installed.
    pub(super) fn start() -> Option<Self> {
        let program = program();
        if !program.exists() {
            skipped("the object store", "moto is not installed: cargo xtask s3");
            return None;
        }
        let mut process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("moto says where it listens").unwrap();
            if let Some((_, address)) = line.split_once("Running on ") {
                break port_in(address);
            }
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let relay = Relay::to(port);
        let bucket = Self {
            process,
            port,
            relay,
            log,
            marks: AtomicUsize::default(),
        };
        bucket.ask("PUT", &format!("/{BUCKET}"));
        Some(bucket)
    }

    /// The variables of a host that uses it.
    pub(super) fn settings(&self, place: &str) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.relay.port);
        [
            ("OBJECTS_URL", place),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_SESSION_TOKEN", SESSION),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// All keys, in order.
    pub(super) fn keys(&self) -> Vec<String> {
        let list = self.ask("GET", &format!("/{BUCKET}?list-type=2"));
        let parts = list.split("<Key>").skip(1);
        parts
            .map(|part| part.split_once("</Key>").unwrap().0.to_owned())
            .collect()
    }

    /// The text of an object.
    pub(super) fn text(&self, key: &str) -> String {
        self.ask("GET", &format!("/{BUCKET}/{key}"))
    }

    /// The requests that the host sent since the last call, as `GET /sites/…`.
    pub(super) fn requests(&self) -> Vec<String> {
        // A line may come after its answer. So the server is asked for a key of its own, and the
        // lines before that request are complete.
        let mark = format!("mark-{}", self.marks.fetch_add(1, Ordering::SeqCst));
        self.ask_any("GET", &format!("/{BUCKET}/{mark}"));
        eventually("the log has the mark", || {
            self.log
                .lock()
                .unwrap()
                .iter()
                .any(|line| line.contains(&mark))
        });
        let lines = std::mem::take(&mut *self.log.lock().unwrap());
        let request = |line: &String| Some(line.split('"').nth(1)?.to_owned());
        let requests = lines.iter().filter_map(request);
        requests.filter(|line| !line.contains("/mark-")).collect()
    }

    /// Cuts the server off, or connects it again.
    pub(super) fn cut(&self, is_cut: bool) {
        self.relay.is_cut.store(is_cut, Ordering::SeqCst);
        if is_cut {
            for stream in self.relay.open.lock().unwrap().drain(..) {
                let _gone = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Lets all requests go without an answer, or passes them again.
    pub(super) fn stall(&self, stalls: bool) {
        self.relay.faults.stalled.store(0, Ordering::SeqCst);
        self.relay.faults.stalls.store(stalls, Ordering::SeqCst);
    }

    /// Connections whose requests go without an answer since the last stall began.
    pub(super) fn stalled(&self) -> usize {
        self.relay.faults.stalled.load(Ordering::SeqCst)
    }

    /// Makes it a store that ignores the conditions of writes.
    pub(super) fn ignore_conditions(&self) {
        let ignores = &self.relay.faults.ignores_conditions;
        ignores.store(true, Ordering::SeqCst);
    }

    /// The body of an answer of the server itself.
    fn ask(&self, method: &str, path: &str) -> String {
        let answer = self.ask_any(method, path);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    }

    fn ask_any(&self, method: &str, path: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=a\r\nConnection: close\r\n\r\n",
            self.port
        );
        raw(self.port, request.as_bytes(), false)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The program, where `cargo xtask s3` installs it.
fn program() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/s3/bin/moto_server"
    ))
}

/// What a relay does to the bytes that it passes.
#[derive(Default)]
struct Faults {
    /// It passes none, and closes nothing.
    stalls: AtomicBool,
    /// Connections of which it stopped passing bytes.
    stalled: AtomicUsize,
    /// It hides the conditions of requests.
    ignores_conditions: AtomicBool,
}

fn pass(mut from: TcpStream, to: &mut TcpStream, faults: &Faults) -> std::io::Result<()> {
    let (mut bytes, mut is_stalled) = (vec![0; 64 * 1024], false);
    loop {
        let count = from.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        if faults.stalls.load(Ordering::SeqCst) {
            let is_new = !std::mem::replace(&mut is_stalled, true);
            faults
                .stalled
                .fetch_add(usize::from(is_new), Ordering::SeqCst);
            continue;
        }
        let part = &mut bytes[..count];
        if faults.ignores_conditions.load(Ordering::SeqCst) {
            for condition in [&b"\r\nif-none-match:"[..], b"\r\nif-match:"] {
                let found = part
                    .windows(condition.len())
                    .position(|window| window.eq_ignore_ascii_case(condition));
                if let Some(at) = found {
                    part[at + 2] = b'x';
                }
            }
        }
        to.write_all(part)?;
    }
}

/// Relays connections to a port. Cut off, it closes each connection at once.
struct Relay {
    port: u16,
    faults: Arc<Faults>,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            faults: Arc::default(),
            is_cut: Arc::default(),
            open: Arc::default(),
        };
        let faults = Arc::clone(&relay.faults);
        let (is_cut, open) = (Arc::clone(&relay.is_cut), Arc::clone(&relay.open));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
                    return;
                };
                let copy = |stream: &TcpStream| stream.try_clone().unwrap();
                open.lock().unwrap().extend([copy(&client), copy(&server)]);
                for (from, mut to) in [(copy(&client), copy(&server)), (server, client)] {
                    let faults = Arc::clone(&faults);
                    std::thread::spawn(move || {
                        let _ended = pass(from, &mut to, &faults);
                        let _gone = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        relay
    }
}
