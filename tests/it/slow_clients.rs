//! Slow, silent and many clients: no client delays another.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::world::{Running, World, try_raw};

/// How long a response may take beside slow clients.
const DELAY_MAX: Duration = Duration::from_secs(2);

/// More connections than the host serves at once.
const MANY: usize = 530;

fn open(port: u16, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Checks health, a page, a publish and an append, each within the time limit.
fn all_is_well(world: &World, beside: &str) {
    let timed = |what: &str, work: &dyn Fn() -> u16| {
        let begun = Instant::now();
        let status = work();
        assert!(status < 300, "{what} beside {beside}: {status}");
        let took = begun.elapsed();
        assert!(took < DELAY_MAX, "{what} beside {beside} took {took:?}");
    };
    timed("health", &|| world.get("", "/healthz").status);
    timed("a page", &|| world.get("docs", "/").status);
    let text = [("Content-Type", "text/plain")];
    timed("an append", &|| {
        world.request("PUT", "", "/v1/stream/a", &text, b"");
        world
            .request("POST", "", "/v1/stream/a", &text, b"x")
            .status
    });
    let body = r#"{"v":1,"space":"docs"}"#;
    let begun = Instant::now();
    let token = world.token();
    let asked = [("Authorization", token.as_str())];
    let refused = world.request("POST", "", "/api/publish/rollback", &asked, body.as_bytes());
    assert!((400..500).contains(&refused.status), "{refused:?}");
    assert!(begun.elapsed() < DELAY_MAX, "publishing beside {beside}");
}

#[test]
fn slow_and_silent_clients_delay_no_other() {
    let world = World::published("home");
    let port = world.server.port;
    let silent: Vec<_> = (0..MANY).map(|_| open(port, "")).collect();
    all_is_well(&world, "silent connections");
    drop(silent);
    let begun = "GET / HTTP/1.1\r\nHost: docs.loc";
    let begun: Vec<_> = (0..MANY).map(|_| open(port, begun)).collect();
    all_is_well(&world, "half-sent requests");
    drop(begun);
    let announced = "POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
        Content-Length: 16777216\r\n\r\nx";
    let announced: Vec<_> = (0..MANY).map(|_| open(port, announced)).collect();
    all_is_well(&world, "bodies that do not come");
    drop(announced);
    let reader = "GET /_events?offset=now&live=sse HTTP/1.1\r\nHost: docs.localhost\r\n\r\n";
    let readers: Vec<_> = (0..MANY).map(|_| open(port, reader)).collect();
    all_is_well(&world, "readers that wait");
    drop(readers);
}

#[test]
fn answers_do_not_wait_for_the_log() {
    let world = World::new();
    let mut command = world.command(&["serve", "--data", "own-data", "--listen", "127.0.0.1:0"]);
    // No program reads this pipe.
    command.stderr(Stdio::piped());
    let server = Running::start(command);
    let path = "a".repeat(400);
    let mut stream = open(server.port, "");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let request = format!("HEAD /healthz?{path} HTTP/1.1\r\nHost: localhost\r\nX: /{path}\r\n\r\n");
    let missing = format!("HEAD /{path} HTTP/1.1\r\nHost: docs.localhost\r\n\r\n");
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    // A pipe takes 64 KiB, which is some 100 of these lines.
    for _ in 0..1_000 {
        stream.write_all(missing.as_bytes()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        for _ in 0..2 {
            let mut line = String::new();
            answers.read_line(&mut line).expect("the host answers");
            assert!(line.starts_with("HTTP/1.1 "), "{line:?}");
            while answers.read_line(&mut line).expect("the host answers") > 2 {}
        }
    }
}

#[test]
fn half_closed_connection_gets_its_answer() {
    let world = World::published("home");
    let port = world.server.port;
    for _ in 0..20 {
        let mut stream = open(port, "GET / HTTP/1.1\r\nHost: docs.localhost\r\n\r\n");
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("home"),
            "{answer:?}"
        );
    }
    let token = world.token();
    let body = r#"{"v":1,"space":"none"}"#;
    let mut stream = open(
        port,
        &format!(
            "POST /api/publish/rollback HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer:?}");
}

#[test]
fn requests_are_framed_as_the_standard_says() {
    let world = World::published("home");
    let port = world.server.port;
    for (request, expected) in [
        (
            "GET / HTTP/1.1\r\nHost: docs.localhost\r\nConnection: close\r\n\r\n",
            200,
        ),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: docs.localhost\r\nHost: docs.localhost\r\nConnection: close\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: docs.localhost/x\r\nConnection: close\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.0\r\nHost: docs.localhost\r\n\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n\r\n", 200),
        (
            "GET http://docs.localhost/ HTTP/1.1\r\nHost: missing.localhost\r\nConnection: close\r\n\r\n",
            200,
        ),
        (
            "GET http://evil.example/ HTTP/1.1\r\nHost: docs.localhost\r\nConnection: close\r\n\r\n",
            403,
        ),
        (
            "CONNECT docs.localhost:443 HTTP/1.1\r\nHost: docs.localhost\r\nConnection: close\r\n\r\n",
            501,
        ),
        (
            "POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            400,
        ),
        (
            "POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\na",
            400,
        ),
        (
            "POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\na",
            400,
        ),
        (
            "POST /v1/stream/a HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
    ] {
        let status = try_raw(port, request.as_bytes(), false).map(|answer| answer.status);
        assert_eq!(status, Some(expected), "{request:?}");
    }
    // The server ignores a length beside a transfer coding and closes the connection: the following
    // bytes are no request.
    let smuggled = "POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answer = String::new();
    open(port, smuggled).read_to_string(&mut answer).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}
