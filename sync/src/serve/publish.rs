//! Publish API: maps requests to commands, and replies to responses.

use bytes::Bytes;
use http::{Request, Response};
use pmx_core::backend::ObjectKey;
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::codec::{Decoder, Level};
use pmx_core::encode::write_bytes;
use pmx_core::id::{BlobId, NodeId, PackId};
use pmx_core::limits::DNS_LABEL_BYTES_MAX;
use pmx_core::location::{Extent, Location};
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::answer::{json, octets};
use super::backend::{Backend, Spaces};
use super::body::Body;
use super::nonce::Nonce;
use super::publish_request::{PublishContent, check_version, head, offer, packs};
use super::route::{Query, Route};
use super::server::Server;
use crate::limits::{BLOB_BYTES_MAX, DEPLOYS_PAGE_MAX, NODES_ASKED_MAX};
use crate::pack::part::Arrived;
use crate::pack::{part, wire};
use crate::space::{ArrivedPart, Command, Publish, Reply, SmallPack};
use crate::wire::{
    BeginHead, BeginReply, DeploysReply, Envelope, EnvelopeError, Ranges, ResumeHead, ResumeReply,
    RollbackHead, RollbackReply, SectionKind, State, UnaliasReply,
};

/// Deploys that a history shows if no number is asked for.
const DEPLOYS_SHOWN: u64 = 50;

impl<B: Backend> Server<B> {
    /// Answers a request to the API that is allowed already.
    pub(super) async fn api(
        &self,
        route: Route,
        request: Request<Bytes>,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let query = Query::of(request.uri())?;
        let space = || query.required("space", SpaceName::parse);
        match route {
            Route::Health => json(&serde_json::json!({
                "ok": true, "name": "pmx", "version": env!("CARGO_PKG_VERSION")
            })),
            Route::Home => Ok(self.home()),
            Route::Begin => json(&self.begin(request.body(), now, nonce).await?),
            Route::Commit => json(&self.commit(request.body(), now, nonce).await?),
            Route::Rollback => {
                let head: RollbackHead = head(request.body())?;
                check_version(head.v)?;
                self.rollback(head, now).await
            }
            Route::Resume => {
                let head: ResumeHead = head(request.body())?;
                check_version(head.v)?;
                self.resume(&head.space, now).await
            }
            Route::Pack(id) => {
                self.pack(id, &space()?, request.into_body(), now, nonce)
                    .await
            }
            Route::Part(blob, number) => {
                let size = query.required_number("size")?;
                let part = PartSent { blob, size, number };
                self.part(part, &space()?, request.into_body(), now, nonce)
                    .await
            }
            Route::Alias(alias) => self.unalias(&space()?, alias, now).await,
            Route::Deploys => {
                let limit = query
                    .number("limit")?
                    .unwrap_or(DEPLOYS_SHOWN)
                    .min(DEPLOYS_PAGE_MAX);
                let command = Command::Deploys {
                    before: query.number("before")?,
                    limit,
                };
                self.deploys(&space()?, command, now).await
            }
            Route::Deploy(number) => self.deploy(&space()?, number, now).await,
            Route::Diff(sides) => {
                let (from, to) = match sides {
                    Some(sides) => sides,
                    None => (query.required_number("from")?, query.required_number("to")?),
                };
                self.diff(&space()?, Command::Diff { from, to }, now).await
            }
            Route::Nodes => {
                let ids = query.required("ids", node_ids)?;
                self.nodes(&space()?, ids, now).await
            }
        }
    }

    async fn deploy(
        &self,
        space: &SpaceName,
        number: u64,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let command = Command::Deploys {
            before: Some(number.saturating_add(1)),
            limit: 1,
        };
        match self.call(space, command, now).await? {
            Reply::Deploys { deploys, .. } => match deploys.first() {
                Some(deploy) if deploy.number == number => json(deploy),
                Some(_) | None => {
                    let detail = format!("there is no deploy {number}");
                    Err(Problem::new(Code::DeployUnknown, detail))
                }
            },
            other => Err(unexpected(&other)),
        }
    }

    async fn diff(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self.call(space, command, now).await? {
            Reply::Diff(diff) => json(&diff),
            other => Err(unexpected(&other)),
        }
    }

    /// Answers with nodes, each behind its length, in the order of the request.
    async fn nodes(
        &self,
        space: &SpaceName,
        ids: Vec<NodeId>,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self.call(space, Command::Nodes { ids }, now).await? {
            Reply::Nodes(nodes) => {
                let mut section = Vec::new();
                for node in &nodes {
                    write_bytes(&mut section, node);
                }
                Ok(octets(section))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        self.backend().spaces().call(space, command, now).await
    }

    fn envelope(&self, body: &Bytes) -> Result<Envelope, EnvelopeError> {
        let max = self.section_raw_bytes_max();
        self.codecs()
            .decode(|decoder| Envelope::decode(body, max, decoder))
    }

    async fn begin(
        &self,
        body: &Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<BeginReply, Problem> {
        let envelope = self.envelope(body)?;
        let head: BeginHead = head(&envelope.head)?;
        check_version(head.v)?;
        let offer = offer(&envelope)?;
        let pack = envelope.section(SectionKind::Pack);
        let pack = match pack {
            Some(pack) => Some(self.small_pack(pack.clone(), &head.space, now).await?),
            None => None,
        };
        let content = PublishContent {
            offer,
            pack,
            packs: packs(&envelope)?,
        };
        // What crosses to the space leaves this isolate's memory with its last owner.
        drop(envelope);
        self.publish(head, content, now, nonce).await
    }

    async fn commit(
        &self,
        body: &Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<BeginReply, Problem> {
        let envelope = self.envelope(body)?;
        let head: BeginHead = head(&envelope.head)?;
        check_version(head.v)?;
        if head.commit.is_none() || head.dry {
            let detail = "a commit needs preconditions";
            return Err(Problem::new(Code::RequestMalformed, detail));
        }
        let reply = self
            .publish(head, PublishContent::nothing(), now, nonce)
            .await?;
        match reply.state {
            State::Current | State::Published => Ok(reply),
            State::Ready | State::Outline | State::Base | State::Nodes | State::Blobs => {
                let detail = match reply.blobs.len() {
                    0 => "manifest nodes of the root are missing".to_owned(),
                    blobs => format!("the blobs of {blobs} files are missing"),
                };
                Err(Problem::new(Code::MissingObjects, detail))
            }
        }
    }

    async fn publish(
        &self,
        head: BeginHead,
        content: PublishContent,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<BeginReply, Problem> {
        let BeginHead {
            space,
            alias,
            root,
            base,
            dry,
            commit,
            ..
        } = head;
        let channel = Channel {
            space: space.clone(),
            alias: alias.clone(),
        };
        if !channel.is_addressable() {
            let detail =
                format!("{channel} is no label of a host: {DNS_LABEL_BYTES_MAX} bytes fit");
            return Err(Problem::new(Code::NameInvalid, detail));
        }
        if !dry {
            self.space_id(&space, now, nonce).await?;
        }
        let index = nonce.object();
        let PublishContent { offer, pack, packs } = content;
        let publish = Publish {
            alias,
            root,
            base,
            offer,
            pack,
            packs,
            commit,
            dry,
            lease: self.lease(),
            files_max: self.files_max(),
            index,
        };
        let reply = self
            .call(&space, Command::Publish(Box::new(publish)), now)
            .await;
        let mut reply = match reply {
            Ok(Reply::Publish(reply)) => *reply,
            Ok(other) => return Err(unexpected(&other)),
            Err(problem) if dry && problem.code == Code::NotFound => nothing_there(),
            Err(problem) if problem.code == Code::NotFound => return Err(self.gone(&space)),
            Err(problem) => return Err(problem),
        };
        if matches!(reply.state, State::Current | State::Published) {
            reply.url = Some(self.url_of(&channel));
        }
        if reply.state == State::Published {
            self.deliver_soon(&space, now).await;
        }
        Ok(reply)
    }

    /// Decodes a pack, behind what it refers to, and lays it out for rest.
    async fn small_pack(
        &self,
        pack: Bytes,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<SmallPack, Problem> {
        let prefix = match wire::reference_of(&pack)? {
            Some(reference) => Some(self.prefix(reference, space, now).await?),
            None => None,
        };
        let verified = self
            .codecs()
            .decode(|decoder| wire::verify_with_prefix(&pack, prefix.as_ref(), decoder))?;
        // Many uploads wait at once; each holds no more than it is going to write.
        drop((prefix, pack));
        let rest = self
            .codecs()
            .encode(|encoder| verified.rest(encoder, Level::REST));
        let mut toc = Vec::new();
        rest.toc.encode(&mut toc);
        Ok(SmallPack {
            object: rest.bytes.into(),
            toc: toc.into(),
        })
    }

    async fn pack(
        &self,
        id: PackId,
        space: &SpaceName,
        body: Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let actual = PackId::of(&body);
        if actual != id {
            let detail = format!("the pack sent as {id} hashes to {actual}");
            return Err(Problem::new(Code::HashMismatch, detail));
        }
        let pack = self.small_pack(body, space, now).await?;
        let arrived = |key: ObjectKey| Command::RecordPack {
            pack: id,
            space: key.space,
            object: key.object,
            files_max: self.files_max(),
            toc: pack.toc.clone(),
        };
        self.keep(pack.object, space, arrived, now, nonce).await
    }

    async fn part(
        &self,
        sent: PartSent,
        space: &SpaceName,
        body: Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let PartSent { blob, size, number } = sent;
        if size > BLOB_BYTES_MAX {
            let detail = format!("blob {blob} has {size} bytes; the limit is {BLOB_BYTES_MAX}");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        let place = part::Parts::of(size)?.part(number)?;
        let open = |decoder: &mut Decoder| part::open(&body, place, decoder);
        let arrived = self.codecs().decode(open)?;
        drop(body);
        let verified = match arrived {
            Arrived::Whole(verified) => verified,
            Arrived::Pending(draft) => self.apply_part_delta(draft, space, now).await?,
        };
        let chaining_value = *verified.chaining_value().as_bytes();
        let rest = self
            .codecs()
            .encode(|encoder| verified.rest(encoder, Level::REST));
        let (len, codec) = (rest.bytes.len() as u64, rest.codec);
        let arrived = |ObjectKey { space, object }: ObjectKey| {
            let offset = 0;
            let extent = Extent {
                object,
                offset,
                len,
            };
            Command::RecordPart(ArrivedPart {
                space,
                blob,
                size,
                number: number.into(),
                chaining_value,
                location: Location { extent, codec },
            })
        };
        self.keep(rest.bytes.into(), space, arrived, now, nonce)
            .await
    }

    async fn rollback(
        &self,
        head: RollbackHead,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let space = head.space.clone();
        match self.call(&space, Command::Rollback(head), now).await? {
            Reply::Deploy(deploy) => {
                self.deliver_soon(&space, now).await;
                json(&RollbackReply {
                    deploy: *deploy,
                    url: self.url_of(&space.into()),
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn resume(&self, space: &SpaceName, now: Timestamp) -> Result<Response<Body>, Problem> {
        match self.call(space, Command::Resume, now).await? {
            Reply::Resumed(deploy) => {
                let url = self.url_of(&space.clone().into());
                json(&ResumeReply { deploy, url })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn unalias(
        &self,
        space: &SpaceName,
        alias: AliasName,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self
            .call(space, Command::DeleteAlias { alias }, now)
            .await?
        {
            Reply::AliasDeleted(deploy) => {
                self.deliver_soon(space, now).await;
                json(&UnaliasReply { deploy })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn deploys(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self.call(space, command, now).await? {
            Reply::Deploys {
                active,
                aliases,
                hold,
                deploys,
            } => json(&DeploysReply {
                active,
                aliases,
                hold,
                deploys,
                url: self.url_of(&space.clone().into()),
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Delivers what the outbox holds now, if that works; otherwise the alarm will.
    async fn deliver_soon(&self, space: &SpaceName, now: Timestamp) {
        // The publish is done, whether the pointer is written now or by the retry alarm.
        let _later = self.deliver(space, now).await;
    }
}

/// The ids of nodes, between commas.
fn node_ids(text: &str) -> Result<Vec<NodeId>, Problem> {
    let ids: Result<Vec<_>, _> = text
        .split(',')
        .take(NODES_ASKED_MAX + 1)
        .map(NodeId::from_hex)
        .collect();
    let ids = ids.map_err(|error| Problem::new(Code::HashInvalid, error.to_string()))?;
    if ids.len() > NODES_ASKED_MAX {
        let detail = format!("a request asks for at most {NODES_ASKED_MAX} nodes");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok(ids)
}

struct PartSent {
    blob: BlobId,
    size: u64,
    number: u32,
}

/// What a dry begin learns of a space that is not there yet.
fn nothing_there() -> BeginReply {
    BeginReply {
        state: State::Outline,
        active: 0,
        root: None,
        nodes: Ranges::default(),
        blobs: Ranges::default(),
        parts: Vec::new(),
        packs: Vec::new(),
        prefix_max: None,
        summary: None,
        deploy: None,
        url: None,
    }
}

pub(super) fn unexpected(reply: &Reply) -> Problem {
    Problem::new(
        Code::Storage,
        format!("a space gave an answer to another question: {reply:?}"),
    )
}

impl From<EnvelopeError> for Problem {
    fn from(error: EnvelopeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<wire::PackError> for Problem {
    fn from(error: wire::PackError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
