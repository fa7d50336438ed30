//! Access log: one JSON object a line, on stderr.
//!
//! No thread that answers waits for the log. Lines go through a bounded queue to a separate thread.
//! While no program reads stderr, the log drops lines and counts them. No secret may reach the log.
//! So no line has a URL's query, or a header other than Host.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderMap, Response};
use serde_json::json;

/// The host's log for its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Requests and faults, as lines of JSON on stderr.
    Json,
    /// Nothing.
    Quiet,
}

impl Log {
    /// Begins the log entry of a request.
    pub(crate) fn request(self, head: &Parts) -> Option<OpenRequest> {
        match self {
            Self::Quiet => None,
            Self::Json => Some(OpenRequest {
                method: head.method.to_string(),
                host: cut(text_of(&head.headers, &HOST)),
                path: cut(head.uri.path()),
                started: Instant::now(),
            }),
        }
    }

    /// Logs every panic of the process. The default message would wait for stderr.
    pub fn take_panics(self) {
        std::panic::set_hook(Box::new(move |panic| self.fault("running", &panic)));
    }

    /// Logs why the server failed at a request whose error answer has this id.
    pub(crate) fn incident(self, id: &str, why: &str) {
        if self == Self::Json {
            write_line(&json!({
                "type": "fault", "v": 1, "id": id, "doing": "answering a request", "why": why,
            }));
        }
    }

    /// Logs a failure that no client sees.
    pub(crate) fn fault(self, doing: &str, why: &dyn std::fmt::Display) {
        if self == Self::Json {
            let why = why.to_string();
            write_line(&json!({"type": "fault", "v": 1, "doing": doing, "why": why}));
        }
    }
}

/// A request under way.
pub(crate) struct OpenRequest {
    method: String,
    host: String,
    path: String,
    started: Instant,
}

impl OpenRequest {
    /// Logs the answer; bytes are those of the announced body.
    pub(crate) fn answered<B>(
        &self,
        answer: &Response<B>,
        body: &impl http_body::Body,
        id: Option<&str>,
    ) {
        let announced = text_of(answer.headers(), &CONTENT_LENGTH).parse().ok();
        let bytes: Option<u64> = announced.or(body.size_hint().exact());
        let ms = self.started.elapsed().as_secs_f64() * 1e3;
        let mut line = json!({
            "type": "request", "v": 1, "method": self.method, "host": self.host,
            "path": self.path, "status": answer.status().as_u16(),
            "ms": (ms * 100.0).round() / 100.0, "bytes": bytes,
        });
        if let (Some(id), Some(line)) = (id, line.as_object_mut()) {
            line.insert("id".to_owned(), id.into());
        }
        write_line(&line);
    }
}

/// Characters of a host or a path that are logged.
const LOGGED_CHARS_MAX: usize = 512;

fn cut(text: &str) -> String {
    text.chars().take(LOGGED_CHARS_MAX).collect()
}

fn text_of<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn write_line(line: &serde_json::Value) {
    static STDERR: OnceLock<Queue> = OnceLock::new();
    STDERR
        .get_or_init(|| Queue::new(own_stderr()))
        .push(format!("{line}\n"));
}

/// Lines that wait for the log thread.
const LINES_MAX: usize = 1_024;

/// Bytes of one write.
const BATCH_BYTES: usize = 32 * 1024;

/// The shortest time between two counts of dropped lines.
const COUNT_TIME: Duration = Duration::from_secs(1);

/// Stderr without the lock of the standard library: while stderr is stuck, the rest of the program
/// must not wait for that lock.
#[cfg(unix)]
fn own_stderr() -> Box<dyn Write + Send> {
    use std::os::fd::AsFd as _;
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(owned) => Box::new(File::from(owned)),
        Err(_) => Box::new(io::stderr()),
    }
}

#[cfg(not(unix))]
fn own_stderr() -> Box<dyn Write + Send> {
    Box::new(io::stderr())
}

/// The queued lines of a log.
struct Queue {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    fn new(log: Box<dyn Write + Send>) -> Self {
        let (lines, queued) = sync_channel(LINES_MAX);
        let dropped: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&dropped);
        // Without a thread, the queue fills up and drops lines.
        let _thread = std::thread::Builder::new()
            .name("pmx-log".into())
            .spawn(move || write_all(log, &queued, &counted));
        Self { lines, dropped }
    }

    /// Queues a line, without waiting.
    fn push(&self, line: String) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes lines as they arrive, and several at once if they arrive fast.
fn write_all(mut log: Box<dyn Write + Send>, queued: &Receiver<String>, dropped: &AtomicU64) {
    loop {
        let mut batch = match queued.recv_timeout(COUNT_TIME) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => String::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while batch.len() < BATCH_BYTES
            && let Ok(line) = queued.try_recv()
        {
            batch.push_str(&line);
        }
        let lines = dropped.swap(0, Ordering::Relaxed);
        if lines > 0 {
            let count = json!({"type": "dropped", "v": 1, "lines": lines});
            batch.push_str(&count.to_string());
            batch.push('\n');
        }
        // The host answers requests even if its log can't be written.
        let _ = log.write_all(batch.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A log that takes a batch for each permission of the test, and sends the test each batch.
    struct Stuck(Receiver<()>, Sender<String>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn push_drops_and_counts_lines_while_the_log_is_stuck() {
        let (go, may_go) = channel();
        let (wrote, written) = channel();
        let queue = Queue::new(Box::new(Stuck(may_go, wrote)));
        let pushed = 10 * LINES_MAX;
        for number in 0..pushed {
            queue.push(format!("{{\"type\":\"request\",\"n\":{number}}}\n"));
        }
        drop(go);
        let (mut lines, mut dropped) = (0, 0);
        while lines + dropped < pushed {
            let batch = written.recv_timeout(Duration::from_secs(20)).unwrap();
            for line in batch.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                match line["type"].as_str() {
                    Some("dropped") => dropped += line["lines"].as_u64().unwrap() as usize,
                    _ => lines += 1,
                }
            }
        }
        assert_eq!(lines + dropped, pushed);
        assert!(dropped > 0);
    }
}
