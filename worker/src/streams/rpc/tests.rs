use std::fmt::Debug;
use std::path::PathBuf;

use pmx_core::crossing::Crossing;
use pmx_streams::{HubAck, HubUpdate};

use super::super::hub_client::{HubRequest, HubResponse, is_from_stream};
use super::*;

fn stream(name: &str) -> StreamName {
    StreamName::parse(name).unwrap()
}

fn reference() -> Generation {
    Generation::from_random([7; 16])
}

fn producer() -> Producer {
    Producer {
        id: "hub".to_owned(),
        epoch: 1,
        seq: 2,
    }
}

/// One of each thing that a stream is asked.
fn asked() -> Vec<RpcRequest> {
    let messages = Bytes::from_static(br#"["a \"b\"",1]"#);
    let fork = Fork {
        source: stream("a/b"),
        at: Some(Offset::at(3)),
        beyond: 0,
    };
    let wishes = vec![
        StepRequest::Retain {
            fork,
            reference: reference(),
        },
        StepRequest::Release {
            reference: reference(),
        },
        StepRequest::Follow { round: 4 },
        StepRequest::Look,
        StepRequest::Append {
            messages: messages.clone(),
            producer: None,
        },
        StepRequest::Register {
            messages,
            producer: Some(producer()),
        },
    ];
    wishes.into_iter().map(RpcRequest::Step).collect()
}

fn said() -> Vec<RpcResponse> {
    let outcomes = vec![
        Ok(RpcReply::Following(None)),
        Ok(RpcReply::Seen(None)),
        Ok(RpcReply::Copied(Offset::at(9))),
        Ok(RpcReply::Appended),
        Ok(RpcReply::Done),
        Err(Refusal::NoSource),
        Err(Refusal::Storage {
            why: "x".to_owned(),
        }),
    ];
    outcomes
        .into_iter()
        .map(|outcome| RpcResponse { outcome })
        .collect()
}

fn update() -> HubRequest {
    HubRequest {
        name: stream("a/b"),
        update: HubUpdate {
            events: Vec::new(),
            tail: None,
        },
    }
}

fn ack() -> HubResponse {
    HubResponse {
        ack: HubAck {
            round: 4,
            followed: true,
        },
    }
}

fn crosses<T: Crosses + Debug>(kind: &str, value: T) -> String {
    let left = format!("{value:?}");
    let bytes = Crossing::of(value).unwrap().to_bytes();
    let arrived: T = arrived(&bytes).unwrap();
    assert_eq!(format!("{arrived:?}"), left);
    format!("{kind} {}\n", bytes.escape_ascii())
}

/// What this release sends.
fn sent() -> String {
    let asked = asked().into_iter().map(|asked| crosses("asked", asked));
    let said = said().into_iter().map(|said| crosses("said", said));
    let told = [crosses("told", update()), crosses("heard", ack())];
    asked.chain(said).chain(told).collect()
}

/// What the releases so far sent, the newest last. Those that are out stay as they are.
const RELEASES: [&str; 1] = ["release-1.txt"];

fn release(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/streams/rpc/{name}"))
}

#[test]
fn this_release_sends_what_its_file_says() {
    let file = release(RELEASES[RELEASES.len() - 1]);
    let sent = sent();
    if std::env::var_os("PMX_BLESS").is_some() {
        std::fs::write(&file, &sent).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let hint = "PMX_BLESS=1 writes the file; if its release is out, name a new one";
    assert_eq!(kept, sent, "{hint}");
}

/// The bytes that `escape_ascii` spelt.
fn unescaped(text: &str) -> Bytes {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            (_, true) => match rest.next().unwrap() {
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => other,
            },
        });
    }
    bytes.into()
}

#[test]
fn what_earlier_releases_sent_is_understood() {
    for name in RELEASES {
        let text = std::fs::read_to_string(release(name)).unwrap();
        for line in text.lines() {
            let (kind, bytes) = line.split_once(' ').unwrap();
            let bytes = unescaped(bytes);
            match kind {
                "asked" => drop(arrived::<RpcRequest>(&bytes).unwrap()),
                "said" => drop(arrived::<RpcResponse>(&bytes).unwrap()),
                "told" => drop(arrived::<HubRequest>(&bytes).unwrap()),
                _ => drop(arrived::<HubResponse>(&bytes).unwrap()),
            }
        }
        assert!(text.lines().count() >= 15, "{name}: {text}");
    }
}

#[test]
fn wishes_of_a_later_release_are_to_be_asked_again() {
    #[derive(Serialize, Deserialize)]
    enum Later {
        Turn(LaterWish),
    }
    #[derive(Serialize, Deserialize)]
    enum LaterWish {
        Follow { round: u64, since: u64 },
        Rest,
    }
    impl Crosses for Later {}
    let read = |wish| RpcRequest::read(&Crossing::of(Later::Turn(wish)).unwrap().to_bytes());
    let known = read(LaterWish::Follow { round: 4, since: 3 }).unwrap();
    assert_eq!(known, RpcRequest::Step(StepRequest::Follow { round: 4 }));
    let unknown = read(LaterWish::Rest).unwrap_err();
    assert_eq!((unknown.status, unknown.code.retriable()), (503, true));
}

#[test]
fn only_what_counts_once_is_asked_again() {
    let again = asked().iter().filter(|asked| asked.may_repeat()).count();
    assert_eq!(
        again,
        asked().len() - 1,
        "all but an append without a producer"
    );
}

#[test]
fn what_objects_ask_each_other_has_an_address_that_no_client_has() {
    let address = |text: &str| text.parse::<Uri>().unwrap();
    assert!(is_from_peer(&address(ADDRESS)));
    assert!(is_from_stream(&address("https://hub/hear")));
    for other in [
        "https://api.path.app/peers",
        "https://api.path.app/hear",
        "https://hub/peers",
        "https://stream/hear",
        "https://stream/v1/stream/a",
    ] {
        let other = address(other);
        assert!(!is_from_peer(&other) && !is_from_stream(&other), "{other}");
    }
}
