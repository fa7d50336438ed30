use std::fmt::Debug;
use std::time::Duration;

use data_encoding::HEXLOWER;
use pmx_core::code::Code;
use pmx_core::crossing::{Crossing, arrived};
use pmx_core::domain::Selector;
use pmx_core::id::{BlobId, NodeId, ObjectId, PackId, SpaceId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_core::name::AliasName;
use pmx_streams::{Expiry, MediaType, Offset, Page, Read, StreamProperties};

use super::super::command::{ArrivedPart, Loss, Lost, SmallPack};
use super::super::reply::Outbox;
use super::*;
use crate::pointer::Pointer;
use crate::wire::{CommitPreconditions, DeployMeta, DeployView, HoldView};

fn publish(offer: Offer, pack: Option<SmallPack>) -> Command {
    Command::Publish(Box::new(PublishCommand {
        alias: AliasName::parse("next").ok(),
        root: NodeId::of(b"new"),
        base: Some(NodeId::of(b"old")),
        offer,
        pack,
        packs: vec![PackId::of(b"pack")],
        commit: Some(CommitPreconditions {
            expect: Some(3),
            replace: crate::wire::Replace::Named,
            key: "a \"key\"".into(),
            order: crate::wire::Order::from_parts("github:1:x", 7),
            max_delete: Some(crate::wire::MaxDelete::Percent(3)),
            meta: DeployMeta::default(),
            expires: None,
            restore: Vec::new(),
        }),
        dry: false,
        begun: false,
        lease: Duration::from_hours(1),
        files_max: 7,
        index: ObjectId::from_bytes([9; 16]),
    }))
}

fn page() -> Page {
    Page {
        view: StreamProperties {
            media_type: MediaType::new("application/json".to_owned()),
            next: Offset::at(3),
            closed: false,
            expiry: Expiry::Never,
            expiry_text: None,
            generation: "7".repeat(32),
        },
        start: Offset::at(2),
        end: Offset::at(3),
        body: Bytes::from_static(b"{\"deploy\":3}"),
    }
}

fn extent() -> Extent {
    Extent {
        object: ObjectId::from_bytes([1; 16]),
        offset: 1 << 40,
        len: 5,
    }
}

/// One of each command, at least.
fn commands() -> Vec<Command> {
    let bytes = Bytes::from_static(b"\0\xffbytes");
    let pack = SmallPack {
        object: bytes.clone(),
        toc: Bytes::new(),
    };
    let fresh = SpaceId::from_bytes([7; 16]);
    let arrived = ArrivedPart {
        space: fresh,
        blob: BlobId::of(b"blob"),
        size: 1 << 33,
        number: 2,
        chaining_value: [200; 32],
        location: Location {
            extent: extent(),
            codec: Codec::Zstd,
        },
    };
    let rollback = r#"{"v":1,"space":"docs","to":4,"key":"k"}"#;
    vec![
        Command::Open { fresh },
        publish(Offer::Root, Some(pack)),
        publish(Offer::Patch(bytes.clone()), None),
        publish(
            Offer::Outline(vec![NodeId::of(b"a"), NodeId::of(b"b")]),
            None,
        ),
        publish(Offer::Nodes(vec![bytes.clone(), Bytes::new()]), None),
        Command::RecordPack {
            pack: PackId::of(b"pack"),
            space: fresh,
            object: extent().object,
            files_max: 7,
            toc: bytes,
        },
        Command::RecordPart(arrived),
        Command::Rollback(serde_json::from_str(rollback).unwrap()),
        Command::Resume,
        Command::DeleteAlias {
            alias: AliasName::parse("next").unwrap(),
        },
        Command::Deploys {
            before: None,
            limit: 50,
            backup: false,
        },
        Command::Diff { from: 1, to: 2 },
        Command::Nodes {
            ids: vec![NodeId::of(b"a")],
        },
        Command::Events {
            alias: None,
            read: Read {
                from: pmx_streams::From::At(pmx_streams::Offset::at(3)),
            },
        },
        Command::DiffSince {
            from: 1,
            to: 9,
            most: 5,
        },
        Command::Locate {
            deploy: Selector::Number(3),
        },
        Command::Locate {
            deploy: Selector::Active,
        },
        Command::Index {
            root: NodeId::of(b"root"),
        },
        Command::PendingPointers,
        Command::Lost(Loss {
            lost: Lost::Blob {
                blob: BlobId::of(b"blob"),
                at: Location {
                    extent: extent(),
                    codec: Codec::Stored,
                },
            },
            object: extent().object,
            is_absent: true,
        }),
        Command::AckPointer {
            alias: AliasName::parse("next").ok(),
            order: 9,
            revision: None,
        },
    ]
}

/// One of each reply, at least.
fn replies() -> Vec<Reply> {
    let space = SpaceId::from_bytes([7; 16]);
    let deploy = r#"{"number":2,"root":"ROOT","parent":1,"kind":"publish","at":5,"files":1,
        "bytes":1,"new_bytes":0,"order":{"kind":"run","value":3},
        "summary":{"added":1,"modified":0,"removed":0,"unchanged":0}}"#;
    let root = NodeId::of(b"root");
    let deploy: DeployView = serde_json::from_str(&deploy.replace("ROOT", &root.to_hex())).unwrap();
    let published = r#"{"state":"blobs","active":1,"blobs":[[0,3]]}"#;
    let diff = r#"{"from":1,"to":2,"rows":[{"path":"a/b","after":4}],"truncated":false,
        "summary":{"added":1,"modified":0,"removed":0,"unchanged":0}}"#;
    let pointer = Pointer {
        space,
        deploy: 2,
        root,
        index: extent(),
        earlier: vec![(root, extent())],
        live: true,
        rules: false,
        events: true,
        gone: false,
        base: 0,
        expires: None,
        revision: 0,
    };
    vec![
        Reply::Space(space),
        Reply::Publish(serde_json::from_str(published).unwrap()),
        Reply::Recorded(extent().object),
        Reply::Noted,
        Reply::Events {
            page: Box::new(page()),
            is_open: true,
        },
        Reply::Deploy(Box::new(deploy.clone())),
        Reply::Deploys {
            active: 2,
            aliases: [(AliasName::parse("next").unwrap(), 1)].into(),
            hold: Some(HoldView {
                deploy: 2,
                at: pmx_core::time::Timestamp::from_millis(5),
            }),
            deploys: vec![deploy],
            backup: None,
        },
        Reply::Diff(serde_json::from_str(diff).unwrap()),
        Reply::Pointer(Box::new(pointer.clone())),
        Reply::AliasDeleted(Some(4)),
        Reply::Nodes(vec![Bytes::from_static(b"\0node")]),
        Reply::Resumed(Some(2)),
        Reply::Index {
            space,
            index: extent(),
        },
        Reply::Due(Outbox {
            due: vec![Due {
                alias: AliasName::parse("next").ok(),
                pointer,
            }],
            blocked: vec![Problem::new(pmx_core::code::Code::MissingObjects, "x")],
        }),
    ]
}

fn calls() -> Vec<SpaceCall> {
    let call = |command| SpaceCall {
        space: SpaceName::parse("docs").unwrap(),
        now: Timestamp::from_millis(1),
        command,
    };
    commands().into_iter().map(call).collect()
}

fn answers() -> Vec<SpaceResponse> {
    let conflict = Problem::new(Code::Conflict, "x").with_active(Some(2));
    let replies = replies().into_iter().map(Ok);
    let outcomes = replies.chain([Err(conflict)]);
    let answer = |outcome| SpaceResponse {
        outcome,
        due: Vec::new(),
    };
    outcomes.map(answer).collect()
}

/// Checks that a value crosses unchanged. Returns its bytes.
fn crosses<T: Crosses + Debug>(value: T) -> Bytes {
    let left = format!("{value:?}");
    let bytes = Crossing::of(value).unwrap().to_bytes();
    let arrived: T = arrived(&bytes).unwrap();
    assert_eq!(format!("{arrived:?}"), left);
    bytes
}

/// The bytes that this release sends.
fn sent() -> String {
    let calls = calls().into_iter().map(|call| ("call", crosses(call)));
    let answers = answers().into_iter();
    let answers = answers.map(|answer| ("answer", crosses(answer)));
    let line = |(kind, bytes): (&str, Bytes)| format!("{kind} {}\n", HEXLOWER.encode(&bytes));
    calls.chain(answers).map(line).collect()
}

/// The bytes of all releases, the newest last. Those of a release never change.
const RELEASES: [&str; 1] = [include_str!("release-1.txt")];

#[test]
fn call_bytes_of_this_release_are_pinned() {
    let (sent, kept) = (sent(), RELEASES[RELEASES.len() - 1]);
    let hint = "what follows is the content of a new file, if the release of this one is out";
    assert!(kept == sent, "{hint}:\n{sent}");
}

#[test]
fn call_of_an_earlier_release_is_understood() {
    for release in RELEASES {
        for line in release.lines() {
            let (kind, hex) = line.split_once(' ').unwrap();
            let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap().into();
            match kind {
                "call" => drop(arrived::<SpaceCall>(&bytes).unwrap()),
                _ => drop(arrived::<SpaceResponse>(&bytes).unwrap()),
            }
        }
        assert!(release.lines().count() > 30, "{release}");
    }
}

/// The release after this one: it has an additional command, reply and fields.
mod successor {
    use super::{Bytes, Crosses, Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(super) enum Command {
        Resume,
        Rest {
            days: u32,
        },
        Delivered {
            alias: Option<String>,
            order: u64,
            by: Option<String>,
        },
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct SpaceCall {
        pub(super) space: String,
        pub(super) now: u64,
        pub(super) command: Command,
        #[serde(skip)]
        pub(super) trace: Bytes,
    }

    impl Crosses for SpaceCall {
        fn strings(&mut self, each: &mut dyn FnMut(&mut Bytes)) {
            each(&mut self.trace);
        }
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Reply {
        Rested,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct SpaceResponse {
        pub(super) outcome: Result<Reply, String>,
    }

    impl Crosses for SpaceResponse {}
}

fn of_successor(command: successor::Command) -> Bytes {
    let call = successor::SpaceCall {
        space: "docs".to_owned(),
        now: 1,
        command,
        trace: Bytes::from_static(b"7"),
    };
    Crossing::of(call).unwrap().to_bytes()
}

#[test]
fn call_of_a_later_release_is_understood_if_it_adds_fields() {
    let known = successor::Command::Delivered {
        alias: None,
        order: 4,
        by: Some("x".to_owned()),
    };
    for command in [successor::Command::Resume, known] {
        arrived::<SpaceCall>(&of_successor(command)).unwrap();
    }
    // The successor also reads the bytes of this release.
    let call = SpaceCall {
        space: SpaceName::parse("docs").unwrap(),
        now: Timestamp::from_millis(1),
        command: Command::AckPointer {
            alias: None,
            order: 4,
            revision: None,
        },
    };
    let bytes = Crossing::of(call).unwrap().to_bytes();
    let call: successor::SpaceCall = arrived(&bytes).unwrap();
    assert!(call.trace.is_empty());
}

#[test]
fn call_of_an_unknown_kind_is_to_be_repeated() {
    let unknown = of_successor(successor::Command::Rest { days: 1 });
    let call = arrived::<SpaceCall>(&unknown).map(drop);
    let answer = successor::SpaceResponse {
        outcome: Ok(successor::Reply::Rested),
    };
    let unknown = Crossing::of(answer).unwrap().to_bytes();
    let answer = arrived::<SpaceResponse>(&unknown).map(drop);
    for foreign in [call, answer] {
        let problem = foreign.unwrap_err().into_problem("reading what arrived");
        assert_eq!((problem.code, problem.status), (Code::Unavailable, 503));
        assert!(problem.code.retriable() && problem.code.retry_after().is_some());
        // The problem itself crosses like any outcome.
        crosses(SpaceResponse {
            outcome: Err(problem),
            due: Vec::new(),
        });
    }
}
