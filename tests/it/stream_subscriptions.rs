//! Stream subscriptions over sockets: webhook failures and retries, a host that is killed during a
//! worker's lease, wakes that cause wakes, forbidden addresses.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{Answer, Host, Server, eventually, started_on_both_hosts, try_raw};

started_on_both_hosts! {
    webhook_is_sent_until_a_worker_takes_it,
    claimed_work_passes_on_when_its_worker_is_silent,
    wake_can_wake_another_subscription,
    wake_stream_is_written_to_once_it_exists,
    subscription_follows_streams_from_its_creation_to_its_deletion,
    acknowledged_appends_are_pending_after_every_kill,
}

/// A server of streams, and its data folder.
pub(crate) struct Home {
    temp: TempDir,
    server: Server,
    settings: Vec<(&'static str, &'static str)>,
}

impl Home {
    pub(crate) fn new(host: Host, settings: &[(&'static str, &'static str)]) -> Self {
        Self::plain(
            host,
            &[&[("STREAM_WEBHOOKS", "loopback")], settings].concat(),
        )
    }

    /// The same without the settings of these stories.
    pub(crate) fn plain(host: Host, settings: &[(&'static str, &'static str)]) -> Self {
        let temp = TempDir::new().unwrap();
        let data = temp.path().join("data");
        let settings = settings.to_vec();
        Self {
            server: Server::start_with(host, &data, 0, &settings),
            temp,
            settings,
        }
    }

    pub(crate) fn crash(&mut self) {
        self.server.kill();
        let (data, port) = (self.temp.path().join("data"), self.server.port);
        let host = self.server.host;
        self.server = Server::start_with(host, &data, port, &self.settings);
    }

    pub(crate) fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let port = self.server.port;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let authorization = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let request = format!(
            "{method} /v1/stream/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{authorization}\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        try_raw(port, request.as_bytes(), false).expect("the server answers")
    }

    pub(crate) fn subscribe(&self, id: &str, config: &Value) {
        let made = self.ask("PUT", &format!("__ds/subscriptions/{id}"), "", config);
        assert_eq!(made.status, 201, "{made:?}");
    }

    fn acked(&self, id: &str, path: &str) -> Option<String> {
        let shown = self.ask("GET", &format!("__ds/subscriptions/{id}"), "", &Value::Null);
        let shown = shown.json();
        let streams = shown["streams"].as_array().unwrap();
        let stream = streams.iter().find(|stream| stream["path"] == path)?;
        stream["acked_offset"].as_str().map(str::to_owned)
    }

    pub(crate) fn wakes(&self, stream: &str) -> Vec<Value> {
        let all = self.ask("GET", stream, "", &Value::Null).json();
        all.as_array().unwrap().clone()
    }

    pub(crate) fn claim(&self, id: &str) -> Answer {
        let path = format!("__ds/subscriptions/{id}/claim");
        self.ask("POST", &path, "", &json!({"worker": "w"}))
    }
}

/// A worker that answers each webhook with the next of its responses, and then repeats the last.
fn worker(answers: &'static [(u16, &'static str)]) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, received) = channel();
    thread::spawn(move || {
        for (number, socket) in listener.incoming().enumerate() {
            let mut socket = socket.unwrap();
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (status, answer) = answers[number.min(answers.len() - 1)];
            if status > 0 {
                let length = answer.len();
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n");
                let answer = format!("{head}Connection: close\r\n\r\n{answer}");
                socket.write_all(answer.as_bytes()).unwrap();
            }
            if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, received)
}

fn next(received: &Receiver<Value>) -> Value {
    let wait = Duration::from_secs(20);
    received.recv_timeout(wait).expect("a webhook comes")
}

const DONE: &str = r#"{"done":true}"#;

fn webhook_is_sent_until_a_worker_takes_it(host: Host) {
    let mut home = Home::new(host, &[]);
    let (url, received) = worker(&[(503, ""), (0, ""), (200, DONE)]);
    let config = json!({
        "type": "webhook", "pattern": "jobs/**", "webhook": {"url": url}, "lease_ttl_ms": 5000,
    });
    home.subscribe("s", &config);
    let keys = home.ask("GET", "__ds/jwks.json", "", &Value::Null).json();
    assert_eq!(
        home.ask("PUT", "jobs/a/b", "", &json!([1, 2, 3])).status,
        201
    );
    let first = next(&received);
    assert_eq!(first["streams"][0]["path"], "jobs/a/b");
    eventually("the failure shows", || {
        let shown = home.ask("GET", "__ds/subscriptions/s", "", &Value::Null);
        shown.json()["status"] == "failed"
    });
    // The server repeats the wake of a worker that refused. A worker without a response may have
    // begun, so the next wake is a new one.
    let second = next(&received);
    assert_eq!(second["wake_id"], first["wake_id"]);
    home.crash();
    let third = next(&received);
    assert!(third["generation"].as_u64() > second["generation"].as_u64());
    let tail = third["streams"][0]["tail_offset"]
        .as_str()
        .unwrap()
        .to_owned();
    eventually("all is done", || {
        home.acked("s", "jobs/a/b") == Some(tail.clone())
    });
    let confirmed = home.ask("PUT", "__ds/subscriptions/s", "", &config);
    assert_eq!(confirmed.status, 200);
    assert_eq!(confirmed.json()["status"], "active");
    assert_eq!(
        home.ask("GET", "__ds/jwks.json", "", &Value::Null).json(),
        keys
    );
}

fn claimed_work_passes_on_when_its_worker_is_silent(host: Host) {
    let mut home = Home::new(host, &[("STREAM_SECRET", "s3cret")]);
    let secret = "s3cret";
    assert_eq!(home.ask("PUT", "wake", secret, &json!([])).status, 201);
    let config = json!({
        "type": "pull-wake", "pattern": "**", "wake_stream": "wake", "lease_ttl_ms": 1000,
    });
    let subscription = "__ds/subscriptions/p";
    assert_eq!(home.ask("PUT", subscription, "", &config).status, 401);
    assert_eq!(home.ask("PUT", subscription, secret, &config).status, 201);
    assert_eq!(home.ask("PUT", "jobs/a", secret, &json!([1])).status, 201);
    let wakes = |home: &Home| home.ask("GET", "wake", secret, &Value::Null).json();
    eventually("the wake is written", || {
        wakes(&home)[0]["stream"] == "jobs/a"
    });
    let claim = format!("{subscription}/claim");
    let asked = json!({"worker": "w"});
    assert_eq!(home.ask("POST", &claim, "", &asked).status, 401);
    let claimed = home.ask("POST", &claim, secret, &asked).json();
    let token = claimed["token"].as_str().unwrap();
    home.crash();
    eventually("the lease ends", || wakes(&home)[1]["generation"] == 2);
    let report = json!({
        "wake_id": claimed["wake_id"], "generation": claimed["generation"], "done": true,
        "acks": [{"stream": "jobs/a", "offset": claimed["streams"][0]["tail_offset"]}],
    });
    let late = home.ask("POST", &format!("{subscription}/ack"), token, &report);
    assert_eq!(
        (late.status, &late.json()["error"]["code"]),
        (409, &"FENCED".into())
    );
    // A worker sends the token of its wake, and no other token is accepted.
    let late = home.ask("POST", &format!("{subscription}/ack"), secret, &report);
    assert_eq!(late.status, 401);
}

fn wake_can_wake_another_subscription(host: Host) {
    let home = Home::new(host, &[]);
    for (id, pattern, wake) in [("a", "jobs/*", "wakes/a"), ("b", "wakes/*", "outer")] {
        assert_eq!(home.ask("PUT", wake, "", &json!([])).status, 201);
        let config = json!({"type": "pull-wake", "pattern": pattern, "wake_stream": wake});
        home.subscribe(id, &config);
    }
    assert_eq!(home.ask("PUT", "jobs/a", "", &json!([1])).status, 201);
    eventually("the second wake is written", || {
        home.wakes("outer").len() == 1
    });
    assert_eq!(home.wakes("wakes/a")[0]["subscription_id"], "a");
    assert_eq!(home.wakes("outer")[0]["stream"], "wakes/a");
    // A deleted stream has no pending work.
    assert_eq!(home.ask("DELETE", "jobs/a", "", &Value::Null).status, 204);
    let refused = home.claim("a");
    assert_eq!(refused.json()["error"]["code"], "NO_PENDING_WORK");
    assert_eq!(home.claim("b").status, 200);
}

fn wake_stream_is_written_to_once_it_exists(host: Host) {
    let home = Home::new(host, &[]);
    let config = json!({"type": "pull-wake", "streams": ["jobs"], "wake_stream": "wake"});
    home.subscribe("a", &config);
    assert_eq!(home.ask("PUT", "jobs", "", &json!([1])).status, 201);
    assert_eq!(home.ask("PUT", "wake", "", &json!([])).status, 201);
    eventually("the wake is written", || home.wakes("wake").len() == 1);
}

fn subscription_follows_streams_from_its_creation_to_its_deletion(host: Host) {
    let home = Home::new(host, &[]);
    for stream in ["jobs/a", "jobs/b", "other"] {
        assert_eq!(home.ask("PUT", stream, "", &json!([1, 2])).status, 201);
    }
    let config = json!({"type": "pull-wake", "pattern": "jobs/*", "wake_stream": "wake"});
    home.subscribe("p", &config);
    let refused = home.claim("p");
    assert_eq!(refused.json()["error"]["code"], "NO_PENDING_WORK");
    for stream in ["jobs/b", "other", "jobs/b"] {
        assert_eq!(home.ask("POST", stream, "", &json!([3])).status, 204);
    }
    let claimed = home.claim("p").json();
    let pending: Vec<_> = claimed["streams"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|stream| stream["has_pending"] == true)
        .collect();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0]["path"], "jobs/b");
    let behind = pending[0]["tail_offset"].as_str().unwrap();
    assert!(behind.ends_with("_0000000000000004"), "{behind}");
    let gone = home.ask("DELETE", "__ds/subscriptions/p", "", &Value::Null);
    assert_eq!(gone.status, 204);
    for _ in 0..3 {
        assert_eq!(home.ask("POST", "jobs/b", "", &json!([5])).status, 204);
    }
    // A recreated subscription begins at the tail again.
    home.subscribe("p", &config);
    assert_eq!(home.claim("p").status, 409);
    assert_eq!(home.ask("POST", "jobs/a", "", &json!([6])).status, 204);
    assert_eq!(home.claim("p").status, 200);
}

fn acknowledged_appends_are_pending_after_every_kill(host: Host) {
    let mut home = Home::new(host, &[]);
    let config = json!({
        "type": "pull-wake", "pattern": "jobs/*", "wake_stream": "wake", "lease_ttl_ms": 1000,
    });
    home.subscribe("p", &config);
    for stream in STREAMS {
        assert_eq!(home.ask("PUT", stream, "", &json!([])).status, 201);
    }
    let (over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let writers = STREAMS.map(|stream| {
        let (over, acknowledged) = (Arc::clone(&over), Arc::clone(&acknowledged));
        let port = home.server.port;
        thread::spawn(move || append_until(port, stream, &over, &acknowledged))
    });
    for _ in 0..4 {
        let count = || acknowledged.lock().unwrap().values().copied().sum::<u64>();
        let before = count();
        eventually("appends are acknowledged", || count() > before + 20);
        home.crash();
        let known: BTreeMap<_, u64> = acknowledged.lock().unwrap().clone();
        let mut claimed = Value::Null;
        eventually("work can be claimed", || {
            claimed = home.claim("p").json();
            claimed["streams"].is_array()
        });
        for (stream, tail) in known {
            let all = claimed["streams"].as_array().unwrap();
            let found = all.iter().find(|it| it["path"] == stream).unwrap();
            let found = position(found["tail_offset"].as_str().unwrap());
            assert!(found >= tail, "{stream}: {found}, not {tail}");
        }
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
}

const STREAMS: [&str; 3] = ["jobs/a", "jobs/b", "jobs/c"];

fn position(offset: &str) -> u64 {
    offset.rsplit('_').next().unwrap().parse().unwrap()
}

/// Appends repeatedly, and records the acknowledged tail.
fn append_until(
    port: u16,
    stream: &'static str,
    over: &AtomicBool,
    acknowledged: &Mutex<BTreeMap<&'static str, u64>>,
) {
    let request = format!(
        "POST /v1/stream/{stream} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 3\r\n\
         Content-Type: application/json\r\nConnection: close\r\n\r\n[1]"
    );
    while !over.load(Ordering::Relaxed) {
        match try_raw(port, request.as_bytes(), false) {
            Some(answer) if answer.status == 204 => {
                let tail = position(answer.header("stream-next-offset").unwrap());
                acknowledged.lock().unwrap().insert(stream, tail);
            }
            Some(_) | None => thread::sleep(Duration::from_millis(10)),
        }
    }
}
