//! Restores that a space refuses, over the API: no request of a restore damages a history.

use pmx_core::codec::Encoder;
use pmx_sync::wire::Envelope;
use serde_json::{Value, json};

use crate::world::{World, on_both_hosts};

on_both_hosts!(restore_takes_only_what_follows_the_history);

/// A deploy without content.
fn given_up(number: u64) -> Value {
    json!({
        "deploy": {
            "number": number, "root": root(number), "parent": 0, "kind": "publish",
            "at": 1_700_000_000_000_u64, "files": 1, "bytes": 2, "new_bytes": 2,
            "summary": {"added": 1, "modified": 0, "removed": 0, "unchanged": 0},
            "content": "dropped",
        },
        "key": format!("key {number}"),
    })
}

fn root(number: u64) -> String {
    format!("{number:064x}")
}

/// A change of the deploys of a request.
type Spoil = fn(&mut Vec<Value>);

fn send(world: &World, space: &str, restore: &[Value]) -> (u16, Value) {
    let root = restore
        .last()
        .map_or(json!(root(0)), |last| last["deploy"]["root"].clone());
    let head = json!({
        "v": 1, "space": space, "root": root,
        "commit": {"key": "any", "replace": "any", "restore": restore},
    });
    let envelope = Envelope {
        head: serde_json::to_vec(&head).unwrap().into(),
        sections: Vec::new(),
    };
    let token = world.token();
    let headers = [("Authorization", token.as_str())];
    let body = envelope.encode(&mut Encoder::new());
    let answer = world.request("POST", "", "/api/publish/begin", &headers, &body);
    (answer.status, answer.json())
}

fn restore_takes_only_what_follows_the_history(world: World) {
    let range = |numbers: std::ops::Range<u64>| numbers.map(given_up).collect::<Vec<_>>();
    let refused: [(&str, Spoil); 9] = [
        ("E_REQUEST_MALFORMED", |all| {
            all[1]["deploy"]["number"] = json!(9);
        }),
        ("E_REQUEST_MALFORMED", |all| {
            all[0]["deploy"]["content"] = json!("kept");
        }),
        ("E_REQUEST_MALFORMED", |all| {
            all[2]["deploy"]["alias"] = json!("pr-7");
        }),
        ("E_REQUEST_MALFORMED", |all| all[2]["more"] = json!(1)),
        ("E_TOO_LARGE", |all| all.extend((8..70).map(given_up))),
        ("E_TOO_LARGE", |all| all[1]["key"] = json!("")),
        ("E_TOO_LARGE", |all| {
            all[1]["deploy"]["meta"] = json!({"message": "m".repeat(5_000)});
        }),
        ("E_NUMBER_TOO_LARGE", |all| {
            all[1]["deploy"]["bytes"] = json!(1_u64 << 60);
        }),
        ("E_CONFLICT", |all| {
            for (deploy, number) in all.iter_mut().zip((1_u64 << 48) + 1..) {
                *deploy = given_up(number);
            }
        }),
    ];
    for (code, spoil) in refused {
        let mut all = range(5..8);
        spoil(&mut all);
        let (status, answer) = send(&world, "docs", &all);
        assert_eq!(answer["code"], code, "{status} {answer}");
    }
    let (_, none) = send(&world, "docs", &range(0..2));
    assert_eq!(none["code"], "E_CONFLICT", "0 is no number");
    let list = || {
        let list = world
            .pmx(&["deploys", "--space", "docs", "--json"])
            .ok()
            .last();
        let deploys = list["deploys"].as_array().unwrap().iter();
        deploys
            .map(|deploy| deploy["number"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(), Vec::<Value>::new(), "nothing was recorded");

    // Repeated, it is the same; after it, only the next number, and not another deploy.
    for _ in 0..2 {
        let (status, made) = send(&world, "docs", &range(5..8));
        assert_eq!(
            (status, &made["deploy"]["number"]),
            (200, &json!(7)),
            "{made}"
        );
    }
    for numbers in [4..5, 9..10, 3..9, 6..9] {
        let (_, answer) = send(&world, "docs", &range(numbers.clone()));
        assert_eq!(answer["code"], "E_CONFLICT", "{numbers:?}");
    }
    let mut other = range(7..8);
    other[0]["key"] = json!("of another");
    assert_eq!(send(&world, "docs", &other).1["code"], "E_CONFLICT");
    // Content that the space lacks is asked for, and nothing is recorded before it is there.
    let mut kept = range(8..9);
    kept[0]["deploy"]["content"] = json!("kept");
    let (status, asked) = send(&world, "docs", &kept);
    assert_eq!(
        (status, &asked["state"]),
        (200, &json!("outline")),
        "{asked}"
    );
    assert_eq!(list(), [7, 6, 5].map(|number| json!(number)));
    // The next publish follows.
    world.write(&[("index.html", "<body>next</body>")]);
    assert_eq!(world.sync("docs", &[]).ok().number("/deploy"), 8);
    assert_eq!(send(&world, "docs", &kept).1["code"], "E_CONFLICT");
}
