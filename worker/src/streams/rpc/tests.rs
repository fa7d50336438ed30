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

/// One request of each kind.
fn requests() -> Vec<RpcRequest> {
    let messages = Bytes::from_static(br#"["a \"b\"",1]"#);
    let fork = Fork {
        source: stream("a/b"),
        at: Some(Offset::at(3)),
        beyond: 0,
    };
    let steps = vec![
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
    steps.into_iter().map(RpcRequest::Step).collect()
}

fn responses() -> Vec<RpcResponse> {
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
    let sent = format!("{value:?}");
    let bytes = Crossing::of(value).unwrap().to_bytes();
    let arrived: T = arrived(&bytes).unwrap();
    assert_eq!(format!("{arrived:?}"), sent);
    format!("{kind} {}\n", bytes.escape_ascii())
}

/// The lines of the file of this release.
fn sent() -> String {
    let requests = requests().into_iter().map(|it| crosses("asked", it));
    let responses = responses().into_iter().map(|it| crosses("said", it));
    let hub = [crosses(HUB_REQUEST, update()), crosses("heard", ack())];
    requests.chain(responses).chain(hub).collect()
}

/// The kind of a hub request in the files of releases.
const HUB_REQUEST: &str = "told";

/// The files of all releases, the newest last. Those of published releases never change.
const RELEASES: [&str; 1] = ["release-1.txt"];

fn release(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/streams/rpc/{name}"))
}

#[test]
fn messages_of_this_release_match_its_file() {
    let file = release(RELEASES[RELEASES.len() - 1]);
    let sent = sent();
    if std::env::var_os("PMX_BLESS").is_some() {
        std::fs::write(&file, &sent).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let hint = "PMX_BLESS=1 writes the file; if its release is out, name a new one";
    assert_eq!(kept, sent, "{hint}");
}

/// The inverse of `escape_ascii`.
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
fn messages_of_all_releases_decode() {
    for name in RELEASES {
        let text = std::fs::read_to_string(release(name)).unwrap();
        for line in text.lines() {
            let (kind, bytes) = line.split_once(' ').unwrap();
            let bytes = unescaped(bytes);
            match kind {
                "asked" => drop(arrived::<RpcRequest>(&bytes).unwrap()),
                "said" => drop(arrived::<RpcResponse>(&bytes).unwrap()),
                HUB_REQUEST => drop(arrived::<HubRequest>(&bytes).unwrap()),
                _ => drop(arrived::<HubResponse>(&bytes).unwrap()),
            }
        }
        assert!(text.lines().count() >= 15, "{name}: {text}");
    }
}

#[test]
fn requests_of_a_later_release_are_unavailable() {
    #[derive(Serialize, Deserialize)]
    enum Later {
        Turn(LaterStep),
    }
    #[derive(Serialize, Deserialize)]
    enum LaterStep {
        Follow { round: u64, since: u64 },
        Rest,
    }
    impl Crosses for Later {}
    let read = |step| RpcRequest::read(&Crossing::of(Later::Turn(step)).unwrap().to_bytes());
    let known = read(LaterStep::Follow { round: 4, since: 3 }).unwrap();
    assert_eq!(known, RpcRequest::Step(StepRequest::Follow { round: 4 }));
    let unknown = read(LaterStep::Rest).unwrap_err();
    assert_eq!((unknown.status, unknown.code.retriable()), (503, true));
}

#[test]
fn may_repeat_is_false_only_for_an_append_without_a_producer() {
    let repeatable = requests().iter().filter(|it| it.may_repeat()).count();
    assert_eq!(
        repeatable,
        requests().len() - 1,
        "all but an append without a producer"
    );
}

#[test]
fn is_rpc_only_for_addresses_that_no_client_can_have() {
    let address = |text: &str| text.parse::<Uri>().unwrap();
    assert!(is_rpc(&address(ADDRESS)));
    assert!(is_from_stream(&address("https://hub/hear")));
    for other in [
        "https://api.path.app/peers",
        "https://api.path.app/hear",
        "https://hub/peers",
        "https://stream/hear",
        "https://stream/v1/stream/a",
    ] {
        let other = address(other);
        assert!(!is_rpc(&other) && !is_from_stream(&other), "{other}");
    }
}
