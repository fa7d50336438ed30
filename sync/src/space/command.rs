//! What can be asked of a space. Commands and replies are values, so they cross a Durable Object
//! call or a function call unchanged.
//!
//! They cross as JSON, because most of what they hold is JSON for clients as well, and because one
//! codec is enough for a Worker of bounded size. The few bytes among them (a patch, nodes, a pack
//! of a small publish) are base64; packs and parts never cross.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{BlobId, NodeId, ObjectId, PackId, Root, SpaceId};
use crate::live::Message;
use crate::location::{Extent, Location};
use crate::name::AliasName;
use crate::serve::Pointer;
use crate::site::Selector;
use crate::stream::{Page, Read};
use crate::wire::{
    BeginReply, CommitTerms, DeployView, DiffReply, HoldView, Problem, RollbackHead,
};

/// A command to one space.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// Names the space's internal id, making the space with `fresh` if it is new.
    Open {
        /// The id it gets if it is new.
        fresh: SpaceId,
    },
    /// Learns about a root, says what is missing, and commits it if nothing is and terms came.
    Publish(Box<Publish>),
    /// Notes that a pack was verified and written.
    PackArrived {
        /// The pack as it travelled.
        pack: PackId,
        /// The object that holds its frames.
        object: ObjectId,
        /// The object's table of contents, encoded.
        #[serde(with = "crate::base64")]
        toc: Bytes,
    },
    /// Notes that a part of a big blob was decoded and written.
    PartArrived(PartArrived),
    /// Makes an older deploy's root active again.
    Rollback(RollbackHead),
    /// Lifts the hold that a rollback put on the site.
    Resume,
    /// Takes an alias away; the deploys that it named stay.
    Unalias {
        /// The alias.
        alias: AliasName,
    },
    /// Lists deploys, newest first.
    Deploys {
        /// Only those with smaller numbers.
        before: Option<u64>,
        /// At most so many.
        limit: u64,
    },
    /// Compares two deploys.
    Diff {
        /// The older side.
        from: u64,
        /// The newer side.
        to: u64,
    },
    /// Reads manifest nodes.
    Nodes {
        /// Which ones.
        ids: Vec<NodeId>,
    },
    /// Reads the log of what deploys changed.
    Events {
        /// The preview whose deploys these are; none: those that were active.
        alias: Option<AliasName>,
        /// Where from.
        read: Read,
    },
    /// Says what one deploy changed against another.
    Net {
        /// The one that is compared with.
        from: u64,
        /// The other.
        to: u64,
        /// Paths that are named at most.
        most: usize,
    },
    /// Names where a deploy's serving index lies.
    Locate {
        /// The deploy.
        deploy: Selector,
    },
    /// Names where the serving index of a root lies, whichever deploy it is of.
    Index {
        /// The root.
        root: Root,
    },
    /// Names pointers that have still to be delivered to readers, the newest first.
    Undelivered,
    /// Marks content that a reader found lost, so that the next publish sends it again.
    Lost(Loss),
    /// Notes that a pointer was delivered; names the others as [`Command::Undelivered`] does.
    Delivered {
        /// The alias whose pointer it is, if it is not the active deploy's.
        alias: Option<AliasName>,
        /// What [`Pointer::order`] says of it.
        order: u64,
    },
}

impl Command {
    /// Whether the command makes a space that is not there yet.
    pub const fn creates(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// What it is called in a journal.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Publish(_) => "publish",
            Self::PackArrived { .. } => "pack",
            Self::PartArrived(_) => "part",
            Self::Rollback(_) => "rollback",
            Self::Resume => "resume",
            Self::Unalias { .. } => "unalias",
            Self::Deploys { .. } => "deploys",
            Self::Diff { .. } => "diff",
            Self::Nodes { .. } => "nodes",
            Self::Events { .. } => "events",
            Self::Net { .. } => "net",
            Self::Locate { .. } => "locate",
            Self::Index { .. } => "index",
            Self::Lost(_) => "lost",
            Self::Undelivered => "undelivered",
            Self::Delivered { .. } => "delivered",
        }
    }

    /// Whether the command may leave something in the outbox.
    pub const fn may_announce(&self) -> bool {
        match self {
            Self::Publish(_) | Self::Rollback(_) | Self::Unalias { .. } => true,
            Self::Open { .. }
            | Self::PackArrived { .. }
            | Self::PartArrived(_)
            | Self::Resume
            | Self::Deploys { .. }
            | Self::Diff { .. }
            | Self::Nodes { .. }
            | Self::Events { .. }
            | Self::Net { .. }
            | Self::Locate { .. }
            | Self::Index { .. }
            | Self::Lost(_)
            | Self::Undelivered
            | Self::Delivered { .. } => false,
        }
    }

    /// The alias whose deploy the command may exchange; none: the active one.
    pub const fn alias(&self) -> Option<&AliasName> {
        match self {
            Self::Publish(publish) => publish.alias.as_ref(),
            Self::Unalias { alias } => Some(alias),
            Self::Open { .. }
            | Self::PackArrived { .. }
            | Self::PartArrived(_)
            | Self::Rollback(_)
            | Self::Resume
            | Self::Deploys { .. }
            | Self::Diff { .. }
            | Self::Nodes { .. }
            | Self::Events { .. }
            | Self::Net { .. }
            | Self::Locate { .. }
            | Self::Index { .. }
            | Self::Lost(_)
            | Self::Undelivered
            | Self::Delivered { .. } => None,
        }
    }
}

/// See [`Command::Publish`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publish {
    /// The preview that it is published for, if it shall not become active.
    pub alias: Option<AliasName>,
    /// The root to be published.
    pub root: Root,
    /// The root that a patch starts from.
    pub base: Option<Root>,
    /// What the client told of the manifest.
    pub offer: Offer,
    /// A pack that came along, verified, not yet written.
    pub pack: Option<SmallPack>,
    /// Packs that arrived, whose blobs a patch counts.
    pub packs: Vec<PackId>,
    /// Commit on these terms.
    pub commit: Option<CommitTerms>,
    /// Keep nothing.
    pub dry: bool,
    /// How long content waits for its commit.
    pub lease: Duration,
    /// Files that the platform can commit at once.
    pub files_max: u64,
    /// The object that a commit writes its serving index into.
    pub index: ObjectId,
}

/// What a client told of its manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Offer {
    /// Nothing but the root.
    Root,
    /// A patch against the base.
    Patch(#[serde(with = "crate::base64")] Bytes),
    /// The ids of all its nodes, a node before its children.
    Outline(Vec<NodeId>),
    /// Nodes.
    Nodes(#[serde(with = "crate::base64::list")] Vec<Bytes>),
}

/// A verified pack of a small publish, laid out for rest but not written yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SmallPack {
    /// The object, as a pack of its own would lie.
    #[serde(with = "crate::base64")]
    pub object: Bytes,
    /// Its table of contents, encoded.
    #[serde(with = "crate::base64")]
    pub toc: Bytes,
}

/// See [`Command::PartArrived`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartArrived {
    /// The blob that the part is claimed to belong to.
    pub blob: BlobId,
    /// Bytes of the whole blob, as claimed.
    pub size: u64,
    /// Which part this is.
    pub number: u64,
    /// The BLAKE3 chaining value of its bytes at their place.
    pub chaining_value: [u8; 32],
    /// Where its bytes lie.
    pub location: Location,
}

/// Stored content that two reads found damaged or absent. An error or a timeout is no loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loss {
    /// The content.
    pub lost: Lost,
    /// The object that was read.
    pub object: ObjectId,
    /// Whether the object does not exist or ends too early; otherwise it has other bytes.
    pub is_absent: bool,
}

/// The content that a [`Loss`] concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lost {
    /// A blob, or a part of one.
    Blob {
        /// The blob.
        blob: BlobId,
        /// Where the serving index says that it lies.
        at: Location,
    },
    /// A node of the serving index.
    Node {
        /// The manifest node.
        node: NodeId,
        /// Where its twin should be.
        at: Extent,
    },
}

/// What a space answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// The space's internal id.
    Space(SpaceId),
    /// To a publish.
    Publish(Box<BeginReply>),
    /// To an arrival: which object counts. If it is another, the caller's own may go.
    Kept(ObjectId),
    /// To a mark: the space has it.
    Noted,
    /// To a rollback: the new deploy.
    Deploy(Box<DeployView>),
    /// The history.
    Deploys {
        /// The number of the active deploy; 0 if there is none yet.
        active: u64,
        /// The deploy that each alias names.
        aliases: BTreeMap<AliasName, u64>,
        /// The hold on the active deploy, if one is in force.
        hold: Option<HoldView>,
        /// Newest first.
        deploys: Vec<DeployView>,
    },
    /// To the lifting of a hold: the deploy that was held, if one was.
    Resumed(Option<u64>),
    /// To the removal of an alias: the deploy that it named, if there was such an alias.
    Unaliased(Option<u64>),
    /// A difference.
    Diff(Box<DiffReply>),
    /// Nodes: the first of those that were asked for, as many as fit.
    Nodes(#[serde(with = "crate::base64::list")] Vec<Bytes>),
    /// Where a deploy's serving index lies.
    Pointer(Box<Pointer>),
    /// Where the serving index of a root lies.
    Index {
        /// The space's internal id.
        space: SpaceId,
        /// The extent of the root's twin.
        index: Extent,
    },
    /// The pointers that readers do not see yet.
    Due(Outbox),
    /// A page of the log of what deploys changed.
    Events {
        /// The page.
        page: Box<Page>,
        /// Whether the deploy that is there now lets visitors read lists of paths.
        is_open: bool,
    },
    /// What one deploy changed against another.
    Net(Box<Message>),
}

/// A pointer to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The alias whose pointer it is, if it is not the active deploy's.
    pub alias: Option<AliasName>,
    /// The pointer.
    pub pointer: Pointer,
}

/// The pointers of a space that are not written yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// Pointers to write, each independent of the others.
    pub due: Vec<Due>,
    /// Why the pointers of other channels cannot be made. They stay in the outbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<Problem>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Codec;
    use crate::wire::DeployMeta;

    /// Whatever crosses arrives as it left.
    fn crosses<T: std::fmt::Debug + Serialize + for<'de> Deserialize<'de>>(value: &T) {
        let text = serde_json::to_string(value).unwrap();
        let arrived: T = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{arrived:?}"), format!("{value:?}"), "{text}");
    }

    fn publish(offer: Offer, pack: Option<SmallPack>) -> Command {
        Command::Publish(Box::new(Publish {
            alias: AliasName::parse("next").ok(),
            root: NodeId::of(b"new"),
            base: Some(NodeId::of(b"old")),
            offer,
            pack,
            packs: vec![PackId::of(b"pack")],
            commit: Some(CommitTerms {
                expect: Some(3),
                replace: crate::wire::Replace::Named,
                key: "a \"key\"".into(),
                order: crate::wire::Order::from_parts("github:1:x", 7),
                max_delete: Some(crate::wire::MaxDelete::Percent(3)),
                meta: DeployMeta::default(),
            }),
            dry: false,
            lease: Duration::from_hours(1),
            files_max: 7,
            index: ObjectId::from_bytes([9; 16]),
        }))
    }

    fn extent() -> Extent {
        Extent {
            object: ObjectId::from_bytes([1; 16]),
            offset: 1 << 40,
            len: 5,
        }
    }

    #[test]
    fn every_command_crosses() {
        let bytes = Bytes::from_static(b"\0\xffbytes");
        let pack = SmallPack {
            object: bytes.clone(),
            toc: Bytes::new(),
        };
        let arrived = PartArrived {
            blob: BlobId::of(b"blob"),
            size: 1 << 33,
            number: 2,
            chaining_value: [200; 32],
            location: Location {
                extent: extent(),
                codec: Codec::Zstd,
            },
        };
        let fresh = SpaceId::from_bytes([7; 16]);
        let rollback = r#"{"v":1,"space":"docs","to":4,"key":"k"}"#;
        for command in [
            Command::Open { fresh },
            publish(Offer::Root, Some(pack)),
            publish(Offer::Patch(bytes.clone()), None),
            publish(
                Offer::Outline(vec![NodeId::of(b"a"), NodeId::of(b"b")]),
                None,
            ),
            publish(Offer::Nodes(vec![bytes.clone(), Bytes::new()]), None),
            Command::PackArrived {
                pack: PackId::of(b"pack"),
                object: extent().object,
                toc: bytes,
            },
            Command::PartArrived(arrived),
            Command::Rollback(serde_json::from_str(rollback).unwrap()),
            Command::Resume,
            Command::Unalias {
                alias: AliasName::parse("next").unwrap(),
            },
            Command::Deploys {
                before: None,
                limit: 50,
            },
            Command::Diff { from: 1, to: 2 },
            Command::Nodes {
                ids: vec![NodeId::of(b"a")],
            },
            Command::Events {
                alias: None,
                read: Read {
                    from: crate::stream::From::At(crate::stream::Offset::at(3)),
                },
            },
            Command::Net {
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
            Command::Undelivered,
            Command::Delivered {
                alias: AliasName::parse("next").ok(),
                order: 9,
            },
        ] {
            crosses(&command);
        }
    }

    #[test]
    fn every_reply_crosses() {
        let space = SpaceId::from_bytes([7; 16]);
        let deploy = r#"{"number":2,"root":"ROOT","parent":1,"kind":"publish","at":5,"files":1,
            "bytes":1,"new_bytes":0,"order":{"kind":"run","value":3},
            "summary":{"added":1,"modified":0,"removed":0,"unchanged":0}}"#;
        let root = NodeId::of(b"root");
        let deploy: DeployView =
            serde_json::from_str(&deploy.replace("ROOT", &root.to_hex())).unwrap();
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
            events: true,
            gone: false,
        };
        for reply in [
            Reply::Space(space),
            Reply::Publish(serde_json::from_str(published).unwrap()),
            Reply::Kept(extent().object),
            Reply::Deploy(Box::new(deploy.clone())),
            Reply::Deploys {
                active: 2,
                aliases: [(AliasName::parse("next").unwrap(), 1)].into(),
                hold: Some(HoldView {
                    deploy: 2,
                    at: crate::time::Timestamp::from_millis(5),
                }),
                deploys: vec![deploy],
            },
            Reply::Diff(serde_json::from_str(diff).unwrap()),
            Reply::Pointer(Box::new(pointer.clone())),
            Reply::Unaliased(Some(4)),
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
                blocked: vec![Problem::new(crate::code::Code::MissingObjects, "x")],
            }),
        ] {
            crosses(&reply);
        }
    }
}
