//! Webhooks of the Worker's hub: it sends a few at once, and hanging hosts do not block the others.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pmx_core::sql::Sql as _;
use pmx_core::time::Timestamp;
use pmx_streams::limits::{HUB_WEBHOOKS_AGAIN_MAX, HUB_WEBHOOKS_MAX};
use pmx_streams::subscription::{
    BaseUrl, Delivery, EffectOutcome, PlatformAction, SubscriptionConfig, SubscriptionId,
    SubscriptionRequest, Subscriptions, TailOffsets, WebhookCapacity, WebhookPolicy, WebhookUrl,
};
use pmx_streams::{Offset, StreamName};
use pmx_tests::sql::Sqlite;
use serde_json::{Value, json};

use crate::stream_subscriptions::Home;
use crate::world::{Host, eventually, skipped, worker_lacks};

/// The number of hanging hosts.
const DEAD: usize = 6;

/// Connections of all hosts that wait for a response.
#[derive(Default)]
struct Connections {
    now: AtomicUsize,
    most: AtomicUsize,
    /// Requests to hanging hosts.
    hung: AtomicUsize,
    /// Requests to hanging hosts before each request to a responsive one.
    hung_before: Mutex<Vec<usize>>,
}

impl Connections {
    fn opened(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn closed(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A host that serves each connection in its own thread.
fn host(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (serve, socket) = (serve.clone(), socket.unwrap());
            thread::spawn(move || serve(socket));
        }
    });
    url
}

/// A host that accepts requests and never responds.
fn dead(all: &Arc<Connections>) -> String {
    let all = Arc::clone(all);
    host(move |mut socket| {
        all.opened();
        all.hung.fetch_add(1, Ordering::SeqCst);
        let mut bytes = [0; 4096];
        while socket.read(&mut bytes).is_ok_and(|read| read > 0) {}
        all.closed();
    })
}

/// A host that responds immediately that all work is done, and reports each request.
fn alive(all: &Arc<Connections>, calls: Sender<()>) -> String {
    let all = Arc::clone(all);
    host(move |mut socket| {
        all.opened();
        let hung = all.hung.load(Ordering::SeqCst);
        all.hung_before.lock().unwrap().push(hung);
        read_request(&mut socket);
        let body = r#"{"done":true}"#;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        let answer = format!("{head}Connection: close\r\n\r\n{body}");
        all.closed();
        socket.write_all(answer.as_bytes()).unwrap();
        let _over = calls.send(());
    })
}

/// Reads a request to the end of its body, which is JSON.
fn read_request(socket: &mut TcpStream) {
    let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        let read = socket.read(&mut bytes).unwrap();
        request.extend_from_slice(&bytes[..read]);
        let text = String::from_utf8_lossy(&request);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
        let is_whole = body.is_some_and(|body| serde_json::from_str::<Value>(body).is_ok());
        if is_whole || read == 0 {
            return;
        }
    }
}

fn follow(home: &Home, id: &str, stream: &str, url: &str) {
    let config = json!({
        "type": "webhook", "streams": [stream], "webhook": {"url": url}, "lease_ttl_ms": 5000,
    });
    home.subscribe(id, &config);
}

#[test]
fn webhook_hosts_that_hang_leave_a_connection_to_one_that_answers() {
    if let Some(lack) = worker_lacks() {
        return skipped("the Worker's webhooks", lack);
    }
    let home = Home::new(Host::Worker, &[]);
    let all = Arc::new(Connections::default());
    for stream in ["dead", "alive"] {
        assert_eq!(home.ask("PUT", stream, "", &json!([])).status, 201);
    }
    for number in 0..DEAD {
        follow(&home, &format!("d{number}"), "dead", &dead(&all));
    }
    let (sender, calls) = channel();
    follow(&home, "a", "alive", &alive(&all, sender));
    assert_eq!(home.ask("POST", "dead", "", &json!([1])).status, 204);
    eventually("hosts hang", || {
        all.hung.load(Ordering::SeqCst) >= HUB_WEBHOOKS_MAX
    });
    // The first webhook waits for one round of hosts that have not failed yet; later ones do not
    // wait.
    for _ in 0..4 {
        assert_eq!(home.ask("POST", "alive", "", &json!([1])).status, 204);
        next(&calls);
        eventually("each dead host was asked", || {
            all.hung.load(Ordering::SeqCst) >= DEAD
        });
    }
    let before = all.hung_before.lock().unwrap().clone();
    assert!(before[0] <= DEAD, "none was asked twice before: {before:?}");
    let most = all.most.load(Ordering::SeqCst);
    assert!(most <= HUB_WEBHOOKS_MAX, "{most} connections at once");
    assert!(all.hung.load(Ordering::SeqCst) >= DEAD, "{before:?}");
}

fn next(calls: &Receiver<()>) {
    let wait = Duration::from_secs(30);
    calls
        .recv_timeout(wait)
        .expect("a host that lives is asked");
}

/// One subscription after the other, on a ledger without a platform.
#[test]
fn webhook_that_failed_has_less_time_and_less_room() {
    let sql = Sqlite::new();
    Subscriptions::install(&sql, [1; 32]).unwrap();
    let at = |seconds: u64| Timestamp::from_millis(1_778_324_210_000 + seconds * 1_000);
    let turn = |seconds, room| {
        sql.atomically(|sql| Subscriptions::open(sql)?.work(at(seconds), room))
            .unwrap()
    };
    let stream = StreamName::parse("jobs").unwrap();
    for number in 0..6 {
        let call = webhook(number, &stream);
        let it = Subscriptions::open(&sql).unwrap();
        it.handle(&call, &TailOffsets::new(), at(0)).unwrap();
    }
    let it = Subscriptions::open(&sql).unwrap();
    it.on_append(&stream, Offset::at(1), at(0)).unwrap();
    let room = WebhookCapacity {
        webhooks: HUB_WEBHOOKS_MAX,
        retries: HUB_WEBHOOKS_AGAIN_MAX,
    };
    let first = turn(0, room);
    assert_eq!(first.len(), HUB_WEBHOOKS_MAX);
    for effect in &first {
        assert_eq!(timeout(&effect.action), Duration::from_secs(30));
        it.on_delivery_result(&effect.lease, &EffectOutcome::Failed, at(30))
            .unwrap();
    }
    // Two webhooks without a failure come first; beside them, there is capacity for two retries.
    let second = turn(100, room);
    let times: Vec<u64> = second
        .iter()
        .map(|it| timeout(&it.action).as_secs())
        .collect();
    assert_eq!(times, [30, 30, 10, 10]);
    for effect in &second {
        it.on_delivery_result(&effect.lease, &EffectOutcome::Failed, at(130))
            .unwrap();
    }
    assert_eq!(turn(1_000, room).len(), HUB_WEBHOOKS_AGAIN_MAX);
    // A subscription that waits for capacity has no running lease.
    let none = WebhookCapacity {
        webhooks: 0,
        retries: 0,
    };
    assert_eq!(it.due(at(1_000), none).unwrap(), Some(at(1_030)));
    assert_eq!(turn(100_000, none), []);
}

fn webhook(number: usize, stream: &StreamName) -> SubscriptionRequest {
    let url = WebhookUrl::parse("https://worker.dev/hook", WebhookPolicy::Public).unwrap();
    SubscriptionRequest::Create {
        id: SubscriptionId::parse(&format!("s{number}")).unwrap(),
        config: Box::new(SubscriptionConfig {
            streams: [stream.clone()].into(),
            pattern: None,
            delivery: Delivery::Webhook(url),
            lease: Duration::from_mins(10),
            description: None,
        }),
        base_url: BaseUrl::parse("https://streams.dev/v1/stream").unwrap(),
    }
}

fn timeout(action: &PlatformAction) -> Duration {
    match action {
        PlatformAction::Webhook { timeout, .. } => *timeout,
        PlatformAction::Append { .. } | PlatformAction::Copy(_) => panic!("{action:?}"),
    }
}
