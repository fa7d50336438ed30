//! HTTP client tests: servers on loopback that answer wrongly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use pmx_core::code::Code;
use pmx_core::problem::Problem;

use super::*;

/// A server that gives the next of these answers to each request, and returns the requests.
fn serving(answers: Vec<Vec<u8>>) -> (ServerUrl, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = ServerUrl::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut len) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let start = head.len();
                reader.read_line(&mut head).unwrap();
                let line = head[start..].to_ascii_lowercase();
                len = line
                    .strip_prefix("content-length: ")
                    .map_or(len, |n| n.trim().parse().unwrap());
            }
            reader.read_exact(&mut vec![0; len]).unwrap();
            asked.send(head).unwrap();
            // The client may close the connection during a long answer.
            let _ = stream.write_all(&answer);
        }
    });
    (server, requests)
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}").into()
}

fn client(server: ServerUrl) -> Client {
    Client::new(
        server,
        Some(Token::parse("s3cret").unwrap()),
        &Trust::default(),
        Interrupt::default(),
    )
}

const OK: &str = "200 OK\r\nContent-Type: application/json";

#[test]
fn foreign_answer_is_reported_as_one() {
    let long = "9".repeat(PROBLEM_BYTES_MAX as usize + 1);
    for (head, body, said) in [
        ("302 Found\r\nLocation: http://127.0.0.1:1/", "", "HTTP 302"),
        (
            "200 OK\r\nContent-Type: text/html",
            "<h1>Log\nin</h1>",
            "<h1>Log in</h1>",
        ),
        (OK, "{\"version\":", "EOF"),
        (OK, "[]", "invalid"),
        (
            "404 Not Found\r\nContent-Type: text/html",
            &long,
            "longer than",
        ),
        (
            "400 Bad Request\r\nContent-Type: text/html",
            "The plain HTTP request was sent to HTTPS port",
            "HTTP 400",
        ),
        (
            "418 Teapot\r\nContent-Type: application/problem+json",
            "{}",
            "HTTP 418",
        ),
    ] {
        let (server, requests) = serving(vec![answer(head, body)]);
        let failure = client(server).health().unwrap_err();
        assert_eq!(
            (failure.code, failure.exit()),
            (Code::Protocol, 5),
            "{head}: {failure}"
        );
        assert!(failure.message.contains(said), "{head}: {failure}");
        assert!(!failure.message.contains("s3cret"));
        assert_eq!(
            requests.iter().count(),
            1,
            "{head}: sent once, and followed nowhere"
        );
    }
}

#[test]
fn endless_answer_is_not_read_to_its_end() {
    let mut endless = answer(OK, "");
    let head = String::from_utf8(endless.clone()).unwrap();
    endless = head.replace("Content-Length: 0", "X: y").into_bytes();
    endless.resize(ANSWER_BYTES_MAX as usize + 1024 * 1024, b'[');
    let (server, _requests) = serving(vec![endless]);
    let failure = client(server).health().unwrap_err();
    assert!(
        failure.code == Code::Protocol && failure.message.contains("longer"),
        "{failure}"
    );
}

#[test]
fn refusal_keeps_its_code_and_is_not_repeated() {
    let problem = serde_json::to_string(&Problem::new(Code::Unauthorised, "no")).unwrap();
    let head = "401 Unauthorized\r\nContent-Type: application/problem+json; charset=utf-8";
    let (server, requests) = serving(vec![answer(head, &problem)]);
    let failure = client(server).health().unwrap_err();
    assert_eq!((failure.code, failure.exit()), (Code::Unauthorised, 4));
    assert!(failure.problem.is_some());
    let asked = requests.recv().unwrap().to_ascii_lowercase();
    assert!(asked.contains("authorization: bearer s3cret"), "{asked}");
}

#[test]
fn transient_failure_is_retried_and_counted() {
    let busy = answer("503 Busy\r\nRetry-After: 0", "later");
    let good = answer(OK, r#"{"version":"1"}"#);
    let (server, requests) = serving(vec![busy, Vec::new(), good]);
    let client = client(server);
    assert_eq!(client.health().unwrap().version, "1");
    assert_eq!(requests.iter().count(), 3);
    assert_eq!(
        client.traffic(),
        Traffic {
            requests: 3,
            sent: 0,
            received: 20
        }
    );
}

#[test]
fn refused_connection_is_a_network_failure_that_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = ServerUrl::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    drop(listener);
    let client = client(server.clone());
    let failure = client.health().unwrap_err();
    assert_eq!((failure.code, failure.exit()), (Code::Network, 5));
    assert!(failure.message.contains(server.as_str()), "{failure}");
    assert_eq!(client.traffic().requests, 2);
}

#[test]
fn interrupt_ends_the_wait() {
    let (server, requests) = serving(vec![answer("503 Busy\r\nRetry-After: 25", "")]);
    let interrupt = Interrupt::default();
    let client = Client::new(server, None, &Trust::default(), interrupt.clone());
    let waiting = std::thread::spawn(move || client.health().map(drop));
    requests.recv().unwrap();
    interrupt.raise();
    assert_eq!(
        waiting.join().unwrap().map_err(|failure| failure.exit()),
        Err(130)
    );
}
