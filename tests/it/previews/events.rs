//! Events of previews: readers of a site or a preview receive its own deploys only.

use serde_json::{Value, json};

use super::{edit, preview, site};
use crate::live::socket::{Events, Socket};
use crate::live::{at, deploy_token, events, readers_wait};
use crate::world::{World, on_both_hosts, raw};

on_both_hosts!(
    preview_readers_receive_their_own_deploys_only,
    preview_readers_catch_up_with_their_own_deploys_only,
);

/// Waits for one answer, on a thread of its own.
fn poll(world: &World, site: &str, offset: u64) -> std::thread::JoinHandle<Value> {
    let (port, token) = (world.server.port, world.token());
    let head = format!(
        "GET /_events?live=long-poll&offset={} HTTP/1.1\r\nHost: {site}.localhost:{port}\r\n\
         Authorization: {token}\r\nConnection: close\r\n\r\n",
        at(offset)
    );
    std::thread::spawn(move || raw(port, head.as_bytes(), false).json())
}

fn deploys(messages: &Value) -> Vec<u64> {
    let messages = messages.as_array().unwrap().iter();
    messages
        .map(|message| message["deploy"].as_u64().unwrap())
        .collect()
}

fn preview_readers_receive_their_own_deploys_only(world: World) {
    site(&world);
    preview(&world, "2");
    edit(&world, "3", &["--preview", "pr-8"]);
    let all = r#"{"all":true}"#;
    let (mut docs, first) = Socket::listen(&world, "docs", all);
    let know = deploy_token(&world, "docs");
    assert_eq!(
        first,
        json!({"offset": at(1), "deploy": 1, "events": [], "know": know})
    );
    let (mut seventh, first) = Socket::listen(&world, "pr-7--docs", r#"{"page":"/a"}"#);
    assert_eq!(first["deploy"], 2);
    let (mut eighth, _) = Socket::listen(&world, "pr-8--docs", all);
    let mut stream = Events::open(&world, "docs", "offset=now", "");
    assert_eq!(stream.next(), (vec![], at(1)));
    let (polled, waits) = (poll(&world, "pr-7--docs", 2), poll(&world, "docs", 1));
    // Two polls, an event reader, and three sockets.
    readers_wait(&world, "docs", 6);
    readers_wait(&world, "pr-7--docs", 6);
    preview(&world, "4");
    let frame = seventh.frame();
    assert_eq!(
        (&frame["deploy"], &frame["offset"]),
        (&json!(4), &json!(at(4)))
    );
    assert_eq!(
        (&frame["alias"], &frame["kind"]),
        (&json!("pr-7"), &json!("publish"))
    );
    assert_eq!(frame["events"][0]["paths"], json!(["/a"]));
    assert_eq!(deploys(&polled.join().unwrap()), [4]);
    assert!(docs.is_silent() && eighth.is_silent());
    edit(&world, "5", &[]);
    let frame = docs.frame();
    assert_eq!(
        (&frame["deploy"], &frame["alias"]),
        (&json!(5), &Value::Null)
    );
    assert_eq!(frame["events"][0]["modified"], json!(["a.html"]));
    assert_eq!(deploys(&waits.join().unwrap()), [5]);
    let (messages, id) = stream.next();
    assert_eq!((deploys(&Value::Array(messages)), &*id), (vec![5], &*at(5)));
    assert!(seventh.is_silent() && eighth.is_silent());
    // A repeated publish of a preview sends its changes only, of which there are none here.
    edit(&world, "3", &["--preview", "pr-8"]);
    assert!(eighth.is_silent(), "nothing changed");
    assert_eq!(
        Socket::open(world.server.port, "5--docs", None).err(),
        Some(404)
    );
    assert_eq!(
        Socket::open(world.server.port, "pr-9--docs", None).err(),
        Some(404)
    );
}

fn preview_readers_catch_up_with_their_own_deploys_only(world: World) {
    site(&world);
    preview(&world, "2");
    edit(&world, "3", &[]);
    preview(&world, "4");
    edit(&world, "5", &[]);
    preview(&world, "6");
    let log = |site, query: &str| {
        let answer = events(&world, site, &format!("offset={query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let next = answer.header("stream-next-offset").unwrap().to_owned();
        (deploys(&answer.json()), next)
    };
    assert_eq!(log("docs", "-1"), (vec![1, 3, 5], at(5)));
    assert_eq!(log("pr-7--docs", "-1"), (vec![2, 4, 6], at(6)));
    assert_eq!(log("docs", &at(3)), (vec![5], at(5)));
    assert_eq!(log("docs", &at(5)), (vec![], at(5)));
    assert_eq!(log("docs", "now"), (vec![], at(5)));
    let beyond = events(&world, "docs", &format!("offset={}", at(6)));
    assert_eq!(beyond.status, 400);
    let net = |site, from| {
        let answer = events(&world, site, &format!("offset={}&compact=1", at(from)));
        answer.json()[0].clone()
    };
    let missed = net("docs", 1);
    assert_eq!(
        (&missed["deploy"], &missed["since"]),
        (&json!(5), &json!(1))
    );
    assert_eq!(missed["events"][0]["modified"], json!(["a.html"]));
    let missed = net("pr-7--docs", 2);
    assert_eq!(
        (&missed["deploy"], &missed["since"]),
        (&json!(6), &json!(2))
    );
    assert_eq!(missed["alias"], "pr-7");
    let wish = format!(r#"{{"page":"/a","offset":"{}"}}"#, at(2));
    let (_page, first) = Socket::listen(&world, "pr-7--docs", &wish);
    assert_eq!((&first["deploy"], &first["since"]), (&json!(6), &json!(2)));
    let wish = format!(r#"{{"all":true,"compact":false,"offset":"{}"}}"#, at(1));
    let (mut each, first) = Socket::listen(&world, "docs", &wish);
    assert_eq!(
        (&first["deploy"], &each.frame()["deploy"]),
        (&json!(3), &json!(5))
    );
    assert!(each.is_silent());
}
